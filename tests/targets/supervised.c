/* Why: a filter of the target's own may ask a supervisor about a call before a tracer hears of it. The supervisor lets the
 * call go on, answers for it with a descriptor of its own, says that it was done when nothing was, or refuses it. What
 * becomes of the numbers must be known all the same, and mistakes be told, also of a child, which inherits the filter.
 * With an argument the filter is every thread's (SECCOMP_FILTER_FLAG_TSYNC), and another thread makes the calls. */
#include "target.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { LENT = 90, KEPT, REFUSED };

static int listener, kept, refused, source;
static sem_t installed, begin;

static int filter(unsigned flags)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_dup, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_close, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { .len = 5, .filter = code };
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags | SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
}

/* It makes no call itself that the filter asks about. */
static void *supervise(void *unused)
{
    sem_wait(&installed);
    for (;;) {
        struct seccomp_notif asked = { 0 };
        struct seccomp_notif_resp answer = { 0 };
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &asked) == -1)
            continue;
        answer.id = asked.id;
        int fd = (int)asked.data.args[0];
        if (asked.data.nr == SYS_dup && fd == LENT) {
            struct seccomp_notif_addfd add = { .id = asked.id, .srcfd = source, .newfd_flags = O_CLOEXEC,
                                               .flags = SECCOMP_ADDFD_FLAG_SEND };
            need(ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &add), "SECCOMP_IOCTL_NOTIF_ADDFD");
            continue;
        }
        if (asked.data.nr == SYS_close && fd == refused)
            answer.error = -EPERM;
        else if (asked.data.nr != SYS_close || fd != kept)
            answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
        need(ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer), "SECCOMP_IOCTL_NOTIF_SEND");
    }
    return unused;
}

static void calls(const char *who)
{
    int fd = need(open("/dev/zero", O_RDONLY), "open");
    said(dup(fd), "%s: dup", who);
    said(close(fd), "%s: close", who);
    said(close(fd), "%s: close again", who);
    /* Nobody has this number open: what is made is a copy of the supervisor's. */
    said(dup(LENT), "%s: dup of what is lent", who);
    said(fcntl(kept, F_GETFD), "%s: kept", who);
    said(close(kept), "%s: close of what is kept", who);
    said(fcntl(kept, F_GETFD), "%s: kept", who);
    said(close(refused), "%s: close that is refused", who);
    said(fcntl(refused, F_GETFD), "%s: refused", who);
}

static void *thread(void *unused)
{
    sem_wait(&begin);
    calls("thread");
    return unused;
}

int main(int argc, char **argv)
{
    (void)argv;
    pthread_t supervisor, other;
    int status;
    source = need(open("/dev/null", O_WRONLY), "open");
    kept = need(dup2(source, KEPT), "dup2");
    refused = need(dup2(source, REFUSED), "dup2");
    sem_init(&installed, 0, 0);
    sem_init(&begin, 0, 0);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1 || pthread_create(&supervisor, NULL, supervise, NULL) != 0 ||
        (argc > 1 && pthread_create(&other, NULL, thread, NULL) != 0)) {
        printf("skip no filters or no threads here\n");
        return 77;
    }
    listener = filter(argc > 1 ? SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH : 0);
    if (listener == -1) {
        printf("skip no supervisors here: %s\n", strerrorname_np(errno));
        return 77;
    }
    sem_post(&installed);
    if (argc > 1) {
        sem_post(&begin);
        pthread_join(other, NULL);
    } else {
        calls("parent");
    }
    pid_t child = need(fork(), "fork");
    if (child == 0) {
        calls("child");
        fflush(stdout);
        _exit(3);
    }
    need(waitpid(child, &status, 0), "waitpid");
    printf("the child exited %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    fflush(stdout);
    _exit(0);
}
