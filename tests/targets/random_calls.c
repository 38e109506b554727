/* random_calls [-s SEED] [-c CALLS] [-p PROCESSES] [-t THREADS] [-o GROUPS] [-d DIR]: random sequences of all calls that
 * make, change and end descriptors.
 *
 * Why: whoever keeps books of descriptor tables must agree with the kernel after any sequence of calls, not only after
 * those that somebody thought of. A supervisor keeps up to PROCESSES workers alive, which fork, execute this program again,
 * make up to THREADS more threads each, pass descriptors to each other, and kill each other, until CALLS calls were made.
 *
 * A worker's calls and arguments follow from its seed alone, and its seed from its parent's, never from a result: what
 * differs from run to run is how workers interleave, and when one is killed. The numbers that calls are made on are drawn,
 * too: about half of them are open, so failing calls (EBADF, EMFILE, EINVAL, ENOENT) come by themselves.
 *
 * DIR gets a file `control`, whose first two words are the calls made and the processes started so far; without -d it is
 * a directory of its own, which is removed. GROUPS is a list of the names below, separated by commas. */
#include "target.h"
#include <linux/openat2.h>
#include <linux/sched.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

enum {
    TOP = 40,                                  /* the soft limit while calls are made: numbers below it are given out */
    ROOM = 64,                                 /* the soft limit while a program starts, which needs numbers, too */
    MAILBOXES = 50,                            /* sockets to pass descriptors over: MAILBOXES and the seven behind it */
    LEVELS = 8,                                /* how deep workers make workers */
    STACKS = 4,
    STACK = 64 * 1024,
};

struct control {
    _Atomic uint32_t calls, started;
    _Atomic uint32_t stop;
    _Atomic int32_t live;                      /* workers that have not been waited for */
    uint32_t limit, groups;
    int32_t processes, threads;
};

struct actor {
    uint64_t random;
    int budget;                                /* how many steps are left */
    int level;
    int plain;                                 /* it shares somebody's memory: only calls that leave that alone */
};

static struct control *control;
static char home[64] = "/tmp/random_calls.XXXXXX";
static char self[4096];

/* What belongs to a process; a child begins anew. */
static pid_t children[32];
static atomic_flag children_busy = ATOMIC_FLAG_INIT;
static _Atomic int threads;
static int bare;                               /* made without libc's knowledge: its locks may be held for ever */

/* Stacks of children that share this memory; the kernel clears the word when such a child is gone. */
static _Atomic int stack_used[STACKS];
static char stacks[STACKS][STACK] __attribute__((aligned(64)));

static uint32_t draw(struct actor *a)
{
    a->random ^= a->random << 13;
    a->random ^= a->random >> 7;
    a->random ^= a->random << 17;
    return (uint32_t)(a->random >> 21);
}

static uint32_t below(struct actor *a, uint32_t n)
{
    return draw(a) % n;
}

static uint64_t seed(uint64_t n)
{
    n = (n + 0x9e3779b97f4a7c15) * 0xbf58476d1ce4e5b9;
    n = (n ^ (n >> 27)) * 0x94d049bb133111eb;
    return (n ^ (n >> 31)) | 1;
}

/* Whether one more call may be made. */
static int one_more(void)
{
    if (atomic_load(&control->stop))
        return 0;
    if (atomic_fetch_add(&control->calls, 1) < control->limit)
        return 1;
    atomic_fetch_sub(&control->calls, 1);
    atomic_store(&control->stop, 1);
    return 0;
}

#define CALL(call) (one_more() ? (long)(call) : -1L)
#define SYS(...) CALL(syscall(__VA_ARGS__))

/* A number to make a call on. */
static int number(struct actor *a)
{
    uint32_t r = below(a, 64);
    if (r < 2)
        return (int)r;                         /* 2 is kept, to complain */
    if (r == 2)
        return (int[]){-1, TOP, 100000, INT32_MAX}[below(a, 4)];
    if (r == 3)
        return MAILBOXES + (int)below(a, 8);
    return 3 + (int)below(a, TOP - 3);
}

static int cloexec(struct actor *a)
{
    return below(a, 2) ? O_CLOEXEC : 0;
}

static int blockless(struct actor *a)
{
    return below(a, 4) ? 0 : O_NONBLOCK;
}

/* ---- calls that leave memory alone: also for children that share it ---- */

static void file_name(struct actor *a, char *name, size_t size)
{
    switch (below(a, 12)) {
    case 0: snprintf(name, size, "%s/none/such", home); break;
    case 1: snprintf(name, size, "%s", home); break;
    case 2: snprintf(name, size, "/dev/null"); break;
    case 3: snprintf(name, size, "/proc/self/fd/%d", 3 + (int)below(a, TOP - 3)); break;
    case 4: snprintf(name, size, "/proc/self/stat"); break;
    default: snprintf(name, size, "%s/file%d", home, (int)below(a, 8)); break;
    }
}

