/* Why: when a thread that is not the leader calls exec, it takes over the leader's id, its own id vanishes without an
 * exit, and all other threads die. The new program must be the same process, with what is left of the same table. */
#include "target.h"
#include <pthread.h>

static char self[32];
static char *name;

static void *execs(void *unused)
{
    (void)unused;
    printf("the thread is the leader: %s\n", gettid() == getpid() ? "yes" : "no");
    execl("/proc/self/exe", name, self, (char *)NULL);
    _exit(127);
}

static void *waits(void *unused)
{
    for (;;)
        pause();
    return unused;
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        int pid = atoi(argv[1]);
        printf("same process: %s, leader: %s\n", getpid() == pid ? "yes" : "no", gettid() == pid ? "yes" : "no");
        said(fcntl(30, F_GETFD), "fcntl(30, F_GETFD)");
        said(fcntl(31, F_GETFD), "fcntl(31, F_GETFD)");
        return 0;
    }
    name = argv[0];
    snprintf(self, sizeof self, "%d", getpid());
    int fd = need(open("/dev/null", O_RDONLY | O_CLOEXEC), "open");
    need(dup2(fd, 30), "dup2");
    need(dup3(fd, 31, O_CLOEXEC), "dup3");
    printf("expect leak-across-exec fd=30\n");
    pthread_t thread;
    if (pthread_create(&thread, NULL, waits, NULL) != 0 || pthread_create(&thread, NULL, execs, NULL) != 0)
        return 2;
    waits(NULL);
}
