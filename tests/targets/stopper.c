/* Why: a stop by a signal is job control's, and stays so under a tracer: the parent must see its child stopped by that
 * signal, the child must stay stopped until SIGCONT, and then go on. A tracer that resumes at a group-stop breaks
 * Ctrl-Z. The child leads a group of its own, because in an orphaned group the kernel ignores SIGTSTP; and it waits for
 * a word after each stop, because the next stop would take back the news that it was continued. */
#include "target.h"
#include <signal.h>
#include <sys/wait.h>

static void wait_and_say(pid_t child)
{
    int status;
    need(waitpid(child, &status, WUNTRACED | WCONTINUED), "waitpid");
    if (WIFSTOPPED(status))
        printf("child stopped by SIG%s\n", sigabbrev_np(WSTOPSIG(status)));
    else if (WIFCONTINUED(status))
        printf("child continued\n");
    else if (WIFEXITED(status))
        printf("child exited %d\n", WEXITSTATUS(status));
    else
        printf("child killed by SIG%s\n", sigabbrev_np(WTERMSIG(status)));
}

int main(void)
{
    static const int stops[] = { SIGSTOP, SIGTSTP };
    printf("expect silence\n");
    int words[2];
    char word = '.';
    need(pipe2(words, O_CLOEXEC), "pipe2");
    pid_t child = need(fork(), "fork");
    if (child == 0) {
        need(setpgid(0, 0), "setpgid");
        for (size_t i = 0; i < sizeof stops / sizeof *stops; i++) {
            raise(stops[i]);
            need(read(words[0], &word, 1), "read");
        }
        _exit(7);
    }
    for (size_t i = 0; i < sizeof stops / sizeof *stops; i++) {
        wait_and_say(child);
        need(kill(child, SIGCONT), "kill");
        wait_and_say(child);
        need(write(words[1], &word, 1), "write");
    }
    wait_and_say(child);
    return 0;
}