static void do_open(struct actor *a)
{
    char name[128];
    int access[] = {O_RDONLY, O_WRONLY, O_RDWR, O_RDWR | O_APPEND, O_WRONLY | O_TRUNC, O_RDONLY | O_NOATIME, O_RDWR | O_SYNC,
                    O_RDWR | O_DSYNC};
    /* Never waiting for the other end of what a link leads to. */
    int flags = access[below(a, 8)] | cloexec(a) | O_NONBLOCK;
    file_name(a, name, sizeof name);
    if (below(a, 3))
        flags |= O_CREAT;
    struct open_how how = {.flags = (unsigned)(flags | O_CREAT), .mode = 0600};
    switch (below(a, 9)) {
    case 0: SYS(SYS_open, name, flags, 0600); break;
    case 1: SYS(SYS_creat, name, 0600); break;
    case 2: SYS(SYS_openat, number(a), name, flags, 0600); break;
    case 3: SYS(SYS_openat2, AT_FDCWD, name, &how, below(a, 8) ? sizeof how : 3); break;
    case 4: SYS(SYS_openat, AT_FDCWD, name, O_PATH | cloexec(a) | (below(a, 2) ? O_NOFOLLOW : 0)); break;
    case 5: SYS(SYS_openat, AT_FDCWD, home, O_TMPFILE | O_RDWR | cloexec(a), 0600); break;
    case 6: SYS(SYS_openat, AT_FDCWD, home, O_DIRECTORY | cloexec(a)); break;
    default: SYS(SYS_openat, AT_FDCWD, name, flags, 0600); break;
    }
}

static void do_handle(struct actor *a)
{
    struct {
        struct file_handle handle;
        unsigned char bytes[MAX_HANDLE_SZ];
    } h = {.handle.handle_bytes = MAX_HANDLE_SZ};
    int mount, directory;
    if (syscall(SYS_name_to_handle_at, AT_FDCWD, home, &h, &mount, 0) != 0)
        return;
    directory = (int)SYS(SYS_openat, AT_FDCWD, home, O_DIRECTORY | O_CLOEXEC);
    SYS(SYS_open_by_handle_at, directory, &h, O_RDONLY | cloexec(a));
    SYS(SYS_close, directory);
}

static void do_dup(struct actor *a)
{
    int from = number(a);
    switch (below(a, 6)) {
    case 0: SYS(SYS_dup, from); break;
    case 1: SYS(SYS_dup2, from, number(a)); break;
    case 2: SYS(SYS_dup3, from, number(a), below(a, 16) ? cloexec(a) : O_APPEND); break;
    case 3: CALL(fcntl(from, F_DUPFD, number(a))); break;
    case 4: CALL(fcntl(from, F_DUPFD_CLOEXEC, number(a))); break;
    default: SYS(SYS_dup2, from, from); break;
    }
}

static void do_flags(struct actor *a)
{
    int fd = number(a), on = 1;
    switch (below(a, 4)) {
    case 0: CALL(fcntl(fd, F_SETFD, 0)); break;
    case 1: CALL(fcntl(fd, F_SETFD, FD_CLOEXEC)); break;
    case 2: lseek(fd, (off_t)below(a, 100), SEEK_SET); break;
    default:
        on = (int)below(a, 2);
        if (fd >= 3)
            ioctl(fd, FIONBIO, &on);
        break;
    }
}

static void do_ioctl(struct actor *a)
{
    int fd = number(a);
    CALL(ioctl(fd, below(a, 2) ? FIOCLEX : FIONCLEX));
}

static void do_close(struct actor *a)
{
    SYS(SYS_close, number(a));
}

static void do_range(struct actor *a)
{
    unsigned first = (unsigned)number(a), last = first + below(a, 6);
    if (first <= 2 || first > TOP)
        first = 3;
    switch (below(a, 24)) {
    case 0: SYS(SYS_close_range, 9, 3, 0); break;
    case 1: SYS(SYS_close_range, 3, last, 1 << 7); break;
    case 2: SYS(SYS_close_range, 3, ~0U, 0); break;
    case 3: SYS(SYS_close_range, 3, ~0U, 1 << 2); break;
    default: SYS(SYS_close_range, first, last, below(a, 2) ? 0 : 1 << 2); break;
    }
}

static void do_unshare(struct actor *a)
{
    unsigned first = 3 + below(a, TOP), flags = 1 << 1 | (below(a, 2) ? 1 << 2 : 0);
    if (below(a, 2))
        SYS(SYS_unshare, below(a, 2) ? CLONE_FILES : CLONE_FILES | CLONE_FS);
    else
        SYS(SYS_close_range, first, below(a, 2) ? ~0U : first + below(a, 6), flags);
}

