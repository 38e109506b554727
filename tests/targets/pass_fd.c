/* pass_fd [kept|closed|self|getfd|twice]: a descriptor of one object in two processes, by way of the kernel.
 *
 * Why: what comes over a socket or by pidfd_getfd is not new: it is the object that the sender has open, or had, and its
 * history belongs to the receiver's number. The parent makes a pipe and a file of its own and gives its child one of each;
 * with "closed" it closes its copies before the child receives them. The numbers are printed, and at the end the child
 * closes what it got. */
#include "target.h"
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { COUNT = 3 };

static void give(int out, const int *fds, int n)
{
    char byte = 'x';
    struct iovec data = { &byte, 1 };
    _Alignas(16) char control[CMSG_SPACE(COUNT * sizeof(int))] = { 0 };
    struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = control,
                              .msg_controllen = CMSG_SPACE(n * sizeof(int)) };
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(n * sizeof(int));
    memcpy(CMSG_DATA(head), fds, n * sizeof(int));
    need(sendmsg(out, &message, 0), "sendmsg");
}

static void take(int in, int *fds, int n)
{
    char byte;
    struct iovec data = { &byte, 1 };
    _Alignas(16) char control[CMSG_SPACE(COUNT * sizeof(int))];
    struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
    need(recvmsg(in, &message, 0), "recvmsg");
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    if (head == NULL || head->cmsg_len != CMSG_LEN(n * sizeof(int)))
        exit(2);
    memcpy(fds, CMSG_DATA(head), n * sizeof(int));
}

int main(int argc, char **argv)
{
    const char *how = argc > 1 ? argv[1] : "kept";
    int ends[2], go[2], p[2], fds[COUNT];
    need(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), "socketpair");
    need(pipe(go), "pipe");
    pid_t child = need(fork(), "fork");
    if (child == 0) {
        char byte;
        int got[COUNT] = { 0 };
        close(ends[0]);
        close(go[1]);
        need(read(go[0], &byte, 1), "read");
        if (strcmp(how, "getfd") == 0) {
            long parent = syscall(SYS_pidfd_open, getppid(), 0);
            int numbers[COUNT];
            need(read(go[0], numbers, sizeof numbers), "read");
            for (int i = 0; i < COUNT; i++) {
                got[i] = parent == -1 ? -1 : syscall(SYS_pidfd_getfd, parent, numbers[i], 0);
                if (got[i] == -1) {
                    printf("skip pidfd_getfd: %s\n", strerrorname_np(errno));
                    _exit(77);
                }
            }
        } else {
            take(ends[1], got, COUNT);
        }
        for (int i = 0; i < COUNT; i++)
            printf("child has %d\n", got[i]);
        printf("now close %d\n", got[0]);
        for (int i = 0; i < COUNT; i++)
            close(got[i]);
        _exit(0);
    }
    need(prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0) == -1 && errno != EINVAL ? -1 : 0, "PR_SET_PTRACER");
    close(ends[1]);
    need(pipe(p), "pipe");
    fds[0] = p[0];
    fds[1] = p[1];
    fds[2] = need(open("/dev/null", O_WRONLY), "open(/dev/null)");
    for (int i = 0; i < COUNT; i++)
        printf("parent has %d\n", fds[i]);
    if (strcmp(how, "getfd") != 0)
        give(ends[0], fds, COUNT);
    if (strcmp(how, "closed") == 0)
        for (int i = 0; i < COUNT; i++)
            close(fds[i]);
    need(write(go[1], "x", 1), "write");
    if (strcmp(how, "getfd") == 0)
        need(write(go[1], fds, sizeof fds), "write");
    int status;
    need(waitpid(child, &status, 0), "waitpid");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 2;
}
