/* Why: a program can ask the kernel about itself in many ways, and each must give the answer that it would give without a
 * tracer. It prints all of them that do not differ from run to run, numbers of processes as what they are to it. */
#include "target.h"
#include <dirent.h>
#include <sched.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>

extern char **environ;

static const char *who(pid_t pid)
{
    return pid == getpid() ? "itself" : pid == getppid() ? "its parent" : pid == getsid(0) ? "its session" : pid ? "another" : "nobody";
}

/* A file of /proc/self, without the lines that begin with one of `but`. */
static void file(const char *name, const char *const *but)
{
    char path[64], line[8192];
    snprintf(path, sizeof path, "/proc/self/%s", name);
    FILE *f = fopen(path, "re");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        int left_out = 0;
        for (const char *const *b = but; b != NULL && *b != NULL; b++)
            left_out |= strncmp(line, *b, strlen(*b)) == 0;
        if (!left_out)
            printf("%s: %s%s", name, line, strchr(line, '\n') != NULL ? "" : "\n");
    }
    if (f != NULL)
        fclose(f);
}

static void stat_fields(void)
{
    char line[4096] = "", *rest, *field;
    FILE *f = fopen("/proc/self/stat", "re");
    if (f == NULL || fgets(line, sizeof line, f) == NULL || (rest = strrchr(line, ')')) == NULL)
        return;
    fclose(f);
    int n = 3;
    for (field = strtok(rest + 2, " "); field != NULL; field = strtok(NULL, " "), n++)
        switch (n) {
        case 5: case 6: case 8:
            printf("stat %d: %s\n", n, who(atoi(field)));
            break;
        case 7: case 18: case 19: case 20: case 38: case 40: case 41:
            printf("stat %d: %s\n", n, field);
        }
}

static void descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    struct dirent *e;
    while (dir != NULL && (e = readdir(dir)) != NULL) {
        char path[4096];
        int fd = atoi(e->d_name);
        ssize_t length = readlinkat(dirfd(dir), e->d_name, path, sizeof path - 1);
        if (length <= 0 || fd == dirfd(dir))
            continue;
        path[length] = '\0';
        char *bracket = strchr(path, '[');
        if (bracket != NULL)                                    /* the number differs from run to run */
            *bracket = '\0';
        printf("fd %d %s cloexec %d flags %o offset %ld owner %d signal %d\n", fd, path, fcntl(fd, F_GETFD),
               fcntl(fd, F_GETFL), (long)lseek(fd, 0, SEEK_CUR), fcntl(fd, F_GETOWN), fcntl(fd, F_GETSIG));
    }
    if (dir != NULL)
        closedir(dir);
}

int main(int argc, char **argv)
{
    static const char *const changing[] = { "Vm", "Rss", "Pid:", "Tgid:", "Ngid:", "PPid:", "NS", "SigQ:", "voluntary",
                                            "nonvoluntary", "Hugetlb", NULL };
    file("status", changing);
    file("limits", NULL);
    file("cgroup", NULL);
    file("oom_score_adj", NULL);
    file("timerslack_ns", NULL);
    file("comm", NULL);
    file("coredump_filter", NULL);
    file("loginuid", NULL);
    file("uid_map", NULL);
    stat_fields();
    descriptors();
    for (int s = 1; s <= 64; s++) {
        struct sigaction a;
        if (sigaction(s, NULL, &a) == 0 && a.sa_handler != SIG_DFL)
            printf("signal %d: %s\n", s, a.sa_handler == SIG_IGN ? "ignored" : "caught");
    }
    static const int asked[] = { PR_GET_PDEATHSIG, PR_GET_CHILD_SUBREAPER, PR_GET_TSC, PR_GET_UNALIGN };
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        int value = 0, r = prctl(asked[i], &value, 0, 0, 0);
        printf("prctl %d: %d %d\n", asked[i], r, value);
    }
    printf("dumpable %d keepcaps %d securebits %d thp %d timing %d\n", prctl(PR_GET_DUMPABLE), prctl(PR_GET_KEEPCAPS),
           prctl(PR_GET_SECUREBITS), prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0), prctl(PR_GET_TIMING));
    for (int which = 0; which < 3; which++) {
        struct itimerval t;
        getitimer(which, &t);
        printf("timer %d: %ld\n", which, (long)(t.it_value.tv_sec + t.it_interval.tv_sec));
    }
    struct sched_param param;
    sched_getparam(0, &param);
    printf("policy %d priority %d ioprio %ld personality %x\n", sched_getscheduler(0), param.sched_priority,
           syscall(SYS_ioprio_get, 1, 0), personality(0xffffffff));
    printf("secure %lu execfn %s\n", getauxval(AT_SECURE), (const char *)getauxval(AT_EXECFN));
    stack_t stack;
    sigaltstack(NULL, &stack);
    mode_t mask = umask(0);
    char cwd[4096];
    printf("umask %o cwd %s nice %d altstack %d\n", mask, getcwd(cwd, sizeof cwd), getpriority(PRIO_PROCESS, 0), stack.ss_flags);
    for (int i = 0; i < argc; i++)
        printf("argument %s\n", argv[i]);
    for (char **e = environ; *e != NULL; e++)
        printf("environment %s\n", *e);
    return 0;
}