static void do_pipe(struct actor *a)
{
    int ends[2];
    switch (below(a, 8)) {
    case 0: SYS(SYS_pipe2, (int *)16, cloexec(a)); break;
    case 1: SYS(SYS_pipe2, ends, 1 << 30); break;
    case 2: case 3: SYS(SYS_pipe, ends); break;
    default: SYS(SYS_pipe2, ends, cloexec(a) | blockless(a)); break;
    }
}

static void do_socket(struct actor *a)
{
    int ends[2];
    int kind[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};
    int type = kind[below(a, 3)] | cloexec(a) | blockless(a);
    switch (below(a, 8)) {
    case 0: SYS(SYS_socketpair, AF_UNIX, type, 0, (int *)16); break;
    case 1: SYS(SYS_socket, AF_UNIX, 77, 0); break;
    case 2: SYS(SYS_socket, AF_INET, SOCK_STREAM | cloexec(a), 0); break;
#ifdef SYS_socketcall
    case 3: {
        long arguments[] = {AF_UNIX, type, 0, (long)ends};
        SYS(SYS_socketcall, below(a, 2) ? 1 : 8, arguments);
        break;
    }
#endif
    case 4: case 5: SYS(SYS_socket, AF_UNIX, type, 0); break;
    default: SYS(SYS_socketpair, AF_UNIX, type, 0, ends); break;
    }
}

static void do_accept(struct actor *a)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t length = sizeof address;
    int listener = (int)SYS(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | cloexec(a), 0);
    int caller = (int)SYS(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | cloexec(a), 0);
    /* An abstract name that the kernel chooses. */
    if (bind(listener, (struct sockaddr *)&address, sizeof address.sun_family) == 0 && listen(listener, 1) == 0
        && getsockname(listener, (struct sockaddr *)&address, &length) == 0 && below(a, 4))
        connect(caller, (struct sockaddr *)&address, length);
    /* Where a thread has put something else in its place, it may be what makes the call wait. */
    struct pollfd ready = {.fd = listener, .events = POLLIN};
    if (poll(&ready, 1, 0) == 1 || !below(a, 2)) {
        if (below(a, 3) && fcntl(listener, F_SETFL, O_NONBLOCK) == 0)
            SYS(SYS_accept4, listener, NULL, NULL, cloexec(a));
#ifdef SYS_accept
        else if (fcntl(listener, F_SETFL, O_NONBLOCK) == 0)
            SYS(SYS_accept, listener, NULL, NULL);
#endif
    }
    SYS(SYS_accept4, number(a), NULL, NULL, 1);
    if (below(a, 2))
        SYS(SYS_close, listener);
    if (below(a, 2))
        SYS(SYS_close, caller);
}

static void do_anon(struct actor *a)
{
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR2);
    switch (below(a, 13)) {
    case 0: SYS(SYS_eventfd, 1); break;
    case 1: SYS(SYS_eventfd2, 1, cloexec(a) | blockless(a)); break;
    case 2: SYS(SYS_epoll_create, below(a, 8)); break;
    case 3: SYS(SYS_epoll_create1, cloexec(a)); break;
    case 4: SYS(SYS_timerfd_create, CLOCK_MONOTONIC, cloexec(a) | blockless(a)); break;
    case 5: SYS(SYS_signalfd, -1, &mask, 8); break;
    case 6: SYS(SYS_signalfd4, -1, &mask, 8, cloexec(a)); break;
    case 7: SYS(SYS_signalfd4, number(a), &mask, 8, cloexec(a)); break;
    case 8: SYS(SYS_memfd_create, "oracle", below(a, 2)); break;
    case 9: SYS(SYS_inotify_init); break;
    case 10: SYS(SYS_inotify_init1, cloexec(a) | blockless(a)); break;
    case 11: SYS(SYS_eventfd2, 1, 1 << 30); break;
    default: SYS(SYS_memfd_create, "x (deleted)", below(a, 2)); break;
    }
}

