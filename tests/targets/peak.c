/* Why: how much memory a program took at most is told to who waits for it. Runs `peak FILE PROGRAM [ARGUMENT...]`, writes
 * that number of KiB to FILE, and ends as the program ended. */
#include "target.h"
#include <sys/resource.h>
#include <sys/wait.h>

int main(int argc, char **argv)
{
    int status;
    struct rusage used;
    if (argc < 3)
        return 0;                                               /* the targets' own check runs it so */
    pid_t child = need(fork(), "fork");
    if (child == 0) {
        execv(argv[2], argv + 2);
        _exit(127);
    }
    need(wait4(child, &status, 0, &used), "wait4");
    FILE *file = fopen(argv[1], "we");
    if (file == NULL || fprintf(file, "%ld\n", used.ru_maxrss) < 0 || fclose(file) != 0)
        return 2;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
