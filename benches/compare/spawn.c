/* spawn N: N times a pipe, posix_spawn of /bin/true with the pipe as its stdout, read to the end, and a wait. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static int spawn_one(void)
{
    char *arguments[] = { "true", NULL };
    char byte;
    int ends[2], status;
    pid_t pid;
    posix_spawn_file_actions_t actions;
    if (pipe2(ends, O_CLOEXEC) != 0) {
        perror("pipe2");
        return 1;
    }
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    int error = posix_spawn(&pid, "/bin/true", &actions, NULL, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    while (read(ends[0], &byte, 1) > 0)
        continue;
    close(ends[0]);
    return error != 0 || waitpid(pid, &status, 0) != pid || status != 0;
}

int main(int argc, char **argv)
{
    long rounds = argc > 1 ? atol(argv[1]) : 300;
    for (long i = 0; i < rounds; i++)
        if (spawn_one() != 0)
            return 1;
    return 0;
}
