/* getppid N: N system calls that have nothing to do with descriptors. Who watches descriptors only should not be felt
 * here. */
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    long rounds = argc > 1 ? atol(argv[1]) : 500000;
    long sum = 0;
    for (long i = 0; i < rounds; i++)
        sum += syscall(SYS_getppid); /* glibc must not answer in the kernel's place */
    return sum < 0;
}
