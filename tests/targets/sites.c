/* Why: lives are recognised in another run by where they were opened and by the place of their process in the tree of
 * forks. The same files are opened in two places, several times each, in a process, its two children and a grandchild,
 * one after the other. It waits for a line, or the end of its input, so that it can be attached to. */
#include "target.h"
#include <sys/wait.h>

/* Not to be inlined, nor to become a jump: each is a frame of its own. */
__attribute__((noinline)) static int first_place(const char *path)
{
    int fd = (int)need(open(path, O_RDONLY | O_CLOEXEC), path);
    __asm__ volatile("");
    return fd;
}

__attribute__((noinline)) static int second_place(const char *path)
{
    int fd = (int)need(open(path, O_RDONLY | O_CLOEXEC), path);
    __asm__ volatile("");
    return fd;
}

static void in_a_child(void (*what)(void))
{
    pid_t pid = (pid_t)need(fork(), "fork");
    if (pid == 0) {
        what();
        _exit(0);
    }
    need(waitpid(pid, NULL, 0), "waitpid");
}

static void grandchild(void)
{
    close(second_place("/dev/null"));
}

static void child(void)
{
    close(first_place("/dev/null"));
    in_a_child(grandchild);
}

int main(void)
{
    char line[80];
    puts("expect silence\nready");
    while (read(0, line, 1) == 1 && line[0] != '\n') {
    }
    char made_up[] = "/tmp/fdwatch-sites-XXXXXX";
    int fd = (int)need(mkstemp(made_up), made_up);
    need(unlink(made_up), made_up);
    close(fd);
    for (int i = 0; i < 3; i++) {
        int first = first_place("/dev/null");
        int second = second_place("/dev/null");
        close(first);
        close(second);
    }
    in_a_child(child);
    in_a_child(child);
    puts("done");
    return 0;
}
