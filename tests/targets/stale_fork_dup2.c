/* Why: the broken hand-off without any language above it: open, close, fork, dup2 of the dead number onto stdout in
 * the child, exec. The culprit is the close in the parent's function give_back, two processes and one fork away from
 * the call that fails. */
#include "target.h"
#include <sys/wait.h>

__attribute__((noinline)) static int take(void)
{
    return need(open("/dev/null", O_WRONLY | O_CLOEXEC), "open");
}

__attribute__((noinline)) static void give_back(int fd)
{
    said(close(fd), "close(%d)", fd);
}

int main(void)
{
    int fd = take();
    give_back(fd);
    printf("expect stale-fd-to-child fd=%d target=1 closed_in=give_back\n", fd);
    pid_t child = need(fork(), "fork");
    if (child == 0) {
        said(dup2(fd, 1), "dup2(%d, 1)", fd);
        execl("/bin/true", "true", (char *)NULL);
        _exit(127);
    }
    int status;
    need(waitpid(child, &status, 0), "waitpid");
    printf("child exited %d\n", WEXITSTATUS(status));
    return 0;
}
