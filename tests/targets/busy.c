/* busy [ROUNDS]: threads and processes that open, copy, close, fork and exec without pause; a line for each round.
 *
 * Why: whatever ends the watched or the watcher comes at no convenient moment. All processes are in one new group, so
 * that they can be killed at one stroke; the first line says which. */
#include "target.h"
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

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 10;
    pthread_t thread;
    need(setpgid(0, 0), "setpgid");
    printf("group %d\n", getpid());
    for (int i = 0; i < 2; i++)
        if (pthread_create(&thread, NULL, opens, NULL) != 0)
            return 2;
    for (int i = 0; i < rounds; i++) {
        need(in_a_child(i), "fork");
        need(in_a_child(i), "fork");
        while (wait(NULL) > 0)
            ;
        printf("round %d\n", i);
    }
    return 0;
}
