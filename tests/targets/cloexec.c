/* Why: close-on-exec is set in five ways and cleared in three, and exec ends just the lives that have it. The program
 * executes itself and says which numbers arrived. They are leaks, for nobody promised them. */
#include "target.h"

static void report(void)
{
    for (int fd = 3; fd < 40; fd++)
        if (fcntl(fd, F_GETFD) != -1)
            printf("arrived fd=%d\n", fd);
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        report();
        return 0;
    }
    close_range(3, ~0U, 0);
    int with = need(open("/dev/null", O_RDONLY | O_CLOEXEC), "open");       /* 3, dropped */
    int without = need(open("/dev/null", O_RDONLY), "open");                /* 4, arrives */
    int set = need(open("/dev/null", O_RDONLY), "open");                    /* 5, dropped */
    need(fcntl(set, F_SETFD, FD_CLOEXEC), "F_SETFD");
    int cleared = need(open("/dev/null", O_RDONLY | O_CLOEXEC), "open");    /* 6, arrives */
    need(fcntl(cleared, F_SETFD, 0), "F_SETFD");
    need(dup2(with, 10), "dup2");                                           /* arrives: dup2 never sets the flag */
    need(dup3(without, 11, O_CLOEXEC), "dup3");                             /* dropped */
    need(fcntl(without, F_DUPFD_CLOEXEC, 12), "F_DUPFD_CLOEXEC");           /* 12, dropped */
    need(fcntl(with, F_DUPFD, 13), "F_DUPFD");                              /* 13, arrives */
    need(dup2(without, 14), "dup2");
    if (close_range(14, 14, CLOSE_RANGE_CLOEXEC) == -1) {                   /* dropped, from Linux 5.11 on */
        printf("skip close_range has no CLOSE_RANGE_CLOEXEC\n");
        return 77;
    }
    int leaks[] = { without, cleared, 10, 13 };
    for (size_t i = 0; i < sizeof leaks / sizeof *leaks; i++)
        printf("expect leak-across-exec fd=%d\n", leaks[i]);
    execl("/proc/self/exe", argv[0], "report", (char *)NULL);
    return 127;
}
