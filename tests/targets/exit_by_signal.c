/* exit_by_signal SIG: dies of signal number SIG.
 * Why: death by signal must be passed on as such, not as an exit status. */
#include "target.h"
#include <signal.h>
#include <sys/resource.h>

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: exit_by_signal SIG\n");
        return 2;
    }
    int number = atoi(argv[1]);
    struct rlimit no_core = { 0, 0 };
    need(setrlimit(RLIMIT_CORE, &no_core), "setrlimit");
    sigset_t all;
    sigfillset(&all);
    need(sigprocmask(SIG_UNBLOCK, &all, NULL), "sigprocmask");
    if (number != SIGKILL && number != SIGSTOP)
        need(signal(number, SIG_DFL) == SIG_ERR ? -1 : 0, "signal");
    printf("expect silence\n");
    printf("dying of signal %d\n", number);
    raise(number);
    printf("still here\n");
    return 0;
}
