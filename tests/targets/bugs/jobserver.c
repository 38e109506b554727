/* Why: the environment promises a jobserver at R,W, and both are closed for the child (jobserver-rs issue 27): what the
 * child opens next gets the number that it takes for the jobserver. `repaired` makes them inheritable in the child. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc > 2)
        return open("/dev/zero", O_RDONLY | O_CLOEXEC) < 0;
    int repaired = argc > 1 && strcmp(argv[1], "repaired") == 0;
    int pair[2];
    char flags[80];
    if (pipe2(pair, O_CLOEXEC) != 0)
        return 2;
    snprintf(flags, sizeof flags, " -j2 --jobserver-auth=%d,%d", pair[0], pair[1]);
    setenv("MAKEFLAGS", flags, 1);
    pid_t pid = fork();
    if (pid == 0) {
        if (repaired) {
            fcntl(pair[0], F_SETFD, 0);
            fcntl(pair[1], F_SETFD, 0);
        }
        execl("/proc/self/exe", "tool", "as", "child", (char *)NULL);
        _exit(127);
    }
    waitpid(pid, NULL, 0);
    return 0;
}
