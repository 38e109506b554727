/* Why: a number with bit 30 set is a call of the x32 table, whatever the kernel makes of it: 0x40000003 is x32's close.
 * Most kernels are built without that table and answer ENOSYS; a tracer that drops the bit sees a close, and one that
 * does not know it sees nothing. */
#include "target.h"
#include <sys/syscall.h>

#ifdef __x86_64__
int main(void)
{
    int fd = need(open("/dev/null", O_RDONLY), "open(/dev/null)");
    long closed = syscall(0x40000000 | SYS_close, fd);
    printf("x32 close is %s\n", closed == 0 ? "done" : strerrorname_np(errno));
    if (closed == -1)
        said(close(fd), "close(%d)", fd);
    /* -1 is no call of any table. */
    said(syscall(-1), "syscall(-1)");
    return 0;
}
#else
int main(void)
{
    printf("skip not an x86-64 program\n");
    return 77;
}
#endif
