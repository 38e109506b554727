/* Why: the plainest double closes there are. The second close of a number fails with EBADF while nobody has taken the
 * number; a directory stream and a FILE own the number they were given, so closing both is a double close too.
 * close(-1) is the habit of a careful destructor and means nothing. */
#include "target.h"
#include <dirent.h>

static void twice_by_number(void)
{
    int fd = need(open("/dev/null", O_RDONLY | O_CLOEXEC), "open");
    said(close(fd), "close(%d)", fd);
    printf("expect double-close fd=%d\n", fd);
    said(close(fd), "close(%d)", fd);
}

static void directory_stream_owns_it(void)
{
    int fd = need(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open");
    DIR *stream = fdopendir(fd);
    if (stream == NULL)
        exit(2);
    said(closedir(stream), "closedir(%d)", fd);
    printf("expect double-close fd=%d\n", fd);
    said(close(fd), "close(%d)", fd);
}

static void stream_does_not_know(void)
{
    FILE *stream = fopen("/dev/null", "re");
    if (stream == NULL)
        exit(2);
    int fd = fileno(stream);
    said(close(fd), "close(%d)", fd);
    printf("expect double-close fd=%d\n", fd);
    said(fclose(stream), "fclose(%d)", fd);
}

int main(void)
{
    twice_by_number();
    directory_stream_owns_it();
    stream_does_not_know();
    said(close(-1), "close(-1)");
    return 0;
}
