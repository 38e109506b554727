/* Why: posix_spawn reads its file actions in the child, long after they were listed. The number in the list is dead by
 * then, the child's dup2 fails, and the caller gets EBADF as the result of posix_spawn. A second spawn, with a number
 * that is alive, must stay silent. */
#include "target.h"
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;

static int spawn_with(int fd, pid_t *pid)
{
    char *arguments[] = { "true", NULL };
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fd, 1);
    int error = posix_spawn(pid, "/bin/true", &actions, NULL, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    return error;
}

int main(void)
{
    pid_t pid;
    int fd = need(open("/dev/null", O_WRONLY | O_CLOEXEC), "open");
    said(close(fd), "close(%d)", fd);
    printf("expect stale-fd-to-child fd=%d target=1\n", fd);
    printf("posix_spawn returned %s\n", strerrorname_np(spawn_with(fd, &pid)));

    fd = need(open("/dev/null", O_WRONLY | O_CLOEXEC), "open");
    int error = spawn_with(fd, &pid), status;
    if (error != 0)
        return 2;
    need(waitpid(pid, &status, 0), "waitpid");
    printf("posix_spawn returned 0, child exited %d\n", WEXITSTATUS(status));
    return close(fd) == 0 ? 0 : 2;
}
