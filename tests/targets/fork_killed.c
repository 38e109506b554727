/* Kills processes at the moment at which they fork, again and again.
 *
 * A tracer may have been told of the child before its parent is gone, or of neither: the child must go on, and end, in
 * any case. The killer waits for a number of bytes, not for a time. */
#include "target.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void fork_for_ever(int out)
{
    for (;;) {
        pid_t child = fork();
        if (child == 0) _exit(0);
        if (write(out, "x", 1) != 1) _exit(1);
        waitpid(child, NULL, 0);
    }
}

int main(void)
{
    printf("expect silence\n");
    for (int i = 0; i < 60; i++) {
        int ends[2];
        char byte;
        if (pipe(ends) != 0) return 1;
        pid_t forker = fork();
        if (forker == 0) fork_for_ever(ends[1]);
        for (int n = 0; n <= i % 7; n++)
            if (read(ends[0], &byte, 1) != 1) return 1;
        for (volatile int spin = 0; spin < (i * 7919) % 40000; spin++) {}
        kill(forker, SIGKILL);
        waitpid(forker, NULL, 0);
        close(ends[0]);
        close(ends[1]);
    }
    printf("all ended\n");
    return 0;
}
