/* Why: a library closes its number once more when it ends, and the number is the program's log file by then.
 *
 *   stop       the library's second close takes the program's file (one thread)
 *   late       the program has closed its file by then: the library closes nobody's
 *   repaired   the library forgets the number when it closes
 *
 * Compiled twice: with LIBRARY it is the library. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#ifdef LIBRARY
static int lock = -1;

__attribute__((noinline)) static void drop(int forget)
{
    if (lock >= 0)
        close(lock);
    if (forget)
        lock = -1;
}

void courier_run(int forget)
{
    lock = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    drop(forget);
}

void courier_stop(int forget)
{
    drop(forget);
}
#else
void courier_run(int forget);
void courier_stop(int forget);

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "stop";
    int repaired = strcmp(mode, "repaired") == 0;
    courier_run(repaired);
    int log = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (strcmp(mode, "late") == 0) {
        close(log);
        courier_stop(repaired);
        return 0;
    }
    courier_stop(repaired);
    if (close(log) != 0)
        perror("the log file is gone");
    return 0;
}
#endif
