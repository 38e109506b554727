/* Why: code that starts a child opens pipes of its own, and those take the numbers that just became free.
 *
 *   outside    the file was opened by main and closed too early; the spawner's pipe takes its number, the child closes that
 *   twice      the file was opened in an earlier call of the very function that starts the child, from the same line: the
 *              frames lie in the same place, and yet that call is over
 *   repaired   it is closed when the child has started */
#define _GNU_SOURCE
#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int repaired;

/* With open_only it opens and closes the file, and starts nothing. */
__attribute__((noinline)) static int spawn(int out, int open_only)
{
    if (open_only) {
        out = open("/dev/null", O_WRONLY | O_CLOEXEC);
        close(out);
        return out;
    }
    int report[2];
    if (pipe2(report, O_CLOEXEC) != 0)
        return -1;
    pid_t child = fork();
    if (child == 0) {
        close(report[0]);
        if (dup2(out, 1) == 1)
            execl("/bin/true", "true", (char *)NULL);
        _exit(9);
    }
    close(report[1]);
    close(report[0]);
    waitpid(child, NULL, 0);
    return out;
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "outside";
    repaired = strcmp(mode, "repaired") == 0;
    int twice = strcmp(mode, "twice") == 0;
    int out = -1;
    if (!twice)
        out = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (!twice && !repaired)
        close(out);
    for (volatile int i = twice ? 0 : 1; i < 2; i++)
        out = spawn(out, i == 0);
    if (repaired)
        close(out);
    return 0;
}
