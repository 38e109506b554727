/* Why: calls on a number whose life is over, outside any fork. dup, fcntl(F_DUPFD) and dup2 would have begun a new
 * life, and must not begin one when they fail. A probe with F_GETFD is how one asks whether a number is open: it fails
 * in the same way and must stay silent. */
#include "target.h"

int main(void)
{
    int fd = need(open("/dev/null", O_WRONLY | O_CLOEXEC), "open");
    said(close(fd), "close(%d)", fd);
    printf("expect use-after-close fd=%d call=dup\n", fd);
    said(dup(fd), "dup(%d)", fd);
    printf("expect use-after-close fd=%d call=fcntl\n", fd);
    said(fcntl(fd, F_DUPFD, 10), "fcntl(%d, F_DUPFD, 10)", fd);
    printf("expect use-after-close fd=%d call=fcntl\n", fd);
    said(fcntl(fd, F_DUPFD_CLOEXEC, 10), "fcntl(%d, F_DUPFD_CLOEXEC, 10)", fd);
    printf("expect use-after-close fd=%d call=dup2\n", fd);
    said(dup2(fd, 20), "dup2(%d, 20)", fd);
    said(fcntl(fd, F_GETFD), "fcntl(%d, F_GETFD)", fd);
    return 0;
}
