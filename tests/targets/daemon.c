/* Why: a daemon forks twice, leaves its session and outlives the process that was started. Whoever watches must stay
 * until its end, and end as the first process ended. It waits for the end of its standard input. */
#include "target.h"
#include <sys/wait.h>

int main(void)
{
    printf("expect silence\n");
    int first[2];
    char byte;
    need(pipe2(first, O_CLOEXEC), "pipe2");
    pid_t child = need(fork(), "fork");
    if (child == 0) {
        need(setsid(), "setsid");
        if (need(fork(), "fork") != 0)
            _exit(0);
        close(first[1]);
        need(read(first[0], &byte, 1), "read");
        printf("the first process is gone\n");
        while (need(read(0, &byte, 1), "read") == 1)
            ;
        printf("the daemon ends\n");
        return 5;
    }
    int status;
    need(waitpid(child, &status, 0), "waitpid");
    _exit(0);
}