/* Each where the kernel allows it; else it is one more call that fails. */
static void do_special(struct actor *a)
{
    switch (below(a, 10)) {
    case 0: SYS(SYS_userfaultfd, 1 | cloexec(a)); break;
    case 1: {
        uint64_t handled = 1;
        SYS(SYS_landlock_create_ruleset, &handled, sizeof handled, 0);
        break;
    }
    case 2: {
        char name[64];
        struct { long flags, messages, size, current, reserved[4]; } attributes = {.messages = 1, .size = 8};
        snprintf(name, sizeof name, "random_calls-%d-%ld", getpid(), (long)syscall(SYS_gettid));
        /* Never with O_CLOEXEC, which it sets anyway: fdinfo would show it of every copy for ever. */
        SYS(SYS_mq_open, name, O_CREAT | O_RDWR | O_NONBLOCK, 0600, &attributes);
        syscall(SYS_mq_unlink, name);
        break;
    }
    case 3: {
        /* struct perf_event_attr: a software event that counts nothing. */
        uint32_t attributes[32] = {1, sizeof attributes, 9};
        SYS(SYS_perf_event_open, attributes, 0, -1, -1, below(a, 2) ? 8UL : 0UL);
        break;
    }
    case 4: {
        /* BPF_MAP_CREATE of an array. */
        uint32_t attributes[32] = {2, 4, 4, 1};
        SYS(SYS_bpf, 0, attributes, sizeof attributes);
        break;
    }
    case 5: {
        uint32_t parameters[30] = {0};
        SYS(SYS_io_uring_setup, 1, parameters);
        break;
    }
    case 6: SYS(SYS_fanotify_init, below(a, 2), O_RDONLY | cloexec(a)); break;
    case 7: SYS(SYS_memfd_secret, cloexec(a)); break;
    case 8: SYS(SYS_fsopen, "tmpfs", below(a, 2)); break;
    default: SYS(SYS_open_tree, AT_FDCWD, "/tmp", below(a, 2) ? O_CLOEXEC : 0); break;
    }
}

static void do_pidfd(struct actor *a)
{
    pid_t whom[] = {getpid(), getppid(), 0, -1};
    int pidfd = (int)SYS(SYS_pidfd_open, whom[below(a, 2) ? 0 : below(a, 4)], below(a, 8) ? 0 : O_NONBLOCK);
    SYS(SYS_pidfd_getfd, pidfd, number(a), 0);
    SYS(SYS_pidfd_getfd, below(a, 4) ? pidfd : number(a), number(a), 0);
    if (below(a, 4))
        SYS(SYS_close, pidfd);
}

static int mailbox(struct actor *a)
{
    return below(a, 16) ? MAILBOXES + (int)below(a, 8) : number(a);
}

static void do_send(struct actor *a)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(4 * sizeof(int))];
    } box;
    char byte = 'x';
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = &box};
    int count = 1 + (int)below(a, 4), *fds = (int *)CMSG_DATA(&box.header);
    memset(&box, 0, sizeof box);
    box.header.cmsg_level = SOL_SOCKET;
    box.header.cmsg_type = SCM_RIGHTS;
    box.header.cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
    message.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
    /* Several that are open are seldom drawn at once: one and its neighbours. */
    for (int i = 0; i < count; i++)
        fds[i] = i > 0 && below(a, 2) ? fds[0] : number(a);
    CALL(sendmsg(mailbox(a), &message, MSG_DONTWAIT | MSG_NOSIGNAL));
}

static void do_receive(struct actor *a)
{
    char boxes[3][CMSG_SPACE(4 * sizeof(int))] __attribute__((aligned(8)));
    char bytes[3];
    struct iovec data[3];
    struct mmsghdr messages[3] = {{.msg_len = 0}};
    int flags = MSG_DONTWAIT | (below(a, 2) ? MSG_CMSG_CLOEXEC : 0) | (below(a, 6) ? 0 : MSG_PEEK);
    for (int i = 0; i < 3; i++) {
        data[i] = (struct iovec){&bytes[i], 1};
        messages[i].msg_hdr.msg_iov = &data[i];
        messages[i].msg_hdr.msg_iovlen = 1;
        messages[i].msg_hdr.msg_control = boxes[i];
        /* Room for all of them, for some, and for half a number. */
        messages[i].msg_hdr.msg_controllen = below(a, 2) ? sizeof boxes[i] : below(a, sizeof boxes[i] + 1);
    }
    if (below(a, 4))
        CALL(recvmsg(mailbox(a), &messages[0].msg_hdr, flags));
    else
        SYS(SYS_recvmmsg, mailbox(a), messages, 1 + below(a, 3), flags, NULL);
}

#ifdef __x86_64__
/* The i386 table, from 64-bit code. */
static long int80(long nr, long a, long b, long c)
{
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(nr), "b"(a), "c"(b), "d"(c) : "memory", "r8", "r9", "r10", "r11");
    return result;
}

static void do_int80(struct actor *a)
{
    switch (below(a, 6)) {
    case 0: CALL(int80(41, number(a), 0, 0)); break;                    /* dup */
    case 1: CALL(int80(63, number(a), number(a), 0)); break;            /* dup2 */
    case 2: CALL(int80(6, number(a), 0, 0)); break;                     /* close */
    case 3: CALL(int80(328, 0, cloexec(a), 0)); break;                  /* eventfd2 */
    case 4: CALL(int80(221, number(a), F_SETFD, (long)below(a, 2))); break; /* fcntl64 */
    default: CALL(int80(329, cloexec(a), 0, 0)); break;                 /* epoll_create1 */
    }
}
#endif

