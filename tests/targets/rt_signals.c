/* Why: real-time signals are numbered beyond what many libraries know, they queue, and they carry a value. All of them
 * must pass through a tracer: none lost, none twice, in order (lowest number first, then first in first out), each with
 * its value and its sender. */
#include "target.h"
#include <signal.h>

enum { SIGNALS = 6, EACH = 3 };

static volatile sig_atomic_t count;
static struct { int signal, value, queued, own; } seen[SIGNALS * EACH];

static void handler(int signal, siginfo_t *info, void *context)
{
    (void)context;
    if (count < SIGNALS * EACH) {
        seen[count].signal = signal - SIGRTMIN;
        seen[count].value = info->si_value.sival_int;
        seen[count].queued = info->si_code == SI_QUEUE;
        seen[count].own = info->si_pid == getpid();
        count++;
    }
}

int main(void)
{
    printf("expect silence\n");
    sigset_t all;
    sigfillset(&all);
    /* With everything blocked in the handler, deliveries do not nest, so their order is the kernel's. */
    struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO, .sa_mask = all };
    need(sigprocmask(SIG_BLOCK, &all, NULL), "sigprocmask");
    for (int s = SIGNALS - 1; s >= 0; s--) {
        need(sigaction(SIGRTMIN + s, &action, NULL), "sigaction");
        for (int i = 0; i < EACH; i++)
            need(sigqueue(getpid(), SIGRTMIN + s, (union sigval){ .sival_int = 100 * s + i }), "sigqueue");
    }
    need(sigprocmask(SIG_UNBLOCK, &all, NULL), "sigprocmask");
    for (int i = 0; i < count; i++)
        printf("SIGRTMIN+%d value %d queued %d own %d\n", seen[i].signal, seen[i].value, seen[i].queued, seen[i].own);
    printf("received %d of %d\n", (int)count, SIGNALS * EACH);
    return count == SIGNALS * EACH ? 0 : 1;
}
