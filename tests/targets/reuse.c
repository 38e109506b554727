/* Why: the kernel frees a number before close or close_range returns, and another thread may have it by then. Whoever keeps books must
 * not take the second life of the number for the one that is being closed, nor the close for one of the second life.
 *
 * One thread closes, the others open until they have been given the number that is just being closed. It prints how often
 * that must happen, and ends when it has. */
#include "target.h"
#include <pthread.h>
#include <stdatomic.h>

enum { OPENERS = 3, WANTED = 20, TRIES = 20000 };

static _Atomic int closing = -1;               /* the number that close has been called on and has not returned from */
static _Atomic int reused, done;

static void *opens(void *unused)
{
    while (!atomic_load(&done)) {
        int fd = need(open("/dev/null", O_RDONLY | O_CLOEXEC), "open");
        if (fd == atomic_load(&closing))
            atomic_fetch_add(&reused, 1);
        need(close(fd), "close");
    }
    return unused;
}

int main(void)
{
    pthread_t threads[OPENERS];
    for (int i = 0; i < OPENERS; i++)
        if (pthread_create(&threads[i], NULL, opens, NULL) != 0)
            return 2;
    for (int i = 0; i < TRIES && atomic_load(&reused) < WANTED; i++) {
        int fd = need(open("/dev/zero", O_RDONLY | O_CLOEXEC), "open");
        atomic_store(&closing, fd);
        int failed = i % 2 ? close(fd) : (int)syscall(436 /* close_range */, fd, fd, 0);
        atomic_store(&closing, -1);
        need(failed, "close_range");
    }
    atomic_store(&done, 1);
    for (int i = 0; i < OPENERS; i++)
        pthread_join(threads[i], NULL);
    if (atomic_load(&reused) < WANTED) {
        printf("skip no number was given out while it was being closed\n");
        return 77;
    }
    printf("expect silence\nreused at least %d\n", WANTED);
    return 0;
}
