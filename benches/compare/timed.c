/* timed [-c CPU] FILE CMD [ARG...]: runs CMD, on CPU if given, and appends "seconds max_rss_kib status" to FILE.
 *
 * The clock runs from just before the fork to the end of the wait, so no shell and no other program is in the figure.
 * The size is that of the largest process of the tree that was waited for, tool or target. Death by signal S is
 * status 128 + S, as in a shell. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int fail(const char *what)
{
    perror(what);
    return 125;
}

int main(int argc, char **argv)
{
    int next = 1, status;
    struct rusage usage;
    if (argc > 3 && strcmp(argv[1], "-c") == 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET((size_t)atoi(argv[2]), &set);
        if (sched_setaffinity(0, sizeof set, &set) != 0)
            return fail("sched_setaffinity");
        next = 3;
    }
    if (argc < next + 2) {
        fprintf(stderr, "usage: timed [-c CPU] FILE CMD [ARG...]\n");
        return 125;
    }
    double start = now();
    pid_t pid = fork();
    if (pid == -1)
        return fail("fork");
    if (pid == 0) {
        execvp(argv[next + 1], argv + next + 1);
        perror(argv[next + 1]);
        _exit(127);
    }
    if (wait4(pid, &status, 0, &usage) != pid)
        return fail("wait4");
    double seconds = now() - start;
    status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    FILE *file = fopen(argv[next], "ae");
    if (file == NULL)
        return fail(argv[next]);
    fprintf(file, "%.6f %ld %d\n", seconds, usage.ru_maxrss, status);
    return fclose(file) == 0 ? 0 : fail(argv[next]);
}
