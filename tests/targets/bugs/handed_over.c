/* Why: the innocent that looks most like a foreign close. One thread opens, another closes what was handed to it: the same
 * numbers, over and over, and the worker closes files of its own in between. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

static pthread_barrier_t barrier;
static int handed;

static void *worker(void *unused)
{
    for (int i = 0; i < 5; i++) {
        int own = open("/dev/zero", O_RDONLY | O_CLOEXEC);
        close(own);
        pthread_barrier_wait(&barrier);
        pthread_barrier_wait(&barrier);
        close(handed);
    }
    return unused;
}

int main(void)
{
    pthread_t thread;
    pthread_barrier_init(&barrier, NULL, 2);
    pthread_create(&thread, NULL, worker, NULL);
    for (int i = 0; i < 5; i++) {
        pthread_barrier_wait(&barrier);
        handed = open("/dev/null", O_RDONLY | O_CLOEXEC);
        pthread_barrier_wait(&barrier);
    }
    pthread_join(thread, NULL);
    return 0;
}
