/* Opens and closes descriptors by way of io_uring, where no system call says so. `ring fork`, `ring exec` and `ring close`
 * differ in what happens next. Before that, a descriptor is closed that was opened as usual. */
#include "target.h"
#include <linux/io_uring.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static struct io_uring_params p;
static int ring;
static char *sq, *cq;
static struct io_uring_sqe *entries;

/* One operation, and its result. */
static int32_t submit(const struct io_uring_sqe *what)
{
    unsigned mask = *(unsigned *)(sq + p.sq_off.ring_mask), *tail = (unsigned *)(sq + p.sq_off.tail);
    unsigned at = *tail & mask;
    entries[at] = *what;
    ((unsigned *)(sq + p.sq_off.array))[at] = at;
    __atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
    need(syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0), "io_uring_enter");
    unsigned *head = (unsigned *)(cq + p.cq_off.head);
    struct io_uring_cqe *done = (struct io_uring_cqe *)(cq + p.cq_off.cqes);
    int32_t result = done[*head & *(unsigned *)(cq + p.cq_off.ring_mask)].res;
    __atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
    if (result < 0) {
        printf("skip io_uring cannot do it: %s\n", strerrorname_np(-result));
        exit(77);
    }
    return result;
}

int main(int argc, char **argv)
{
    const char *next = argc > 1 ? argv[1] : "fork";
    if (!strcmp(next, "executed"))
        return 0;
    ring = syscall(SYS_io_uring_setup, 4, &p);
    if (ring == -1) {
        printf("skip io_uring_setup: %s\n", strerrorname_np(errno));
        return 77;
    }
    int shut = need(open("/dev/full", O_RDONLY), "open"), seen = need(open("/dev/null", O_RDONLY), "open");
    sq = mmap(NULL, p.sq_off.array + p.sq_entries * 4, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
    cq = mmap(NULL, p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe), PROT_READ | PROT_WRITE, MAP_SHARED, ring,
              IORING_OFF_CQ_RING);
    entries = mmap(NULL, p.sq_entries * sizeof *entries, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
    if (sq == MAP_FAILED || cq == MAP_FAILED || entries == MAP_FAILED)
        need(-1, "mmap");
    int32_t made = submit(&(struct io_uring_sqe){.opcode = IORING_OP_OPENAT,
                                                 .fd = AT_FDCWD,
                                                 .addr = (uintptr_t)"/dev/zero",
                                                 .open_flags = O_RDONLY});
    submit(&(struct io_uring_sqe){.opcode = IORING_OP_CLOSE, .fd = shut});
    printf("ring opened=%d closed=%d\n", made, shut);
    need(close(seen), "close");
    if (!strcmp(next, "fork")) {
        pid_t child = need(fork(), "fork");
        if (child == 0)
            _exit(0);
        need(waitpid(child, NULL, 0), "waitpid");
    } else if (!strcmp(next, "exec")) {
        need(execl("/proc/self/exe", argv[0], "executed", NULL), "execl");
    }
    need(close(made), "close");
    return 0;
}
