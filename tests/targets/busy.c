/* busy: threads and processes that open, copy, close, fork and exec without pause, until its input ends;
 * a line for each round.
 *
 * Why: whatever ends the watched or the watcher comes at no convenient moment. All processes are in one new group, so
 * that they can be killed at one stroke; the first line says which. */
#include "target.h"
#include <poll.h>
#include <pthread.h>
#include <sys/wait.h>

static void *opens(void *unused)
{
    for (;;) {
        int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        int copy = dup(fd);
        close(fd);
        close(copy);
    }
    return unused;
}

static int in_a_child(int round)
{
    pid_t child = round % 2 ? vfork() : fork();
    if (child == 0) {
        execl("/bin/true", "true", (char *)NULL);
        _exit(127);
    }
    return child;
}

int main(void)
{
    struct pollfd input = {.fd = 0, .events = POLLIN};
    pthread_t thread;
    int rounds = 0, status;
    need(setpgid(0, 0), "setpgid");
    printf("group %d\n", getpid());
    for (int i = 0; i < 2; i++)
        if (pthread_create(&thread, NULL, opens, NULL) != 0)
            return 2;
    for (; poll(&input, 1, 0) == 0; rounds++) {
        need(in_a_child(rounds), "fork");
        need(in_a_child(rounds), "fork");
        while (wait(&status) > 0)
            if (status != 0)
                return 3;
        printf("round %d\n", rounds);
    }
    printf("all well\n");
    return 0;
}
