/* Why: one small program that passes through every kind of stop: opens, copies, fork, vfork, posix_spawn, threads, exec,
 * exec from a thread, signals, group-stops, descriptors over a socket, a supervisor. It is run again and again while
 * something goes wrong at one stop after another, so no part of it may outlive the others: children die with their parent. */
#include "target.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

extern char **environ;

static volatile sig_atomic_t caught;

static void count(int signal)
{
    (void)signal;
    caught++;
}

static void mortal(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

static void descriptors(void)
{
    int fd = need(open("/dev/null", O_RDWR), "open");
    int copy = need(dup(fd), "dup");
    need(dup2(fd, 30), "dup2");
    need(fcntl(copy, F_SETFD, FD_CLOEXEC), "fcntl");
    need(fcntl(copy, F_DUPFD_CLOEXEC, 40), "fcntl");
    need(close(fd), "close");
    need(close(copy), "close");
    syscall(SYS_close_range, 30, 50, 0);
}

static void forks(void)
{
    int status;
    pid_t child = need(fork(), "fork");
    if (child == 0) {
        mortal();
        descriptors();
        _exit(5);
    }
    need(waitpid(child, &status, 0), "waitpid");
}

static void vforks(char *self)
{
    char *words[] = { self, "again", NULL };
    pid_t child = need(vfork(), "vfork");
    if (child == 0) {
        execv(self, words);
        _exit(127);
    }
    need(waitpid(child, NULL, 0), "waitpid");
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, 2, 7);
    if (posix_spawn(&child, self, &actions, NULL, words, environ) == 0)
        waitpid(child, NULL, 0);
    posix_spawn_file_actions_destroy(&actions);
}

static void *opens(void *unused)
{
    int fd = need(open("/dev/null", O_RDONLY | O_CLOEXEC), "open");
    need(close(fd), "close");
    return unused;
}

static void threads(void)
{
    pthread_t all[2];
    for (int i = 0; i < 2; i++)
        if (pthread_create(&all[i], NULL, opens, NULL) != 0)
            exit(2);
    for (int i = 0; i < 2; i++)
        pthread_join(all[i], NULL);
}

static void signals(void)
{
    signal(SIGUSR1, count);
    signal(SIGRTMIN + 1, count);
    raise(SIGUSR1);
    raise(SIGRTMIN + 1);
}

static void stops(void)
{
    pid_t parent = getpid();
    int status;
    pid_t child = need(fork(), "fork");
    if (child == 0) {
        mortal();
        if (getppid() != parent)
            _exit(1);
        raise(SIGSTOP);
        _exit(0);
    }
    need(waitpid(child, &status, WUNTRACED), "waitpid");
    if (!WIFSTOPPED(status))
        return;
    need(kill(child, SIGCONT), "kill");
    need(waitpid(child, &status, 0), "waitpid");
}

static void passes(void)
{
    int ends[2];
    char byte = 0, room[CMSG_SPACE(sizeof(int))] = { 0 };
    struct iovec data = { &byte, 1 };
    struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room };
    need(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), "socketpair");
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &ends[0], sizeof(int));
    need(sendmsg(ends[0], &message, 0), "sendmsg");
    need(recvmsg(ends[1], &message, MSG_CMSG_CLOEXEC), "recvmsg");
    close(ends[0]);
    close(ends[1]);
}

static int asks_about_dup(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_dup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { .len = 4, .filter = code };
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
}

static void *lets_go_on(void *listener)
{
    struct seccomp_notif asked = { 0 };
    struct seccomp_notif_resp answer = { .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE };
    need(ioctl(*(int *)listener, SECCOMP_IOCTL_NOTIF_RECV, &asked), "SECCOMP_IOCTL_NOTIF_RECV");
    answer.id = asked.id;
    need(ioctl(*(int *)listener, SECCOMP_IOCTL_NOTIF_SEND, &answer), "SECCOMP_IOCTL_NOTIF_SEND");
    return NULL;
}

static void supervised(void)
{
    pid_t child = need(fork(), "fork");
    if (child == 0) {
        mortal();
        int listener = asks_about_dup();
        pthread_t supervisor;
        if (listener == -1 || pthread_create(&supervisor, NULL, lets_go_on, &listener) != 0)
            _exit(0);
        need(close(need(dup(0), "dup")), "close");
        _exit(0);
    }
    need(waitpid(child, NULL, 0), "waitpid");
}

static void *executes(void *self)
{
    execl(self, self, "again", (char *)NULL);
    _exit(127);
}

int main(int argc, char **argv)
{
    printf("expect silence\n");
    if (argc > 1) {
        need(close(need(dup(0), "dup")), "close");
        return 0;
    }
    descriptors();
    forks();
    vforks(argv[0]);
    threads();
    signals();
    stops();
    passes();
    supervised();
    if (caught != 2)
        return 3;
    pthread_t thread;
    if (pthread_create(&thread, NULL, executes, argv[0]) != 0)
        return 2;
    pthread_join(thread, NULL);
    return 4;
}
