/* Why: nobody waits for ever. Threads that open and close without end: when each of them has had some turns, none may
 * have had very many. `fair wait` says "ready" and waits for a line before it begins. */
#include "target.h"
#include <pthread.h>
#include <stdatomic.h>

enum { THREADS = 24, OWN = 50, UNFAIR = 30 };
static atomic_long rounds[THREADS];
static atomic_int over;

static void *endless(void *arg)
{
    atomic_long *mine = arg;
    while (!atomic_load(&over)) {
        need(close(need(open("/dev/null", O_RDONLY | O_CLOEXEC), "open")), "close");
        /* Whoever has had far more than its share is at rest: without a tracer the scheduler decides. */
        if (atomic_fetch_add(mine, 1) > OWN * UNFAIR)
            usleep(1000);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[THREADS];
    long least, most;
    printf("expect silence\n");
    if (argc > 1 && strcmp(argv[1], "wait") == 0) {
        puts("ready");
        fflush(stdout);
        getchar();
    }
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, endless, &rounds[i]) != 0)
            return 2;
    /* All are there: from now on it counts. */
    for (int i = 0; i < THREADS; i++)
        while (atomic_load(&rounds[i]) == 0)
            usleep(1000);
    for (int i = 0; i < THREADS; i++)
        atomic_store(&rounds[i], 0);
    do {
        usleep(1000);
        least = most = atomic_load(&rounds[0]);
        for (int i = 1; i < THREADS; i++) {
            long n = atomic_load(&rounds[i]);
            least = n < least ? n : least;
            most = n > most ? n : most;
        }
    } while (least < OWN && most < OWN * UNFAIR);
    atomic_store(&over, 1);
    for (int i = 0; i < THREADS; i++)
        if (pthread_join(threads[i], NULL) != 0)
            return 2;
    /* Alone the scheduler decides, so it is no part of what must be the same. */
    fprintf(stderr, "from %ld to %ld turns\n", least, most);
    return 0;
}
