/* toil: threads, processes, signals and calls without pause, which count what they do; ends with the input.
 *
 * Why: a tracer that comes, goes or is killed must not cost a signal, a byte, a call or an exit status. A line for each
 * round; at the end of standard input "all is well" and status 0, or what was lost and status 1. */
#include "target.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>

static atomic_int over, handled, trouble;
static int there[2], back[2];

static void lost(const char *what)
{
    int error = errno;
    if (atomic_fetch_add(&trouble, 1) == 0)
        printf("lost: %s (%s)\n", what, strerrorname_np(error));
}

static void on_signal(int signal)
{
    (void)signal;
    handled++;
}

static void *opens(void *unused)
{
    while (!over) {
        int fd = open("/dev/null", O_RDONLY | O_CLOEXEC), copy = dup(fd);
        if (fd < 0 || copy < 0 || close(fd) != 0 || close(copy) != 0)
            lost("a call");
    }
    return unused;
}

/* Bytes go round through two pipes, in order. */
static void *answers(void *unused)
{
    unsigned char byte;
    while (read(there[0], &byte, 1) == 1)
        if (write(back[1], &byte, 1) != 1)
            lost("an answer");
    return unused;
}

static void *asks(void *unused)
{
    for (unsigned char n = 0; !over; n++) {
        unsigned char byte;
        if (write(there[1], &n, 1) != 1 || read(back[0], &byte, 1) != 1 || byte != n)
            lost("a byte");
    }
    close(there[1]);
    return unused;
}

static void *naps(void *unused)
{
    struct timespec nap = { .tv_nsec = 2000000 };
    while (!over)
        if (nanosleep(&nap, NULL) != 0)
            lost("sleep");
    return unused;
}

static void *ends(void *unused)
{
    char byte;
    while (read(0, &byte, 1) == 1)
        ;
    over = 1;
    return unused;
}

static void child(int round)
{
    int status;
    pid_t pid = round % 3 == 0 ? vfork() : fork();
    if (pid == 0) {
        if (round % 2)
            execl("/bin/false", "false", (char *)NULL);
        _exit(1);
    }
    while (waitpid(pid, &status, 0) == -1)
        if (errno != EINTR) {
            lost("a child");
            return;
        }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 1)
        lost("an exit status");
}

int main(void)
{
    void *(*work[])(void *) = { opens, opens, answers, asks, naps, ends };
    enum { N = sizeof work / sizeof *work };
    pthread_t threads[N];
    sigset_t signals;
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
    int sent = 0;
    need(sigaction(SIGRTMIN, &action, NULL), "sigaction");
    need(pipe2(there, O_CLOEXEC), "pipe2");
    need(pipe2(back, O_CLOEXEC), "pipe2");
    /* The signals are the first thread's. */
    sigemptyset(&signals);
    sigaddset(&signals, SIGRTMIN);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    for (int i = 0; i < N; i++)
        if (pthread_create(&threads[i], NULL, work[i], NULL) != 0)
            return 2;
    pthread_sigmask(SIG_UNBLOCK, &signals, NULL);
    for (int round = 0; !over; round++) {
        for (int i = 0; i < 5; i++, sent++)
            if (sigqueue(getpid(), SIGRTMIN, (union sigval){ .sival_int = i }) != 0)
                lost("a signal that was to be sent");
        child(round);
        printf("round %d\n", round);
    }
    for (int i = 0; i < N; i++)
        pthread_join(threads[i], NULL);
    /* A signal to oneself has arrived when the call that sent it is over (kill(2)). */
    if (handled != sent)
        lost("a signal");
    if (!trouble)
        puts("all is well");
    return trouble != 0;
}
