/* waits [WHERE [STATUS]]: waits in one call or another, then closes twice what it opened before; ends with STATUS.
 *
 * Why: what is attached to is in the middle of something. "ready" comes just before the call; the call ends when a line
 * comes on standard input, and what it returned is printed. A second line ends the program. */
#include "target.h"
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

static char byte;

static int line(void)
{
    int n;
    while ((n = read(0, &byte, 1)) == 1 && byte != '\n')
        ;
    return n;
}

static void closes_twice(int fd)
{
    said(close(fd), "close(%d)", fd);
    said(close(fd), "close(%d)", fd);
}

/* A connection to itself: the accept waits until the thread has read a line. */
static struct sockaddr_un name = { .sun_family = AF_UNIX };

static void *connects(void *length)
{
    line();
    int fd = need(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
    need(connect(fd, (struct sockaddr *)&name, *(socklen_t *)length), "connect");
    return NULL;
}

static int accepts(void)
{
    pthread_t thread;
    int fd = need(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
    socklen_t length = sizeof(sa_family_t) + 1 + sprintf(name.sun_path + 1, "fdwatch-waits-%d", getpid());
    need(bind(fd, (struct sockaddr *)&name, length), "bind");
    need(listen(fd, 1), "listen");
    if (pthread_create(&thread, NULL, connects, &length) != 0)
        return -1;
    puts("ready");
    int new = said(accept4(fd, NULL, NULL, SOCK_CLOEXEC), "accept4(%d)", fd);
    pthread_join(thread, NULL);
    return new;
}

static void naps(void)
{
    struct timespec start, end, nap = { .tv_nsec = 700 * 1000 * 1000 };
    clock_gettime(CLOCK_MONOTONIC, &start);
    puts("ready");
    said(nanosleep(&nap, NULL), "nanosleep()");
    clock_gettime(CLOCK_MONOTONIC, &end);
    long ms = (end.tv_sec - start.tv_sec) * 1000 + (end.tv_nsec - start.tv_nsec) / 1000000;
    if (ms < 700)
        printf("only %ld ms\n", ms);
    line();
}

/* A parent in vfork cannot be stopped. Its child waits in a call. */
static void vforks(int fd)
{
    puts("ready");
    pid_t child = vfork();
    if (child == 0) {
        if (fd >= 0)
            said(close(fd), "close(%d)", fd);
        line();
        _exit(3);
    }
    int status;
    waitpid(child, &status, 0);
    printf("the child's status is %d\n", WEXITSTATUS(status));
}

static void *shares(void *number)
{
    for (;;) {
        int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (*(int *)number % 2 && fd >= 0)
            close(dup(fd));
        close(fd);
    }
    return number;
}

static void *sleeps(void *unused)
{
    for (;;)
        pause();
    return unused;
}

static void crowd(void)
{
    static int numbers[40];
    pthread_t thread;
    for (int i = 0; i < 40; i++) {
        numbers[i] = i;
        if (pthread_create(&thread, NULL, i < 4 ? shares : sleeps, &numbers[i]) != 0)
            exit(2);
    }
    puts("ready");
    line();
}

/* Threads live on when the first has ended. */
static void *survives(void *fd)
{
    line();
    closes_twice(*(int *)fd);
    line();
    exit(4);
}

static void polls(void)
{
    struct pollfd in = { .fd = 0, .events = POLLIN };
    puts("ready");
    said(poll(&in, 1, -1), "poll()");
    line();
}

static void epolls(void)
{
    int fd = need(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    struct epoll_event in = { .events = EPOLLIN };
    need(epoll_ctl(fd, EPOLL_CTL_ADD, 0, &in), "epoll_ctl");
    puts("ready");
    said(epoll_wait(fd, &in, 1, -1), "epoll_wait()");
    line();
}

static void takes_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    puts("ready");
    said(sigwaitinfo(&set, NULL), "sigwaitinfo()");
    line();
}

int main(int argc, char **argv)
{
    const char *where = argc > 1 ? argv[1] : "read";
    int status = argc > 2 ? atoi(argv[2]) : 0;
    int fd = need(open("/dev/null", O_RDONLY | O_CLOEXEC), "open");
    if (strcmp(where, "accept") == 0) {
        int new = accepts();
        closes_twice(new);
        line();
        return status;
    }
    if (strcmp(where, "child") == 0) {
        pid_t child = need(fork(), "fork");
        if (child > 0) {
            int how;
            waitpid(child, &how, 0);
            printf("the child's status is %d\n", WEXITSTATUS(how));
            return status;
        }
        printf("child %d\n", getpid());
        where = "read";
    }
    if (strcmp(where, "leaderless") == 0) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, survives, &fd) != 0)
            return 2;
        puts("ready");
        pthread_exit(NULL);
    }
    if (strcmp(where, "read") == 0) {
        puts("ready");
        said(line(), "read()");
    } else if (strcmp(where, "nanosleep") == 0)
        naps();
    else if (strcmp(where, "vfork") == 0)
        vforks(-1);
    else if (strcmp(where, "vfork-closes") == 0)
        vforks(fd);
    else if (strcmp(where, "crowd") == 0) {
        /* A number that none of the others is given. */
        fd = need(fcntl(fd, F_DUPFD_CLOEXEC, 500), "fcntl");
        crowd();
    }
    else if (strcmp(where, "poll") == 0)
        polls();
    else if (strcmp(where, "epoll") == 0)
        epolls();
    else if (strcmp(where, "sigwait") == 0)
        takes_signals();
    else if (strcmp(where, "loop") == 0)
        for (volatile long n = 0;; n++)
            if (n == 0)
                puts("ready");
    closes_twice(fd);
    line();
    return status;
}
