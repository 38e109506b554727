/* Why: what grows must grow in step with what the program does. Each way does one thing as often as it is told to:
 * execs, processes in sequence, threads that are all alive at once, descriptors that are all open at once. */
#include "target.h"
#include <pthread.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static pthread_barrier_t all_here;

static void *one(void *unused)
{
    int fd = need(open("/dev/null", O_RDONLY | O_CLOEXEC), "open");
    pthread_barrier_wait(&all_here);
    need(close(fd), "close");
    return unused;
}

static int threads(int n)
{
    pthread_t *all = calloc(n, sizeof *all);
    pthread_attr_t small;
    if (all == NULL || pthread_barrier_init(&all_here, NULL, n) != 0 || pthread_attr_init(&small) != 0
        || pthread_attr_setstacksize(&small, 64 * 1024) != 0)
        return 2;
    for (int i = 0; i < n; i++)
        if (pthread_create(&all[i], &small, one, NULL) != 0)
            return 2;
    for (int i = 0; i < n; i++)
        pthread_join(all[i], NULL);
    return 0;
}

static int processes(int n)
{
    for (int i = 0; i < n; i++) {
        pid_t child = need(fork(), "fork");
        if (child == 0) {
            close(open("/dev/null", O_RDONLY));
            _exit(0);
        }
        need(waitpid(child, NULL, 0), "waitpid");
    }
    return 0;
}

static int descriptors(int n, char *self)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_max < (rlim_t)n + 16) {
        printf("skip no more than %lu descriptors here\n", (unsigned long)limit.rlim_max);
        return 77;
    }
    for (int i = 0; i < n; i++)
        need(open("/dev/null", O_RDONLY | (i % 2 ? O_CLOEXEC : 0)), "open");
    pid_t child = need(fork(), "fork");
    if (child == 0) {
        execl(self, self, "end", (char *)NULL);
        _exit(127);
    }
    int status;
    need(waitpid(child, &status, 0), "waitpid");
    need(syscall(SYS_close_range, 3, ~0U, 0), "close_range");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 2;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "end") == 0)
        return 0;
    if (argc < 3)
        return 0;                                               /* the targets' own check runs it so */
    int n = atoi(argv[2]);
    if (strcmp(argv[1], "threads") == 0)
        return threads(n);
    if (strcmp(argv[1], "processes") == 0)
        return processes(n);
    if (strcmp(argv[1], "descriptors") == 0)
        return descriptors(n, argv[0]);
    if (n == 0)
        return 0;
    char left[16];
    snprintf(left, sizeof left, "%d", n - 1);
    close(open("/dev/null", O_RDONLY));
    execl(argv[0], argv[0], "execs", left, (char *)NULL);
    return 2;
}