/* ---- calls that wait, and are interrupted ---- */

static _Atomic int ticks;

static void restarting(int restart);

static void tick(int sig)
{
    (void)sig;
    /* What is made again after a signal would wait for ever. */
    if (atomic_fetch_add(&ticks, 1) >= 2)
        restarting(0);
}

static void restarting(int restart)
{
    struct sigaction action = {.sa_handler = tick, .sa_flags = restart ? SA_RESTART : 0};
    sigaction(SIGALRM, &action, NULL);
}

static void do_wait(struct actor *a)
{
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGALRM};
    struct itimerspec often = {{0, 1000000}, {0, 1000000}}, never = {{0, 0}, {0, 0}};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int timer, ends[2], listener;
    char name[128], byte;
    event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
    if (syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer) != 0)
        return;
    atomic_store(&ticks, 0);
    restarting((int)below(a, 2));
    syscall(SYS_timer_settime, timer, 0, &often, NULL);
    switch (below(a, 4)) {
    case 0:
        snprintf(name, sizeof name, "%s/fifo", home);
        SYS(SYS_openat, AT_FDCWD, name, (below(a, 2) ? O_RDONLY : O_WRONLY) | cloexec(a));
        break;
    case 1:
        listener = (int)SYS(SYS_socket, AF_UNIX, SOCK_STREAM, 0);
        if (bind(listener, (struct sockaddr *)&address, sizeof address.sun_family) == 0 && listen(listener, 1) == 0)
            SYS(SYS_accept4, listener, NULL, NULL, cloexec(a));
        SYS(SYS_close, listener);
        break;
    case 2:
        if (SYS(SYS_pipe2, ends, 0) == 0) {
            if (read(ends[0], &byte, 1) == 0)
                byte = 0;
            SYS(SYS_close, ends[0]);
            SYS(SYS_close, ends[1]);
        }
        break;
    default: {
        struct iovec data = {&byte, 1};
        char box[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8)));
        struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = box, .msg_controllen = sizeof box};
        if (SYS(SYS_socketpair, AF_UNIX, SOCK_DGRAM, 0, ends) == 0) {
            CALL(recvmsg(ends[0], &message, 0));
            SYS(SYS_close, ends[0]);
            SYS(SYS_close, ends[1]);
        }
        break;
    }
    }
    syscall(SYS_timer_settime, timer, 0, &never, NULL);
    syscall(SYS_timer_delete, timer);
}

/* ---- processes and threads ---- */

static void work(struct actor *a);

static void set_limit(rlim_t soft)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = soft;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* Whether one more process may be made; if so, nobody else waits for children until `made`. */
static int may_make(struct actor *a)
{
    if (a->plain || a->level >= LEVELS || atomic_load(&control->stop) || atomic_flag_test_and_set(&children_busy))
        return 0;
    if (atomic_fetch_add(&control->live, 1) < control->processes)
        return 1;
    atomic_fetch_sub(&control->live, 1);
    atomic_flag_clear(&children_busy);
    return 0;
}

static void made(pid_t child)
{
    if (child > 0) {
        atomic_fetch_add(&control->started, 1);
        for (size_t i = 0; i < sizeof children / sizeof *children; i++)
            if (children[i] == 0) {
                children[i] = child;
                break;
            }
    } else {
        atomic_fetch_sub(&control->live, 1);
    }
    atomic_flag_clear(&children_busy);
}

/* The rest of a new process's life. `known`: libc made it. */
static void live_on(struct actor *parent, uint64_t random, int known)
{
    struct actor a = {.random = random, .level = parent->level + 1};
    a.budget = 20 + (int)below(&a, 200);
    if (!known && atomic_load(&threads) > 0)
        bare = 1;
    memset(children, 0, sizeof children);
    atomic_flag_clear(&children_busy);
    atomic_store(&threads, 0);
    for (int i = 0; i < STACKS; i++)
        atomic_store(&stack_used[i], 0);
    work(&a);
    _exit(0);
}

static void do_fork(struct actor *a)
{
    uint64_t random = seed(draw(a));
    uint32_t how = below(a, 3);
    if (!may_make(a))
        return;
#ifdef SYS_fork
    pid_t child = (pid_t)CALL(how == 0 ? syscall(SYS_fork) : bare ? syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) : fork());
#else
    pid_t child = (pid_t)CALL(how == 0 || bare ? syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) : fork());
