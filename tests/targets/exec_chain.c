/* Why: five hundred programs in one process, one after the other: nothing of a former one may be kept. Each opens a
 * descriptor that closes on exec, so the number is the same each time. */
#include "target.h"

enum { TIMES = 500 };

int main(int argc, char **argv)
{
    int left = argc > 1 ? atoi(argv[1]) : TIMES;
    int fd = need(open("/dev/null", O_RDONLY | O_CLOEXEC), "open");
    if (left == TIMES)
        printf("expect silence\n");
    if (left == 0) {
        printf("%d programs, fd %d\n", TIMES, fd);
        return 0;
    }
    char count[16];
    snprintf(count, sizeof count, "%d", left - 1);
    execl("/proc/self/exe", argv[0], count, (char *)NULL);
    return 127;
}
