/* threads T N: T threads of one process, each N times open, dup, close and close, in one table. */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { MOST = 256 };

static long rounds;

static void *work(void *failed)
{
    for (long i = 0; i < rounds; i++) {
        int fd = open("/dev/null", O_RDONLY);
        int copy = dup(fd);
        if (close(fd) != 0 || close(copy) != 0)
            *(int *)failed = 1;
    }
    return NULL;
}

int main(int argc, char **argv)
{
    int count = argc > 1 ? atoi(argv[1]) : 4;
    pthread_t threads[MOST];
    int failed[MOST] = { 0 }, result = 0;
    rounds = argc > 2 ? atol(argv[2]) : 3000;
    if (count < 1 || count > MOST) {
        fprintf(stderr, "threads: 1 to %d of them\n", MOST);
        return 2;
    }
    for (int i = 0; i < count; i++)
        if (pthread_create(&threads[i], NULL, work, &failed[i]) != 0)
            return 2;
    for (int i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
        result |= failed[i];
    }
    return result;
}
