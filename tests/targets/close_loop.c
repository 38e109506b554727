/* Why: a close of a number that is not open is no error when someone sweeps. A daemon closes 3 to 1023 whether they are
 * open or not; a fresh child does it before exec; close_range does it in one call. The prize for telling these from a
 * double close is silence. */
#include "target.h"
#include <sys/wait.h>

static void sweep(void)
{
    int closed = 0;
    for (int fd = 3; fd < 1024; fd++)
        closed += close(fd) == 0;
    printf("closed some: %s\n", closed > 0 ? "yes" : "no");
}

static void open_some(void)
{
    for (int i = 0; i < 3; i++)
        need(open("/dev/null", O_RDONLY), "open");
}

static int child_that(void (*sweeps)(void))
{
    open_some();
    pid_t child = need(fork(), "fork");
    if (child == 0) {
        sweeps();
        execl("/bin/true", "true", (char *)NULL);
        _exit(127);
    }
    int status;
    need(waitpid(child, &status, 0), "waitpid");
    return WEXITSTATUS(status);
}

static void sweep_at_once(void)
{
    said(close_range(3, ~0U, 0), "close_range(3, ~0, 0)");
}

int main(void)
{
    printf("expect silence\n");
    printf("child exited %d\n", child_that(sweep));
    printf("child exited %d\n", child_that(sweep_at_once));
    sweep();
    open_some();
    sweep_at_once();
    close(-1);
    return 0;
}
