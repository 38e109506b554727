/* Why: a 64-bit program can make 32-bit calls. `int $0x80` takes i386 numbers (open is 5, close is 6, and 3, which is
 * close for x86-64, is read), and 32-bit pointers. A tracer that takes the number without the architecture of the
 * call sees nonsense; a seccomp filter that kills what is not x86-64 kills this program. */
#include "target.h"
#include <linux/bpf.h>
#include <signal.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#ifdef __x86_64__
enum {
    I386_READ = 3, I386_OPEN = 5, I386_CLOSE = 6, I386_CREAT = 8, I386_GETPID = 20, I386_DUP = 41, I386_PIPE = 42,
    I386_IOCTL = 54, I386_DUP2 = 63, I386_SOCKETCALL = 102, I386_FCNTL64 = 221, I386_EPOLL_CREATE = 254,
    I386_OPENAT = 295, I386_UNSHARE = 310, I386_EVENTFD = 323, I386_EVENTFD2 = 328, I386_DUP3 = 330, I386_PIPE2 = 331,
    I386_INOTIFY_INIT1 = 332, I386_MEMFD_CREATE = 356, I386_BPF = 357, I386_SOCKETPAIR = 360, I386_RECVMSG = 372,
    I386_PIDFD_OPEN = 434, I386_CLOSE_RANGE = 436, I386_OPENAT2 = 437, I386_PIDFD_GETFD = 438
};

static long int80_4(long number, long a, long b, long c, long d)
{
    long result;
    /* Kernels before 4.17 do not keep r8 to r11. */
    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d)
                     : "memory", "r8", "r9", "r10", "r11");
    result = (int)result;
    if (result < 0 && result > -4096) {
        errno = (int)-result;
        return -1;
    }
    return result;
}

static long int80(long number, long a, long b, long c)
{
    return int80_4(number, a, b, c, 0);
}

/* Says what came of a call, and makes one that changes nothing, after which a tracer can look. */
static long did(const char *name, long result)
{
    said(result, "i386 %s", name);
    int80(I386_CLOSE_RANGE, 200, 200, 0);
    return result;
}

/* Below 4 GiB, as i386 wants it. */
static struct {
    char path[64];
    int fds[2];
    uint32_t socket[6];
    struct {
        uint64_t flags, mode, resolve;
    } how;
    struct {
        uint32_t name, name_length, data, data_length, control, control_length, flags;
    } message;
    struct {
        uint32_t base, length;
    } data;
    struct {
        uint32_t length, level, type;
        int fds[6];
    } rights;
    union bpf_attr map;
    char byte;
} *low;

static void pass(int out, int fd)
{
    struct iovec data = { "x", 1 };
    _Alignas(16) char control[CMSG_SPACE(2 * sizeof(int))] = { 0 };
    struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(2 * sizeof(int));
    memcpy(CMSG_DATA(head), (int[]){ fd, out }, 2 * sizeof(int));
    need(sendmsg(out, &message, 0), "sendmsg");
    low->data.base = (uintptr_t)&low->byte;
    low->data.length = 1;
    memset(&low->message, 0, sizeof low->message);
    low->message.data = (uintptr_t)&low->data;
    low->message.data_length = 1;
    low->message.control = (uintptr_t)&low->rights;
    low->message.control_length = sizeof low->rights;
}

/* Calls of every family, through the i386 gate of a 64-bit program. */
static void families(void)
{
    const long low_path = (long)low->path, low_fds = (long)low->fds, args = (long)low->socket;
    did("creat", int80(I386_CREAT, low_path, 0600, 0));
    did("openat", int80_4(I386_OPENAT, AT_FDCWD, low_path, O_RDONLY | O_CLOEXEC, 0));
    low->how.flags = O_RDWR | O_CLOEXEC;
    did("openat2", int80_4(I386_OPENAT2, AT_FDCWD, low_path, (long)&low->how, sizeof low->how));
    long fd = did("open", int80(I386_OPEN, low_path, O_RDONLY, 0));
    did("ioctl(FIOCLEX)", int80(I386_IOCTL, fd, FIOCLEX, 0));
    did("ioctl(FIONCLEX)", int80(I386_IOCTL, fd, FIONCLEX, 0));
    did("fcntl64(F_SETFD)", int80(I386_FCNTL64, fd, F_SETFD, FD_CLOEXEC));
    did("fcntl64(F_DUPFD)", int80(I386_FCNTL64, fd, F_DUPFD, 30));
    did("fcntl64(F_DUPFD_CLOEXEC)", int80(I386_FCNTL64, fd, F_DUPFD_CLOEXEC, 30));
    did("dup3", int80(I386_DUP3, fd, 33, O_CLOEXEC));
    did("pipe", int80(I386_PIPE, low_fds, 0, 0));
    did("pipe2", int80(I386_PIPE2, low_fds, O_CLOEXEC, 0));
    did("eventfd", int80(I386_EVENTFD, 0, 0, 0));
    did("eventfd2", int80(I386_EVENTFD2, 0, O_CLOEXEC, 0));
    did("epoll_create", int80(I386_EPOLL_CREATE, 1, 0, 0));
    did("inotify_init1", int80(I386_INOTIFY_INIT1, O_CLOEXEC, 0, 0));
    did("memfd_create", int80(I386_MEMFD_CREATE, low_path, 1, 0));
    low->map.map_type = BPF_MAP_TYPE_ARRAY;
    low->map.key_size = low->map.max_entries = 4;
    low->map.value_size = 8;
    did("bpf", int80(I386_BPF, BPF_MAP_CREATE, (long)&low->map, sizeof low->map));
    long process = did("pidfd_open", int80(I386_PIDFD_OPEN, getpid(), 0, 0));
    did("pidfd_getfd", int80(I386_PIDFD_GETFD, process, fd, 0));
    low->socket[0] = AF_UNIX;
    low->socket[1] = SOCK_STREAM | SOCK_CLOEXEC;
    did("socketcall(socket)", int80(I386_SOCKETCALL, 1, args, 0));
    did("socketpair", int80_4(I386_SOCKETPAIR, AF_UNIX, SOCK_DGRAM, 0, low_fds));
    int out = low->fds[0], in = low->fds[1];
    pass(out, fd);
    did("recvmsg", int80(I386_RECVMSG, in, (long)&low->message, MSG_CMSG_CLOEXEC));
    pass(out, fd);
    low->socket[0] = in;
    low->socket[1] = (uintptr_t)&low->message;
    low->socket[2] = 0;
    did("socketcall(recvmsg)", int80(I386_SOCKETCALL, 17, args, 0));
    did("unshare", int80(I386_UNSHARE, 0x400, 0, 0));
    did("close_range(CLOEXEC)", int80(I386_CLOSE_RANGE, 3, 20, 4));
    did("close_range", int80(I386_CLOSE_RANGE, 3, 100, 0));
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
    low = (void *)(path + 1024);
    strcpy(low->path, path);
    families();

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
