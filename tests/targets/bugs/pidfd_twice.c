/* Why: clone3(CLONE_PIDFD) gives a number that two objects own (Go issue 68984). `repaired` has one owner. */
#define _GNU_SOURCE
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

__attribute__((noinline)) static void release(int fd)
{
    close(fd);
}

__attribute__((noinline)) static void finalize(int fd)
{
    close(fd);
}

int main(int argc, char **argv)
{
    int repaired = argc > 1 && strcmp(argv[1], "repaired") == 0;
    int pidfd = -1;
    struct clone_args args = {
        .flags = CLONE_PIDFD, .pidfd = (uint64_t)(uintptr_t)&pidfd, .exit_signal = SIGCHLD};
    long pid = syscall(SYS_clone3, &args, sizeof args);
    if (pid == 0)
        _exit(0);
    if (pid < 0) {
        printf("skip no clone3\n");
        return 77;
    }
    waitpid((pid_t)pid, NULL, 0);
    release(pidfd);
    if (!repaired)
        finalize(pidfd);
    return 0;
}
