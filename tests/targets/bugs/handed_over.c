/* Why: the innocent that looks most like a foreign close. One thread opens, another closes what was handed to it, or dup2s
 * over it: the same numbers, over and over, and the worker opens and closes files of its own in between, by the same
 * statement.
 *
 *   (nothing)   every number has one owner
 *   stray       the first thread closes the last one once more: that close is the mistake, and not the worker's own */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

enum { ROUNDS = 5, LAST = 2 * ROUNDS };

static pthread_barrier_t barrier;
static int handed;

static void wait_for_the_other(void)
{
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
}

static void *worker(void *unused)
{
    /* Volatile, or the compiler makes several places of one. */
    for (volatile int i = 0; i < LAST; i++) {
        int job = -1;
        if (i % 2 == 1) {
            wait_for_the_other();
            job = handed;
        }
        int fd = job >= 0 ? job : open("/dev/zero", O_RDONLY | O_CLOEXEC);
        close(fd);
    }
    int own = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    close(own);
    wait_for_the_other();
    int new = open("/dev/full", O_WRONLY | O_CLOEXEC);
    dup2(new, handed);
    close(new);
    close(handed);
    own = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    close(own);
    wait_for_the_other();
    close(handed);
    return unused;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    pthread_barrier_init(&barrier, NULL, 2);
    pthread_create(&thread, NULL, worker, NULL);
    for (int i = 0; i < ROUNDS + 2; i++) {
        pthread_barrier_wait(&barrier);
        handed = open("/dev/null", O_RDONLY | O_CLOEXEC);
        pthread_barrier_wait(&barrier);
    }
    pthread_join(thread, NULL);
    if (argc > 1 && strcmp(argv[1], "stray") == 0)
        close(handed);
    return 0;
}
