/* Why: on which CPUs a task may run is the target's own business, also while it is held on one. Each step is preceded by
 * many calls that stop, so that a tracer which holds tasks on a CPU does so by then. */
#include "target.h"
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

static long now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Nothing is held for a tenth of a second after somebody has looked. */
static long looked;

static void busy(void)
{
    for (int i = 0; i < 300 || now_ms() < looked + 120; i++)
        need(close(need(open("/dev/null", O_RDONLY | O_CLOEXEC), "open")), "close");
}

static void show(const char *who, pid_t of)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    need(sched_getaffinity(of, sizeof set, &set), "sched_getaffinity");
    printf("%s:", who);
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &set))
            printf(" %d", i);
    printf("\n");
}

/* The mask as proc_pid_status(5) shows it. */
static void show_status(const char *who)
{
    char line[256];
    FILE *f = fopen("/proc/thread-self/status", "re");
    if (f == NULL)
        return;
    while (fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, "Cpus_allowed", 12) == 0)
            printf("%s: %s", who, line);
    fclose(f);
    looked = now_ms();
}

static void *thread(void *of)
{
    show("thread", 0);
    show("by its thread", *(pid_t *)of);
    busy();
    show("thread, busy", 0);
    return NULL;
}

/* In a child: it asks for itself, with no call that stops before, and after many. */
static void child(const char *who)
{
    show_status(who);
    show(who, 0);
    busy();
    show(who, 0);
}

static void await(pid_t pid)
{
    int status;
    need(waitpid(pid, &status, 0), "waitpid");
    if (status != 0)
        exit(3);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "quiet") == 0) {
        char byte;
        busy();
        printf("quiet %d\n", getpid());
        return (int)read(0, &byte, 1);
    }
    if (argc > 1) {
        show("executed", 0);
        busy();
        show_status("executed, busy");
        return 0;
    }
    pid_t self = getpid();
    busy();
    show("self", 0);
    busy();
    show("self by number", self);
    busy();
    show_status("status");

    /* One that stays open is read again at any time, and no call that stops tells when. */
    int kept = need(open("/proc/self/status", O_RDONLY | O_CLOEXEC), "open");
    looked = now_ms();
    char last[256] = "";
    for (int round = 0; round < 20; round++) {
        char text[8192];
        busy();
        ssize_t n = need(pread(kept, text, sizeof text - 1, 0), "pread");
        text[n] = '\0';
        char *line = strstr(text, "Cpus_allowed:");
        if (line != NULL && strncmp(line, last, strcspn(line, "\n")) != 0)
            printf("kept open: %.*s\n", (int)strcspn(line, "\n"), line);
        snprintf(last, sizeof last, "%s", line == NULL ? "" : line);
    }
    need(close(kept), "close");
    looked = now_ms();

    pthread_t other;
    busy();
    if (pthread_create(&other, NULL, thread, &self) != 0)
        return 2;
    pthread_join(other, NULL);

    busy();
    pid_t pid = need(fork(), "fork");
    if (pid == 0) {
        child("child");
        _exit(0);
    }
    await(pid);
    busy();
    pid = need(fork(), "fork");
    if (pid == 0) {
        show("its parent", self);
        _exit(0);
    }
    await(pid);
    busy();
    pid = need(vfork(), "vfork");
    if (pid == 0) {
        execl(argv[0], argv[0], "again", NULL);
        _exit(127);
    }
    await(pid);
    show("after vfork", 0);

    /* A mask of its own is kept, and inherited. */
    cpu_set_t first, all;
    need(sched_getaffinity(0, sizeof all, &all), "sched_getaffinity");
    CPU_ZERO(&first);
    for (int i = 0; i < CPU_SETSIZE && CPU_COUNT(&first) == 0; i++)
        if (CPU_ISSET(i, &all))
            CPU_SET(i, &first);
    busy();
    need(sched_setaffinity(0, sizeof first, &first), "sched_setaffinity");
    show("one", 0);
    busy();
    show("one, busy", 0);
    pid = need(fork(), "fork");
    if (pid == 0) {
        child("child of one");
        _exit(0);
    }
    await(pid);
    busy();
    need(sched_setaffinity(0, sizeof all, &all), "sched_setaffinity");
    show("all", 0);
    busy();
    fflush(stdout);
    execl(argv[0], argv[0], "again", NULL);
    return 2;
}
