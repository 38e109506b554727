/* Why: many tasks at once. Two hundred threads, each of which opens, copies and closes, all alive at the same time:
 * they meet at a barrier, half-way. */
#include "target.h"
#include <pthread.h>

enum { THREADS = 200 };
static pthread_barrier_t all_here;

static void *one(void *unused)
{
    int fd = need(open("/dev/null", O_RDONLY | O_CLOEXEC), "open");
    pthread_barrier_wait(&all_here);
    int copy = need(dup(fd), "dup");
    need(close(fd), "close");
    need(close(copy), "close");
    return unused;
}

int main(void)
{
    pthread_t threads[THREADS];
    pthread_attr_t small;
    printf("expect silence\n");
    if (pthread_barrier_init(&all_here, NULL, THREADS) != 0 || pthread_attr_init(&small) != 0
        || pthread_attr_setstacksize(&small, 64 * 1024) != 0)
        return 2;
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], &small, one, NULL) != 0)
            return 2;
    for (int i = 0; i < THREADS; i++)
        if (pthread_join(threads[i], NULL) != 0)
            return 2;
    printf("%d threads\n", THREADS);
    return 0;
}