#endif
    if (child == 0)
        live_on(a, random, how != 0 && !bare);
    made(child);
}

static void do_clone(struct actor *a)
{
    uint64_t random = seed(draw(a));
    uint64_t flags = 0;
    int pidfd = -1;
    pid_t child;
    if (below(a, 2))
        flags |= CLONE_FILES;
    if (below(a, 2))
        flags |= CLONE_PIDFD;
    if (below(a, 4) == 0)
        flags |= CLONE_FS;
    uint32_t modern = below(a, 2), signal = below(a, 4) ? SIGCHLD : 0, clear = below(a, 2), bad = below(a, 32);
    if (!may_make(a))
        return;
    if (modern) {
        struct clone_args args = {.flags = flags, .pidfd = (uintptr_t)&pidfd, .exit_signal = signal};
        if (clear)
            args.flags |= CLONE_CLEAR_SIGHAND;
        if (bad == 0)
            args.flags |= CLONE_SIGHAND;                                /* without CLONE_VM: EINVAL */
        child = (pid_t)SYS(SYS_clone3, &args, sizeof args);
    } else {
        child = (pid_t)SYS(SYS_clone, (unsigned long)flags | signal, 0, &pidfd, 0, 0);
    }
    if (child == 0)
        live_on(a, random, 0);
    made(child);
}

/* How to execute this program again and go on. */
struct again {
    char random[24], budget[16], level[16];
    char *argv[8];
};

static void prepare(struct again *g, const struct actor *a)
{
    snprintf(g->random, sizeof g->random, "%llu", (unsigned long long)a->random);
    snprintf(g->budget, sizeof g->budget, "%d", a->budget);
    snprintf(g->level, sizeof g->level, "%d", a->level);
    char *argv[] = {self, "-w", home, g->random, g->budget, g->level, NULL};
    memcpy(g->argv, argv, sizeof argv);
}

static void execute(struct again *g)
{
    extern char **environ;
    set_limit(ROOM);
    CALL(execve(self, g->argv, environ));
    set_limit(TOP);
}

static void do_exec(struct actor *a)
{
    char *argv[] = {"none", NULL};
    struct again again;
    switch (below(a, 8)) {
    case 0: CALL(execve("/none/such", argv, argv + 1)); break;
    case 1: CALL(execve(home, argv, argv + 1)); break;
    default:
        prepare(&again, a);
        execute(&again);
    }
}

static void step(struct actor *a);

struct shared_child {
    struct actor actor;
    struct again again;
    int executes;
};

static struct shared_child shared_children[STACKS];

/* A child that shares our memory: a few calls, then another program, or the end. */
static int share_memory(void *argument)
{
    struct shared_child *c = argument;
    while (c->actor.budget-- > 0 && !atomic_load(&control->stop))
        step(&c->actor);
    if (c->executes)
        execute(&c->again);
    _exit(0);
}

static void do_vfork(struct actor *a)
{
    struct actor next = {.random = seed(draw(a)), .budget = (int)below(a, 60), .level = a->level + 1};
    struct actor now = {.random = seed(draw(a)), .budget = (int)below(a, 8), .level = LEVELS, .plain = 1};
    uint32_t how = below(a, 4), executes = below(a, 2), shares = below(a, 4) == 0;
    int i = 0;
    pid_t child;
    if (!may_make(a))
        return;
    /* Who waits for children is alone here, so this is, too. */
    while (i < STACKS && atomic_load(&stack_used[i]))
        i++;
    if (i == STACKS) {
        made(-1);
        return;
    }
    struct shared_child *c = &shared_children[i];
    c->actor = now;
    c->executes = (int)executes;
    prepare(&c->again, &next);
    if (how == 0) {
        child = one_more() ? vfork() : -1;
        if (child == 0)
            share_memory(c);
    } else {
        int flags = CLONE_VM | SIGCHLD | CLONE_CHILD_CLEARTID | (shares ? CLONE_FILES : 0);
        if (how != 1)
            flags |= CLONE_VFORK;
        atomic_store(&stack_used[i], 1);
        child = (pid_t)CALL(clone(share_memory, stacks[i] + STACK, flags, c, NULL, NULL, &stack_used[i]));
        if (child == -1)
            atomic_store(&stack_used[i], 0);
    }
    made(child);
}

