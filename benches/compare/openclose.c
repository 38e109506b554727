/* openclose N D: N times open("/dev/null") and close, D frames deep.
 * The loop is above the recursion, so every open and every close has a fresh stack of D frames. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

__attribute__((noinline)) static int open_and_close(void)
{
    int fd = open("/dev/null", O_RDONLY);
    if (fd < 0) {
        perror("open");
        exit(1);
    }
    return close(fd);
}

__attribute__((noinline)) static int descend(int depth)
{
    volatile int frame = depth; /* used after the call: no tail call, a real frame each time */
    int result = depth > 0 ? descend(depth - 1) : open_and_close();
    return result + frame - depth;
}

int main(int argc, char **argv)
{
    long rounds = argc > 1 ? atol(argv[1]) : 5000;
    int depth = argc > 2 ? atoi(argv[2]) : 20;
    for (long i = 0; i < rounds; i++)
        if (descend(depth) != 0)
            return 1;
    return 0;
}
