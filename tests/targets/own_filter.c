/* Why: a program may have a seccomp filter of its own, beside that of a tracer. The first allows everything, the second
 * makes dup fail: a dup that did not happen gives nobody a number. */
#include "target.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static int install(struct sock_filter *filter, unsigned short length)
{
    struct sock_fprog program = { .len = length, .filter = filter };
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

int main(void)
{
    struct sock_filter allow[] = { BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW) };
    struct sock_filter no_dup[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_dup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1 || install(allow, 1) == -1) {
        printf("skip no seccomp filters here\n");
        return 77;
    }
    int fd = need(open("/dev/null", O_RDONLY | O_CLOEXEC), "open");
    said(dup(fd), "dup(%d)", fd);
    need(install(no_dup, 4), "seccomp");
    said(dup(fd), "dup(%d)", fd);
    said(close(fd), "close(%d)", fd);
    printf("expect double-close fd=%d\n", fd);
    said(close(fd), "close(%d)", fd);
    return 0;
}
