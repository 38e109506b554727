/* Why: when one thread executes a program, the others are killed wherever they are: before a call, after it, or at a stop
 * that their tracer has not looked at. What they had done to the table by then is there in the new program, and only there.
 *
 * Threads fill, empty and replace numbers as fast as they can while the last of them executes this program again, ROUNDS
 * times. Each round ends by close_range, so that the next has room. */
#include "target.h"
#include <pthread.h>
#include <stdatomic.h>

enum { ROUNDS = 25, BUSY = 3, CALLS = 40 };

static char *name;
static char next[16];
static _Atomic int at_work;

static void *busy(void *first)
{
    int base = 20 + 10 * (int)(long)first;
    atomic_fetch_add(&at_work, 1);
    for (unsigned i = 0;; i++) {
        int pair[2];
        switch (i % 4) {
        case 0: if (pipe(pair) == 0 && i % 3 == 0) close(pair[0]); break;
        case 1: dup2(1, base + i % 10); break;
        case 2: close(base + (i + 5) % 10); break;
        default: close(4 + i % 16); break;
        }
    }
    return first;
}

static void *execs(void *unused)
{
    while (atomic_load(&at_work) < BUSY)
        sched_yield();
    for (int i = 0; i < CALLS; i++)
        close(dup(0));
    execl("/proc/self/exe", name, next, (char *)NULL);
    _exit(127);
    return unused;
}

int main(int argc, char **argv)
{
    int round = argc > 1 ? atoi(argv[1]) : 0;
    if (round >= ROUNDS) {
        printf("executed %d times\n", round);
        return 0;
    }
    need(syscall(436, 3, ~0U, 0), "close_range");
    name = argv[0];
    snprintf(next, sizeof next, "%d", round + 1);
    pthread_t thread;
    for (long i = 0; i < BUSY; i++)
        if (pthread_create(&thread, NULL, busy, (void *)i) != 0)
            return 2;
    if (pthread_create(&thread, NULL, execs, NULL) != 0)
        return 2;
    for (;;)
        pause();
}
