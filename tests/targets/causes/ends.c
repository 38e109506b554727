// Descriptors that nobody closes: argv[1] ends by exec, argv[2] with the child that has opened it. argv[3] is closed last,
// where it can be asked what became of the others.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void opened(const char *path, int flags, int fd) {
    int n = open(path, O_CREAT | O_RDWR | flags, 0600);
    if (n < 0 || dup3(n, fd, flags) != fd || close(n)) exit(1);
}

int main(int argc, char **argv) {
    if (argc > 4) {
        opened(argv[3], 0, 42);
        close(42);
        return 0;
    }
    opened(argv[1], O_CLOEXEC, 40);
    if (!fork()) {
        opened(argv[2], 0, 41);
        _exit(0);
    }
    int status;
    if (wait(&status) < 0 || status) return 1;
    execl("/proc/self/exe", argv[0], argv[1], argv[2], argv[3], "again", (char *)NULL);
    return 1;
}
