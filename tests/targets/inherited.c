/* Why: a program must find the same world whether it is watched or not: descriptors with their offsets and flags,
 * signals, limits, umask, directory, environment. It prints all that, and its process group and session. */
#include "target.h"
#include <sys/resource.h>
#include <sys/stat.h>

extern char **environ;

static void descriptors(void)
{
    for (int fd = 0; fd < 256; fd++) {
        char link[64], path[4096];
        int flags = fcntl(fd, F_GETFD);
        if (flags == -1)
            continue;
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(link, path, sizeof path - 1);
        path[length > 0 ? length : 0] = '\0';
        char *bracket = strchr(path, '[');
        if (bracket != NULL)                                    /* the number differs from run to run */
            *bracket = '\0';
        printf("fd %d %s cloexec %d flags %o offset %ld\n", fd, path, flags, fcntl(fd, F_GETFL),
               (long)lseek(fd, 0, SEEK_CUR));
    }
}

static void status(void)
{
    static const char *const wanted[] = { "SigPnd:", "ShdPnd:", "SigBlk:", "SigIgn:", "SigCgt:", "Uid:", "Gid:",
                                          "CapEff:", "CapInh:" };
    char line[4096];
    FILE *file = fopen("/proc/self/status", "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
            if (strncmp(line, wanted[i], strlen(wanted[i])) == 0)
                printf("%s", line);
    if (file != NULL)
        fclose(file);
}

int main(int argc, char **argv)
{
    descriptors();
    status();
    for (int i = 0; i < RLIM_NLIMITS; i++) {
        struct rlimit limit;
        if (getrlimit(i, &limit) == 0)
            printf("limit %d %lu %lu\n", i, (unsigned long)limit.rlim_cur, (unsigned long)limit.rlim_max);
    }
    mode_t mask = umask(0);
    char cwd[4096];
    printf("umask %o cwd %s nice %d\n", mask, getcwd(cwd, sizeof cwd), getpriority(PRIO_PROCESS, 0));
    for (int i = 0; i < argc; i++)
        printf("argument %s\n", argv[i]);
    for (char **e = environ; *e != NULL; e++)
        printf("environment %s\n", *e);
    printf("group %d session %d\n", getpgrp(), getsid(0));
    return 0;
}
