/* Why: who closes or marks all numbers begins with one that looks like a mistake, and is none.
 *
 *   listing   lists /proc/self/fd, then closes what it has read there: the listing's own number is among it
 *   mark      FD_CLOEXEC for a range, of which only the first number ever was open
 *   half      one end of a pipe is closed, then a range that begins with it and goes on with the other end
 *   up, down  a range of which only the first, or the last number ever was open, and that was closed; then it ends,
 *             executes a program, opens, has a thread, has marked instead of closed, or closes once more
 *   queue     no loop over numbers: one connection is queued twice, and one place closes it twice */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void listing(void)
{
    int numbers[64], n = 0;
    DIR *dir = opendir("/proc/self/fd");
    for (struct dirent *e; dir != NULL && n < 64 && (e = readdir(dir)) != NULL;)
        if (e->d_name[0] != '.')
            numbers[n++] = atoi(e->d_name);
    closedir(dir);
    for (int i = 0; i < n; i++)
        if (numbers[i] > 2)
            close(numbers[i]);
}

static void mark(void)
{
    int first = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(first);
    for (int fd = first; fd < first + 50; fd++)
        fcntl(fd, F_SETFD, FD_CLOEXEC);
}

static void half(void)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return;
    close(ends[0]);
    for (int fd = ends[0]; fd < ends[0] + 50; fd++)
        close(fd);
}

static void *waits(void *unused)
{
    pause();
    return unused;
}

static void range(int down, const char *then)
{
    int marks = strstr(then, "mark") != NULL;
    pthread_t thread;
    if (strstr(then, "thread") != NULL)
        pthread_create(&thread, NULL, waits, NULL);
    int first = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(first);
    for (int i = 0; i < 50; i++) {
        int fd = down ? first + 49 - i : first + i;
        if (marks)
            fcntl(fd, F_SETFD, FD_CLOEXEC);
        else
            close(fd);
    }
    if (strcmp(then, "exec") == 0)
        execl("/bin/true", "true", (char *)NULL);
    if (strcmp(then, "open") == 0)
        open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (strcmp(then, "again") == 0)
        close(first);
}

struct connection {
    int fd;
};

__attribute__((noinline)) static void finish(struct connection *c)
{
    close(c->fd);
}

static void queue(void)
{
    struct connection c = { open("/dev/null", O_RDONLY | O_CLOEXEC) };
    struct connection *volatile queued[2] = { &c, &c };
    /* Volatile, or the compiler makes two places of one. */
    for (volatile int i = 0; i < 2; i++)
        finish(queued[i]);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    if (strcmp(mode, "listing") == 0)
        listing();
    else if (strcmp(mode, "mark") == 0)
        mark();
    else if (strcmp(mode, "half") == 0)
        half();
    else if (strcmp(mode, "up") == 0 || strcmp(mode, "down") == 0)
        range(strcmp(mode, "down") == 0, argc > 2 ? argv[2] : "");
    else
        queue();
    return 0;
}
