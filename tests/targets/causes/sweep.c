// A child that closes all there is and executes a program. argv: how, a file to open before, a file to open after the
// sweep, a program with its arguments.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void sweep(const char *how) {
    if (strcmp(how, "loop") == 0) {
        for (int fd = 3; fd < 32; fd++)
            close(fd);
    } else if (strcmp(how, "range") == 0) {
        if (syscall(SYS_close_range, 3, ~0U, 0) != 0)
            exit(77);
    } else {
        close(7); // one of them, as a program does that knows what it has
    }
}

int main(int argc, char **argv) {
    if (argc < 5)
        return 2;
    int fd = open(argv[2], O_RDWR | O_CREAT, 0600);
    if (dup2(fd, 7) != 7)
        return 2;
    close(fd);
    if (open("/dev/null", O_RDONLY | O_CLOEXEC) < 0)
        return 2;
    pid_t pid = fork();
    if (pid == 0) {
        sweep(argv[1]);
        close(open(argv[3], O_RDWR | O_CREAT | O_CLOEXEC, 0600));
        execv(argv[4], argv + 4);
        _exit(127);
    }
    int status;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
