/* Why: a program may have seccomp filters of its own, of every kind, beside that of a tracer. What each of them does to a
 * call must be the same as without a tracer: an errno, a signal, an end, a supervisor's answer, and ENOSYS where the
 * filter asks for a tracer and the program has none. */
#include "target.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static int filter(int call, unsigned action, unsigned flags)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, action),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { .len = 4, .filter = code };
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

static void trapped(int signal, siginfo_t *info, void *unused)
{
    char text[64];
    (void)unused;
    int n = snprintf(text, sizeof text, "signal %d, call %d, data %d\n", signal, info->si_syscall, info->si_errno);
    need(write(1, text, n), "write");
}

/* The calls: one that a tracer of descriptors looks at when it is entered, one when it is over, and one never. */
static void calls(const char *how)
{
    int fd = need(open("/dev/null", O_RDONLY | O_CLOEXEC), "open");
    printf("%s\n", how);
    said(dup(fd), "dup");
    said(close(fd), "close");
    said(fcntl(fd, F_GETFD), "fcntl");
    said(getppid() > 0 ? 0 : syscall(SYS_getppid), "getppid");
}

static void in_child(const char *how, unsigned action)
{
    static const int denied[] = { SYS_dup, SYS_close, SYS_getppid };
    for (size_t i = 0; i < sizeof denied / sizeof *denied; i++) {
        int status;
        pid_t child = need(fork(), "fork");
        if (child == 0) {
            struct rlimit none = { 0, 0 };
            setrlimit(RLIMIT_CORE, &none);
            if ((action & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_TRAP) {
                struct sigaction catch = { .sa_sigaction = trapped, .sa_flags = SA_SIGINFO };
                sigaction(SIGSYS, &catch, NULL);
            }
            need(filter(denied[i], action, 0), "seccomp");
            calls(how);
            _exit(0);
        }
        need(waitpid(child, &status, 0), "waitpid");
        printf("%s of call %d: status %d signal %d\n", how, denied[i], WIFEXITED(status) ? WEXITSTATUS(status) : -1,
               WIFSIGNALED(status) ? WTERMSIG(status) : 0);
    }
}

static void supervised(void)
{
    int listener = filter(SYS_getppid, SECCOMP_RET_USER_NOTIF, SECCOMP_FILTER_FLAG_NEW_LISTENER), status;
    if (listener == -1) {
        printf("no supervisor: %s\n", strerrorname_np(errno));
        return;
    }
    pid_t child = need(fork(), "fork");
    if (child == 0) {
        printf("the supervisor says %ld\n", syscall(SYS_getppid));
        _exit(0);
    }
    struct seccomp_notif asked = { 0 };
    struct seccomp_notif_resp answer = { 0 };
    need(ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &asked), "SECCOMP_IOCTL_NOTIF_RECV");
    answer.id = asked.id;
    answer.val = 4711;
    need(ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer), "SECCOMP_IOCTL_NOTIF_SEND");
    need(waitpid(child, &status, 0), "waitpid");
    close(listener);
}

int main(void)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1 || filter(SYS_getpgrp, SECCOMP_RET_ALLOW, 0) == -1) {
        printf("skip no seccomp filters here\n");
        return 77;
    }
    in_child("errno", SECCOMP_RET_ERRNO | EXDEV);
    in_child("trap", SECCOMP_RET_TRAP | 5);
    in_child("log", SECCOMP_RET_LOG);
    in_child("trace", SECCOMP_RET_TRACE | 7);
    in_child("trace without data", SECCOMP_RET_TRACE);
    in_child("kill", SECCOMP_RET_KILL_PROCESS);
    in_child("kill thread", SECCOMP_RET_KILL_THREAD);
    supervised();
    return 0;
}
