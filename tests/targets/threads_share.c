/* Why: threads share one table. A number opened by one thread, closed by a second and taken again by a third is three
 * events of one table, whatever the thread; the last use is the mistake. Each thread is joined before the next one
 * starts, so that the order is the same each time. */
#include "target.h"
#include <pthread.h>

static int fd = -1;

static void in_a_thread(void *(*body)(void *))
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, body, NULL) != 0 || pthread_join(thread, NULL) != 0)
        exit(2);
}

static void *opens(void *unused)
{
    fd = said(need(open("/dev/null", O_WRONLY | O_CLOEXEC), "open"), "open");
    return unused;
}

static void *closes(void *unused)
{
    said(close(fd), "close(%d)", fd);
    return unused;
}

static void *uses(void *unused)
{
    said(dup(fd), "dup(%d)", fd);
    return unused;
}

int main(void)
{
    in_a_thread(opens);
    int copy = said(dup(fd), "dup(%d)", fd);
    in_a_thread(closes);
    in_a_thread(opens);
    in_a_thread(closes);
    printf("expect use-after-close fd=%d call=dup\n", fd);
    in_a_thread(uses);
    return close(copy) == 0 ? 0 : 2;
}
