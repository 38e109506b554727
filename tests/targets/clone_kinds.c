/* Why: what a new task has of its parent's table is told by the flags of the call alone. Memory may be shared and the table not
 * (clone with CLONE_VM and without CLONE_FILES), the table and not the memory, and clone3 may make a pidfd besides. Each way a
 * number is closed twice by one of the two; and close_range may copy a table first and mark what it names. */
#include "target.h"
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static char stack[65536];
static int fd;

static void hit_nothing(int signal)
{
    (void)signal;
}

static int shares_memory(void *unused)
{
    (void)unused;
    int own = need(open("/dev/zero", O_RDONLY), "open");
    close(own);
    close(own);
    close(fd);                                                      /* the copy */
    return 0;
}

static pid_t clone3(unsigned long long flags, int *pidfd)
{
    struct clone_args args = { .flags = flags | CLONE_PIDFD, .pidfd = (unsigned long)pidfd, .exit_signal = SIGCHLD };
    fflush(stdout);
    return (pid_t)syscall(SYS_clone3, &args, sizeof args);
}

static int status_of(pid_t child)
{
    int status;
    need(waitpid(child, &status, 0), "waitpid");
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int main(int argc, char **argv)
{
    int pidfd = -1;
    if (argc > 1) {
        said(fcntl(atoi(argv[1]), F_GETFD), "fcntl after exec");
        return 0;
    }
    fd = need(open("/dev/null", O_RDONLY), "open");
    pid_t child = need(clone(shares_memory, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL), "clone");
    printf("with the memory: %d\n", status_of(child));
    said(fcntl(fd, F_GETFD), "fcntl");

    signal(SIGUSR1, hit_nothing);
    child = clone3(CLONE_CLEAR_SIGHAND, &pidfd);
    if (child == -1) {
        printf("skip clone3: %s\n", strerrorname_np(errno));
        return 77;
    }
    if (child == 0)
        raise(SIGUSR1);                                             /* no handler any more: it ends here */
    printf("without handlers: %d\n", status_of(child));
    said(fcntl(pidfd, F_GETFD), "fcntl of the pidfd");
    said(close(pidfd), "close of the pidfd");
    said(close(pidfd), "close of the pidfd");

    child = need(clone3(CLONE_FILES, &pidfd), "clone3");
    if (child == 0) {
        close(fd);
        _exit(4);
    }
    printf("with the table: %d\n", status_of(child));
    said(fcntl(fd, F_GETFD), "fcntl");
    said(close(fd), "close");
    said(close(pidfd), "close of the pidfd");

    int kept = need(open("/dev/null", O_RDONLY), "open");
    child = clone3(CLONE_FILES, &pidfd);
    if (child == 0) {
        char number[16];
        said(close_range(kept, ~0U, CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC), "close_range");
        said(fcntl(kept, F_GETFD), "fcntl in the copy");
        snprintf(number, sizeof number, "%d", kept);
        execl(argv[0], argv[0], number, NULL);
        _exit(127);
    }
    printf("with a copy: %d\n", status_of(child));
    said(fcntl(kept, F_GETFD), "fcntl");
    return 0;
}
