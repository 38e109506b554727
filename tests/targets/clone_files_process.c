/* Why: clone(CLONE_FILES) without CLONE_THREAD makes another process with the same table, so a table does not belong to
 * a process. Its exit signal is SIGCHLD, so a tracer is told of it as of a fork, which would have copied the table:
 * only the clone flags say which it was. unshare(CLONE_FILES) gives the child a copy, and its closes are its own. */
#include "target.h"
#include <sched.h>
#include <sys/wait.h>

static char stack[256 * 1024] __attribute__((aligned(16)));
static int shared = -1;

static int child(void *unused)
{
    (void)unused;
    said(close(shared), "close(%d) in the child, table shared", shared);
    shared = said(open("/dev/null", O_RDONLY | O_CLOEXEC), "open in the child, table shared");
    said(unshare(CLONE_FILES), "unshare(CLONE_FILES) in the child");
    said(close(shared), "close(%d) in the child, table its own", shared);
    return 0;
}

int main(void)
{
    shared = need(open("/dev/null", O_WRONLY | O_CLOEXEC), "open");
    pid_t pid = need(clone(child, stack + sizeof stack, CLONE_FILES | CLONE_VM | SIGCHLD, NULL), "clone");
    int status;
    need(waitpid(pid, &status, 0), "waitpid");
    printf("child exited %d\n", WEXITSTATUS(status));
    said(fcntl(shared, F_GETFL) & O_ACCMODE, "fcntl(%d, F_GETFL) & O_ACCMODE in the parent", shared);
    said(close(shared), "close(%d) in the parent", shared);
    printf("expect double-close fd=%d\n", shared);
    said(close(shared), "close(%d) in the parent", shared);
    return 0;
}
