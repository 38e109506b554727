/* Why: with numbers held back after their close nothing else may change. Four threads open, write and close while signals
 * interrupt them at every place; then the table is filled to its limit; then a child and a program that is executed look at
 * what they got.
 *
 * "stale" as an argument: number 100 is closed and closed again after another file was opened at the lowest free number from
 * there on, as a slip that hits the other file. It prints what the other file gives then. */
#include "target.h"
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>

enum { THREADS = 4, ROUNDS = 60, MOST = 48 };

static void *turns(void *unused)
{
    for (int i = 0; i < ROUNDS; i++) {
        int fd = need(open("/dev/null", O_RDWR | O_CLOEXEC), "open");
        need(write(fd, "x", 1), "write");
        need(close(fd), "close");
    }
    return unused;
}

static volatile sig_atomic_t ticks;

static void tick(int signal)
{
    char byte = (char)signal;
    int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, &byte, 1) != 1 || byte != 0 || close(fd) != 0)
        _exit(9);
    ticks = 1;
}

static int numbers(void)
{
    int n = 0;
    for (int fd = 0; fd < 4096; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static int stale(void)
{
    int file = need(open("/dev/zero", O_RDONLY | O_CLOEXEC), "open");
    int first = need(fcntl(file, F_DUPFD_CLOEXEC, 100), "F_DUPFD_CLOEXEC");
    said(close(first), "close(%d)", first);
    int other = need(fcntl(file, F_DUPFD_CLOEXEC, 100), "F_DUPFD_CLOEXEC");
    printf("other %s\n", other == first ? "at the same number" : "at another number");
    said(fcntl(first, F_GETFD), "fcntl(%d, F_GETFD)", first);
    said(close(first), "close(%d)", first);
    char byte;
    said(read(other, &byte, 1), "read(other)");
    said(dup2(file, first), "dup2(file, %d)", first);
    said(read(first, &byte, 1), "read(%d)", first);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "stale") == 0)
        return stale();
    if (argc > 1) {
        printf("executed with %d\n", numbers());
        return 0;
    }
    int inherited = numbers();
    struct sigaction action = { .sa_handler = tick, .sa_flags = SA_RESTART };
    sigaction(SIGALRM, &action, NULL);
    struct itimerval often = { { 0, 700 }, { 0, 700 } }, never = { { 0, 0 }, { 0, 0 } };
    setitimer(ITIMER_REAL, &often, NULL);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, turns, NULL) != 0)
            return 2;
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    while (!ticks)
        turns(NULL);
    setitimer(ITIMER_REAL, &never, NULL);
    pid_t child = need(fork(), "fork");
    if (child == 0) {
        turns(NULL);
        execl("/proc/self/exe", "held", "look", NULL);
        _exit(3);
    }
    int status;
    waitpid(child, &status, 0);
    printf("child %d, as many as at first: %s\n", status, inherited > 0 ? "yes" : "no");
    /* Out of what may have been inherited, whatever its numbers. */
    struct rlimit limit = { 0, 0 };
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = MOST;
    setrlimit(RLIMIT_NOFILE, &limit);
    int opened = 0, fd;
    while ((fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
        opened += fd < MOST;
    printf("opened %d until %s\n", opened, strerror(errno));
    return 0;
}
