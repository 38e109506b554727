/* Why: a number that is closed twice may be somebody else's the second time.
 *
 *   again   one eventfd is stored in two places, and a loop over both closes it twice: the same place, the same number
 *           (curl issue 15725)
 *   other   a session is destroyed in two places, and the second destroys another thread's log file (rsyslog issue 3406)
 *   dup2    close and dup2, where dup2 alone would do
 *   repaired-…   the same with one owner
 *
 * The barrier lets the other thread open its file just between the two closes. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

static pthread_barrier_t barrier;

static void *owner(void *unused)
{
    (void)unused;
    pthread_barrier_wait(&barrier);
    int log = open("/dev/null", O_WRONLY | O_CLOEXEC);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    if (close(log) != 0)
        perror("the log file is gone");
    return NULL;
}

static void let_the_other_open(void)
{
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
}

static void again(int repaired)
{
    int wakeup[2];
    wakeup[0] = eventfd(0, EFD_CLOEXEC);
    wakeup[1] = repaired ? -1 : wakeup[0];
    /* Volatile, or the compiler makes two places of one. */
    volatile int both = 2;
    for (int i = 0; i < both; i++) {
        if (i == 1)
            let_the_other_open();
        if (wakeup[i] >= 0)
            close(wakeup[i]);
    }
}

__attribute__((noinline)) static void destroy(int *session)
{
    close(*session);
}

static void other(int repaired)
{
    int session = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    destroy(&session);
    let_the_other_open();
    if (!repaired)
        destroy(&session);
}

static void with_dup2(int repaired)
{
    int old = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    int new = open("/dev/full", O_WRONLY | O_CLOEXEC);
    if (!repaired)
        close(old);
    let_the_other_open();
    dup2(new, old);
    close(new);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "again";
    int repaired = strncmp(mode, "repaired-", 9) == 0;
    mode += repaired ? 9 : 0;
    pthread_t thread;
    pthread_barrier_init(&barrier, NULL, 2);
    pthread_create(&thread, NULL, owner, NULL);
    if (strcmp(mode, "again") == 0)
        again(repaired);
    else if (strcmp(mode, "other") == 0)
        other(repaired);
    else
        with_dup2(repaired);
    pthread_barrier_wait(&barrier);
    pthread_join(thread, NULL);
    return 0;
}
