/* Why: a pid comes again. What the first process of a number did must not be told of the second, nor the first's
 * descriptors be taken for the second's.
 *
 * clone3's set_tid (CAP_CHECKPOINT_RESTORE, clone(2)) makes the kernel give a number at once that would come by itself
 * after some thousand processes. The first closes 20 and ends; the second, of the same number, uses it and closes it
 * once, which is right; a third closes a number of its own twice. */
#include "target.h"
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static pid_t made(pid_t wanted)
{
    struct clone_args args = { .exit_signal = SIGCHLD };
    if (wanted != 0) {
        args.set_tid = (unsigned long)&wanted;
        args.set_tid_size = 1;
    }
    return (pid_t)syscall(SYS_clone3, &args, sizeof args);
}

static void ended(pid_t pid)
{
    int status;
    need(waitpid(pid, &status, 0), "waitpid");
    if (status != 0)
        exit(2);
}

int main(void)
{
    need(dup2(need(open("/dev/null", O_RDONLY), "open"), 20), "dup2");
    pid_t first = (pid_t)need(made(0), "clone3");
    if (first == 0)
        _exit(close(20) == 0 ? 0 : 1);
    ended(first);

    pid_t second = made(first);
    if (second == -1) {
        printf("skip a process cannot be given a number: %s\n", strerrorname_np(errno));
        return 77;
    }
    if (second == 0)
        _exit(fcntl(20, F_GETFD) == 0 && dup(20) >= 0 && close(20) == 0 ? 0 : 1);
    ended(second);

    printf("expect double-close fd=4\n");
    pid_t third = (pid_t)need(made(first), "clone3");
    if (third == 0) {
        int fd = (int)need(open("/dev/null", O_RDONLY), "open");
        _exit(fd == 4 && close(fd) == 0 && close(fd) == -1 ? 0 : 1);
    }
    ended(third);
    printf("the same number: %s\n", first == second && second == third ? "yes" : "no");
    return 0;
}
