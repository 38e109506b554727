/* Why: between pipe() and fcntl(F_SETFD) another thread forks (cadical issue 120, Waybar issue 2182): its child holds the
 * writer, and the reader would wait for that.
 *
 *   race       pipe, then F_SETFD
 *   held       pipe without any F_SETFD: a sibling holds the writer when all others have closed it
 *   repaired   pipe2(O_CLOEXEC)
 *
 * The child is `cat`, which ends when its stdin does: nobody has to wait. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static pthread_barrier_t barrier;
static int end[2];

static pid_t start_cat(void)
{
    int in[2];
    if (pipe2(in, O_CLOEXEC) != 0)
        _exit(2);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(in[0], 0);
        execlp("cat", "cat", (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    end[1] = in[1];
    return pid;
}

static void *spawner(void *pid)
{
    pthread_barrier_wait(&barrier);
    *(pid_t *)pid = start_cat();
    pthread_barrier_wait(&barrier);
    return NULL;
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "race";
    pthread_t thread;
    pid_t cat = 0;
    int pair[2];
    pthread_barrier_init(&barrier, NULL, 2);
    pthread_create(&thread, NULL, spawner, &cat);
    if (pipe2(pair, strcmp(mode, "repaired") == 0 ? O_CLOEXEC : 0) != 0)
        return 2;
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    if (strcmp(mode, "race") == 0) {
        fcntl(pair[0], F_SETFD, FD_CLOEXEC);
        fcntl(pair[1], F_SETFD, FD_CLOEXEC);
    }
    if (strcmp(mode, "held") == 0)
        close(pair[1]);
    close(end[1]);
    waitpid(cat, NULL, 0);
    pthread_join(thread, NULL);
    return 0;
}
