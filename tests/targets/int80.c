/* Why: a 64-bit program can make 32-bit calls. `int $0x80` takes i386 numbers (open is 5, close is 6, and 3, which is
 * close for x86-64, is read), and 32-bit pointers. A tracer that takes the number without the architecture of the
 * call sees nonsense; a seccomp filter that kills what is not x86-64 kills this program. */
#include "target.h"
#include <signal.h>
#include <sys/mman.h>

#ifdef __x86_64__
enum { I386_READ = 3, I386_OPEN = 5, I386_CLOSE = 6, I386_GETPID = 20, I386_DUP = 41, I386_DUP2 = 63 };

static long int80(long number, long a, long b, long c)
{
    long result;
    /* Kernels before 4.17 do not keep r8 to r11. */
    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "a"(number), "b"(a), "c"(b), "d"(c)
                     : "memory", "r8", "r9", "r10", "r11");
    result = (int)result;
    if (result < 0 && result > -4096) {
        errno = (int)-result;
        return -1;
    }
    return result;
}

static void no_such_gate(int signal)
{
    static const char words[] = "skip no 32-bit calls here\n";
    (void)signal;
    if (write(1, words, sizeof words - 1) < 0)
        _exit(2);
    _exit(77);
}

int main(void)
{
    signal(SIGSEGV, no_such_gate);
    long pid = int80(I386_GETPID, 0, 0, 0);
    signal(SIGSEGV, SIG_DFL);
    if (pid == -1) {
        printf("skip no 32-bit calls here\n");
        return 77;
    }
    printf("i386 getpid is getpid: %s\n", pid == getpid() ? "yes" : "no");
    char *path = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    if (path == MAP_FAILED)
        return 2;
    strcpy(path, "/dev/null");

    long fd = said(int80(I386_OPEN, (long)path, O_RDONLY | O_CLOEXEC, 0), "i386 open(/dev/null)");
    said(int80(I386_READ, fd, (long)(path + 100), 1), "i386 read(%ld)", fd);
    long copy = said(int80(I386_DUP, fd, 0, 0), "i386 dup(%ld)", fd);
    said(int80(I386_DUP2, fd, 10, 0), "i386 dup2(%ld, 10)", fd);
    said(int80(I386_CLOSE, fd, 0, 0), "i386 close(%ld)", fd);
    said(int80(I386_CLOSE, copy, 0, 0), "i386 close(%ld)", copy);
    said(close(10), "close(10)");
    printf("expect double-close fd=%ld\n", fd);
    said(int80(I386_CLOSE, fd, 0, 0), "i386 close(%ld)", fd);
    return 0;
}
#else
int main(void)
{
    printf("skip not an x86-64 program\n");
    return 77;
}
#endif