static void do_spawn(struct actor *a)
{
    extern char **environ;
    struct actor next = {.random = seed(draw(a)), .budget = (int)below(a, 60), .level = a->level + 1};
    struct again again;
    posix_spawn_file_actions_t actions;
    pid_t child = -1;
    int kinds[3], from[3], to[3];
    for (int i = 0; i < 3; i++) {
        kinds[i] = (int)below(a, 4);
        from[i] = 3 + (int)below(a, TOP - 3);
        to[i] = 3 + (int)below(a, TOP - 3);
    }
    if (bare || !may_make(a))
        return;
    prepare(&again, &next);
    posix_spawn_file_actions_init(&actions);
    for (int i = 0; i < 3; i++)
        switch (kinds[i]) {
        case 0: posix_spawn_file_actions_addopen(&actions, to[i], "/dev/null", O_RDWR, 0); break;
        case 1: posix_spawn_file_actions_addclose(&actions, to[i]); break;
        case 2: posix_spawn_file_actions_adddup2(&actions, 2, to[i]); break;
        /* Often nothing is there: then the child does not execute anything. */
        default: posix_spawn_file_actions_adddup2(&actions, from[i], to[i]); break;
        }
    set_limit(ROOM);
    if (CALL(posix_spawn(&child, self, &actions, NULL, again.argv, environ)) != 0)
        child = -1;
    set_limit(TOP);
    posix_spawn_file_actions_destroy(&actions);
    made(child);
}

static void *thread(void *argument)
{
    struct actor a = {.random = seed((uintptr_t)argument), .level = 1};
    a.budget = 10 + (int)below(&a, 100);
    while (a.budget-- > 0 && !atomic_load(&control->stop))
        step(&a);
    atomic_fetch_sub(&threads, 1);
    return NULL;
}

static void do_thread(struct actor *a)
{
    pthread_attr_t attributes;
    pthread_t ignored;
    uintptr_t argument = draw(a);
    if (a->plain || bare || control->threads == 0)
        return;
    if (atomic_fetch_add(&threads, 1) >= control->threads) {
        atomic_fetch_sub(&threads, 1);
        return;
    }
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 256 * 1024);
    if (CALL(pthread_create(&ignored, &attributes, thread, (void *)argument)) != 0)
        atomic_fetch_sub(&threads, 1);
    pthread_attr_destroy(&attributes);
}

/* Waits for children that have ended, and sometimes makes one end in the middle of whatever it is at. A child's number is
 * used only by whoever may wait for it, and while nobody else does. */
static void do_kill(struct actor *a)
{
    uint32_t which = below(a, sizeof children / sizeof *children), kills = below(a, 3);
    pid_t child;
    if (a->plain || atomic_flag_test_and_set(&children_busy))
        return;
    if (kills && children[which] > 0)
        kill(children[which], SIGKILL);
    while ((child = waitpid(-1, NULL, WNOHANG | __WALL)) > 0) {
        atomic_fetch_sub(&control->live, 1);
        for (size_t i = 0; i < sizeof children / sizeof *children; i++)
            if (children[i] == child)
                children[i] = 0;
    }
    atomic_flag_clear(&children_busy);
}

/* The groups that -o names, and how often each is drawn. */
static const struct {
    const char *name;
    void (*call)(struct actor *a);
    int weight;
    int plain;                                 /* leaves memory alone */
} groups[] = {
    {"open", do_open, 20, 1},
    {"dup", do_dup, 20, 1},
    {"close", do_close, 30, 1},
    {"flags", do_flags, 10, 1},
    {"ioctl", do_ioctl, 4, 1},
    {"range", do_range, 3, 1},
    {"unshare", do_unshare, 2, 1},
    {"pipe", do_pipe, 6, 1},
    {"socket", do_socket, 5, 1},
    {"accept", do_accept, 2, 1},
    {"anon", do_anon, 10, 1},
    {"handle", do_handle, 1, 1},
    {"special", do_special, 4, 1},
    {"pidfd", do_pidfd, 3, 1},
    {"pass", do_send, 8, 1},
    {"pass", do_receive, 8, 1},
#ifdef __x86_64__
    {"int80", do_int80, 3, 1},
#endif
    {"wait", do_wait, 1, 0},
    {"fork", do_fork, 3, 0},
    {"vfork", do_vfork, 2, 0},
    {"clone", do_clone, 3, 0},
    {"spawn", do_spawn, 1, 0},
    {"exec", do_exec, 1, 0},
    {"thread", do_thread, 4, 0},
    {"kill", do_kill, 4, 0},
};
enum { GROUPS = sizeof groups / sizeof *groups };

static void step(struct actor *a)
{
    int total = 0;
    for (int i = 0; i < GROUPS; i++)
        total += groups[i].weight;
    int drawn = (int)below(a, (uint32_t)total);
    for (int i = 0; i < GROUPS; i++) {
        drawn -= groups[i].weight;
        if (drawn >= 0)
            continue;
        if ((control->groups >> i & 1) && (groups[i].plain || !a->plain))
            groups[i].call(a);
        return;
    }
}

