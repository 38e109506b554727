/* Why: a call that waits is interrupted by a signal and made again, by the kernel (ERESTARTSYS) or by the program (EINTR), and
 * what it makes comes in the end, once: accept, open of a fifo, recvmsg with a descriptor. With an argument the kernel
 * restarts them. Each descriptor is then closed twice, so that whoever missed it has nothing to tell. */
#include "target.h"
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

static volatile int *hits;

static void hit(int signal)
{
    (void)signal;
    ++*hits;
}

/* Asleep in a call, and not in a tracer's stop. */
static int sleeps(pid_t pid)
{
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd == -1 ? -1 : read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    char *end = strrchr(text, ')');
    return end != NULL && end[2] == 'S';
}

static void interrupt(pid_t pid, int times)
{
    for (int i = 0; i < times; i++) {
        int before = *hits;
        while (!sleeps(pid))
            ;
        need(kill(pid, SIGUSR1), "kill");
        while (*hits == before)
            ;
    }
    while (!sleeps(pid))
        ;
}

static void disturb(pid_t pid, const struct sockaddr_un *address)
{
    char byte = 'x', control[CMSG_SPACE(sizeof(int))] = { 0 };
    struct iovec data = { &byte, 1 };
    struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
    interrupt(pid, 3);
    int s = need(socket(AF_UNIX, SOCK_STREAM, 0), "socket");
    need(connect(s, (const struct sockaddr *)address, sizeof *address), "connect");
    interrupt(pid, 3);
    int fd = need(open("f", O_WRONLY), "open");
    interrupt(pid, 3);
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(head), &fd, sizeof fd);
    need(sendmsg(s, &message, 0), "sendmsg");
}

/* Makes the call until it is not interrupted. */
#define AGAIN(call) ({ long r; while ((r = (call)) == -1 && errno == EINTR) interrupted++; need(r, #call); })

int main(int argc, char **argv)
{
    char home[] = "/tmp/restarted.XXXXXX", byte, control[64];
    int interrupted = 0, fds[3], status;
    (void)argv;
    struct sigaction action = { .sa_handler = hit, .sa_flags = argc > 1 ? SA_RESTART : 0 };
    struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "s" };
    struct iovec data = { &byte, 1 };
    struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
    hits = mmap(NULL, sizeof *hits, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (hits == MAP_FAILED || mkdtemp(home) == NULL || chdir(home) == -1)
        return 2;
    need(sigaction(SIGUSR1, &action, NULL), "sigaction");
    int listener = need(socket(AF_UNIX, SOCK_STREAM, 0), "socket");
    need(bind(listener, (struct sockaddr *)&address, sizeof address), "bind");
    need(listen(listener, 1), "listen");
    need(mkfifo("f", 0600), "mkfifo");
    pid_t self = getpid(), child = need(fork(), "fork");
    if (child == 0) {
        disturb(self, &address);
        _exit(0);
    }
    fds[0] = AGAIN(accept(listener, NULL, NULL));
    fds[1] = AGAIN(open("f", O_RDONLY));
    AGAIN(recvmsg(fds[0], &message, 0));
    memcpy(&fds[2], CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fds[2]);
    need(waitpid(child, &status, 0), "waitpid");
    printf("interrupted %d times, made again by the program %d times\n", *hits, interrupted);
    for (int i = 0; i < 3; i++) {
        said(close(fds[i]), "close(%d)", fds[i]);
        said(close(fds[i]), "close(%d)", fds[i]);
    }
    unlink("s");
    unlink("f");
    return rmdir(home) == 0 ? status : 2;
}
