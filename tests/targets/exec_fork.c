/* Why: a thread that is in fork when another thread executes a program is killed before it can announce its child to who
 * traces it. The child is there all the same, and must go on.
 *
 * The first thread forks as fast as it can while another executes this program again, ROUNDS times; each round waits for all
 * children of the one before. */
#include "target.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/wait.h>

enum { ROUNDS = 25, FORKS = 4 };

static char *name;
static char next[16];
static _Atomic int forks;

static void *execs(void *unused)
{
    while (atomic_load(&forks) < FORKS)
        sched_yield();
    execl("/proc/self/exe", name, next, (char *)NULL);
    _exit(127);
    return unused;
}

int main(int argc, char **argv)
{
    int round = argc > 1 ? atoi(argv[1]) : 0;
    while (waitpid(-1, NULL, 0) > 0)
        continue;
    if (round >= ROUNDS) {
        printf("executed %d times, and no child is left\n", round);
        return 0;
    }
    name = argv[0];
    snprintf(next, sizeof next, "%d", round + 1);
    pthread_t thread;
    if (pthread_create(&thread, NULL, execs, NULL) != 0)
        return 2;
    for (;;) {
        if (fork() == 0)
            _exit(0);
        atomic_fetch_add(&forks, 1);
    }
}
