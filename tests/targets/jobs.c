/* Why: job control from outside. Somebody stops, continues and ends a child; its parent must be told of each by wait and
 * by one SIGCHLD, at the time, and with the same words as without a tracer. It prints the two numbers first, for who is
 * to send the signals: each when the parent waits, because a wait may see a child continued before SIGCHLD is sent. */
#include "target.h"
#include <signal.h>
#include <sys/wait.h>

static volatile sig_atomic_t count, code;

static void told(int signal, siginfo_t *info, void *unused)
{
    (void)signal;
    (void)unused;
    count++;
    code = info->si_code;
}

int main(int argc, char **argv)
{
    int ends[2], status = 0;
    char byte;
    (void)argv;
    if (argc < 2)
        return 0;                                               /* the targets' own check runs it so */
    struct sigaction action = { .sa_sigaction = told, .sa_flags = SA_SIGINFO | SA_RESTART };
    sigaction(SIGCHLD, &action, NULL);
    need(pipe(ends), "pipe");
    pid_t child = need(fork(), "fork");
    if (child == 0) {
        close(ends[1]);
        _exit(read(ends[0], &byte, 1) == 0 ? 4 : 5);
    }
    printf("child %d of %d\n", child, getpid());
    do {
        need(waitpid(child, &status, WUNTRACED | WCONTINUED), "waitpid");
        printf("%s %d, SIGCHLD %d with code %d\n",
               WIFSTOPPED(status) ? "stopped" : WIFCONTINUED(status) ? "continued" : WIFEXITED(status) ? "exited" : "killed",
               WIFSTOPPED(status) ? WSTOPSIG(status) : WIFSIGNALED(status) ? WTERMSIG(status) : 0, count, code);
    } while (WIFSTOPPED(status) || WIFCONTINUED(status));
    return 0;
}