/* Sockets to pass descriptors over, where nothing else is likely to be put. */
static void mailboxes(void)
{
    int kinds[] = {SOCK_DGRAM, SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM}, ends[2];
    for (int i = 0; i < 4; i++) {
        int first = MAILBOXES + 2 * i;
        if (fcntl(first, F_GETFD) != -1 && fcntl(first + 1, F_GETFD) != -1)
            continue;
        if (socketpair(AF_UNIX, kinds[i], 0, ends) != 0)
            continue;
        for (int k = 0; k < 2; k++)
            if (ends[k] != first + k) {
                dup2(ends[k], first + k);
                close(ends[k]);
            }
    }
}

static void work(struct actor *a)
{
    set_limit(TOP);
    while (a->budget-- > 0 && !atomic_load(&control->stop))
        step(a);
    /* Sometimes the first thread goes and the others stay. */
    if (atomic_load(&threads) > 0 && below(a, 2))
        syscall(SYS_exit, 0);
    _exit(0);
}

static void use_control(int flags)
{
    char name[128];
    snprintf(name, sizeof name, "%s/control", home);
    int fd = (int)need(open(name, flags | O_RDWR | O_CLOEXEC, 0600), name);
    if (flags & O_CREAT)
        need(ftruncate(fd, 4096), name);
    control = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    need(control == MAP_FAILED ? -1 : 0, name);
    close(fd);
}

static uint32_t chosen(char *names)
{
    uint32_t mask = 0;
    for (char *name = strtok(names, ","); name != NULL; name = strtok(NULL, ",")) {
        uint32_t before = mask;
        for (int i = 0; i < GROUPS; i++)
            if (strcmp(groups[i].name, name) == 0 || strcmp("all", name) == 0)
                mask |= 1U << i;
        if (mask == before) {
            fprintf(stderr, "random_calls: no group %s\n", name);
            exit(2);
        }
    }
    return mask;
}

/* Whoever still lives long after the last call has lost its way. */
static void too_late(int sig)
{
    (void)sig;
    kill(0, SIGKILL);
}

static void supervise(uint64_t random)
{
    struct actor a = {.random = random};
    int left = 0;
    signal(SIGALRM, too_late);
    for (;;) {
        pid_t child;
        while (!atomic_load(&control->stop) && atomic_fetch_add(&control->live, 1) < control->processes) {
            uint64_t next = seed(draw(&a));
            atomic_fetch_add(&control->started, 1);
            child = fork();
            if (child == 0)
                live_on(&a, next, 1);
            need(child, "fork");
        }
        if (!atomic_load(&control->stop))
            atomic_fetch_sub(&control->live, 1);
        else if (!left++)
            alarm(60);
        child = waitpid(-1, NULL, __WALL);
        if (child == -1 && errno == ECHILD && atomic_load(&control->stop))
            return;
        if (child > 0)
            atomic_fetch_sub(&control->live, 1);
    }
}

int main(int argc, char **argv)
{
    uint64_t random = 1;
    uint32_t calls = 2000, mask = ~0U;
    int processes = 3, more = 2, option, own = 1;
    char name[128];
    need(readlink("/proc/self/exe", self, sizeof self - 1), "/proc/self/exe");
    if (argc == 6 && strcmp(argv[1], "-w") == 0) {
        struct actor a = {.random = strtoull(argv[3], NULL, 10), .budget = atoi(argv[4]), .level = atoi(argv[5])};
        snprintf(home, sizeof home, "%s", argv[2]);
        use_control(0);
        mailboxes();
        work(&a);
    }
    while ((option = getopt(argc, argv, "s:c:p:t:o:d:")) != -1)
        switch (option) {
        case 's': random = strtoull(optarg, NULL, 10); break;
        case 'c': calls = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 'p': processes = atoi(optarg); break;
        case 't': more = atoi(optarg); break;
        case 'o': mask = chosen(optarg); break;
        case 'd': own = 0; snprintf(home, sizeof home, "%s", optarg); break;
        default: return 2;
        }
    if (own && mkdtemp(home) == NULL) {
        perror(home);
        return 2;
    }
    /* A group of its own: whoever loses its way is ended with it. Orphans become the supervisor's. */
    setpgid(0, 0);
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    use_control(O_CREAT | O_TRUNC);
    control->limit = calls;
    control->groups = mask;
    control->processes = processes;
    control->threads = more;
    snprintf(name, sizeof name, "%s/fifo", home);
    need(mkfifo(name, 0600), name);
    mailboxes();
    supervise(seed(random));
    unlink(name);
    for (int i = 0; i < 8; i++) {
        snprintf(name, sizeof name, "%s/file%d", home, i);
        unlink(name);
    }
    if (own) {
        snprintf(name, sizeof name, "%s/control", home);
        unlink(name);
        rmdir(home);
    }
    return 0;
}
