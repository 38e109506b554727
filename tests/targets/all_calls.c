/* all_calls [-r]: makes each call that begins, changes or ends the life of a number, one step each.
 *
 * Why: what fdwatch believes of a table must be what the kernel says of it, after any call. Each step prints the call
 * and its result, then one line for each number from 3 up that is open, as the kernel sees it; then it makes a call and
 * raises a signal that do nothing, so that a tracer gets stops at which the two can be compared. The number is looked at
 * with readlink and F_GETFD, which open nothing, so the steps are the only events.
 *
 * Inode numbers differ from run to run: pipes and sockets are printed as pipe:[A], socket:[B] in the order in which
 * they were met, and files relative to the target's own directory. -r prints what the kernel says as it is. A call that
 * this kernel does not have or does not allow is named in a line "skip NAME: ERRNO", and its step goes on without it.
 * Built as a 64-bit program and, as all_calls32, as a 32-bit one. */
#include "target.h"
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/nsfs.h>
#include <linux/openat2.h>
#include <linux/perf_event.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <mqueue.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>

enum { HIGHEST = 64, INODES = 26 };

static char home[] = "/tmp/all_calls.XXXXXX";
static int raw;

/* "pipe:[4711]" -> "pipe:[A]", "/tmp/all_calls.x/a" -> "./a" */
static void print_path(const char *path)
{
    static char met[INODES][64];
    size_t prefix = strlen(home);
    const char *bracket = strchr(path, '[');
    if (raw || (bracket == NULL && strncmp(path, home, prefix) != 0)) {
        /* Which terminal it is differs from run to run, too. */
        printf("%s", !raw && strncmp(path, "/dev/pts/", 9) == 0 ? "/dev/pts/N" : path);
    } else if (bracket == NULL) {
        printf(".%s", path + prefix);
    } else if (strspn(bracket + 1, "0123456789") == 0) {
        printf("%s", path);                                             /* anon_inode:[eventfd] */
    } else {
        int i = 0;
        while (i < INODES - 1 && met[i][0] != '\0' && strcmp(met[i], path) != 0)
            i++;
        snprintf(met[i], sizeof met[i], "%.63s", path);
        printf("%.*s[%c]", (int)(bracket - path), path, 'A' + i);
    }
}

static void step(const char *name)
{
    int open_ones = 0;
    for (int fd = 3; fd < HIGHEST; fd++) {
        char link[64], path[4096];
        int flags = fcntl(fd, F_GETFD);
        if (flags == -1)
            continue;
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t length = need(readlink(link, path, sizeof path - 1), link);
        path[length] = '\0';
        printf("step %s fd=%d path=", name, fd);
        print_path(path);
        printf(" cloexec=%d\n", flags & FD_CLOEXEC ? 1 : 0);
        open_ones++;
    }
    if (open_ones == 0)
        printf("step %s none\n", name);
    /* A call that changes nothing, for a tracer that looks only after calls. */
    close_range(HIGHEST, HIGHEST, 0);
    raise(SIGUSR1);
}

/* One call and its step, or why there is none here. */
__attribute__((format(printf, 3, 4))) static long tried(const char *name, long result, const char *what, ...)
{
    int error = errno;
    va_list arguments;
    if (result == -1) {
        printf("skip %s: %s\n", name, strerrorname_np(error));
        return -1;
    }
    printf("call ");
    va_start(arguments, what);
    vprintf(what, arguments);
    va_end(arguments);
    printf(" = %ld\n", result);
    step(name);
    return result;
}

static void nothing(int signal)
{
    (void)signal;
}

/* The calls of each family leave an empty table behind. */
static void clear(const char *name)
{
    said(close_range(3, ~0U, 0), "close_range(3, ~0, 0)");
    step(name);
}

static void files(void)
{
    /* glibc's open is openat, and it has no openat2: the calls are made by number where that matters. */
#ifdef SYS_open
    said(syscall(SYS_open, "a", O_RDWR | O_CREAT, 0600), "open(a)");
    step("open");
#endif
    said(openat(AT_FDCWD, "a", O_RDONLY | O_CLOEXEC), "openat(a)");
    step("openat");
    int directory = said(open(".", O_PATH | O_DIRECTORY | O_CLOEXEC), "openat(., O_PATH)");
    struct open_how how = { .flags = O_WRONLY | O_CREAT | O_CLOEXEC, .mode = 0600, .resolve = RESOLVE_BENEATH };
    said(syscall(SYS_openat2, directory, "b", &how, sizeof how), "openat2(b)");
    step("openat2");
#ifdef SYS_creat
    said(syscall(SYS_creat, "c", 0600), "creat(c)");
    step("creat");
#endif
    said(open("missing", O_RDONLY), "openat(missing)");
    step("openat-fails");
    said(unlink("b"), "unlink(b)");
    step("unlink");
    said(close(3), "close(3)");
    step("close");
    said(close(3), "close(3)");
    step("close-fails");
    clear("files-closed");
}

static void copies(void)
{
    int fd = said(open("a", O_RDONLY | O_CLOEXEC), "openat(a)");
    int other = said(open("/dev/null", O_WRONLY), "openat(/dev/null)");
    said(dup(fd), "dup(%d)", fd);
    step("dup");
    said(dup2(fd, 20), "dup2(%d, 20)", fd);
    step("dup2");
    said(dup2(other, 20), "dup2(%d, 20)", other);
    step("dup2-over");
    said(dup2(fd, fd), "dup2(%d, %d)", fd, fd);
    step("dup2-itself");
    said(dup2(50, 20), "dup2(50, 20)");
    step("dup2-fails");
    said(dup3(fd, 21, O_CLOEXEC), "dup3(%d, 21, O_CLOEXEC)", fd);
    step("dup3");
    said(dup3(fd, fd, 0), "dup3(%d, %d)", fd, fd);
    step("dup3-itself");
    said(fcntl(fd, F_DUPFD, 20), "fcntl(%d, F_DUPFD, 20)", fd);
    step("F_DUPFD");
    said(fcntl(fd, F_DUPFD_CLOEXEC, 30), "fcntl(%d, F_DUPFD_CLOEXEC, 30)", fd);
    step("F_DUPFD_CLOEXEC");
    said(fcntl(fd, F_SETFD, 0), "fcntl(%d, F_SETFD, 0)", fd);
    step("F_SETFD-clear");
    said(fcntl(other, F_SETFD, FD_CLOEXEC), "fcntl(%d, F_SETFD, FD_CLOEXEC)", other);
    step("F_SETFD-set");
    said(close_range(20, 29, CLOSE_RANGE_CLOEXEC), "close_range(20, 29, CLOSE_RANGE_CLOEXEC)");
    step("close_range-cloexec");
    said(close_range(4, 21, 0), "close_range(4, 21, 0)");
    step("close_range");
    said(close_range(9, 8, 0), "close_range(9, 8, 0)");
    step("close_range-fails");
    clear("copies-closed");
}

static void channels(void)
{
    int ends[2];
#ifdef SYS_socketcall
    unsigned long one[3] = { AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC }, two[4] = { AF_UNIX, SOCK_STREAM, 0, (unsigned long)ends };
    said(syscall(SYS_socketcall, 1, one), "socketcall(socket)");
    step("socketcall-socket");
    said(syscall(SYS_socketcall, 8, two), "socketcall(socketpair)");
    step("socketcall-socketpair");
#endif
#ifdef SYS_pipe
    said(syscall(SYS_pipe, ends), "pipe");
    step("pipe");
#endif
    said(pipe2(ends, O_CLOEXEC | O_NONBLOCK), "pipe2");
    step("pipe2");
    said(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), "socketpair");
    step("socketpair");
    clear("pairs-closed");

    struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "s" };
    int listener = said(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
    step("socket");
    need(bind(listener, (struct sockaddr *)&address, sizeof address), "bind");
    need(listen(listener, 2), "listen");
    for (int i = 0; i < 2; i++) {
        int client = need(socket(AF_UNIX, SOCK_STREAM, 0), "socket");
        need(connect(client, (struct sockaddr *)&address, sizeof address), "connect");
    }
    step("connect");
    /* accept without a flag, and without an address: two calls that both must be seen. */
#ifdef SYS_accept
    said(syscall(SYS_accept, listener, NULL, NULL), "accept(%d)", listener);
#else
    unsigned long asked[3] = { listener };
    said(syscall(SYS_socketcall, 5, asked), "socketcall(accept(%d))", listener);
#endif
    step("accept");
    said(accept4(listener, NULL, NULL, SOCK_CLOEXEC), "accept4(%d, SOCK_CLOEXEC)", listener);
    step("accept4");
    clear("sockets-closed");
}

static void anonymous(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
#ifdef SYS_eventfd
    said(syscall(SYS_eventfd, 0), "eventfd");
    step("eventfd");
#endif
    said(eventfd(0, EFD_CLOEXEC), "eventfd2(EFD_CLOEXEC)");
    step("eventfd2");
#ifdef SYS_epoll_create
    said(syscall(SYS_epoll_create, 1), "epoll_create");
    step("epoll_create");
#endif
    said(epoll_create1(EPOLL_CLOEXEC), "epoll_create1(EPOLL_CLOEXEC)");
    step("epoll_create1");
    said(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), "timerfd_create(TFD_CLOEXEC)");
    step("timerfd_create");
    clear("first-anonymous-closed");
#ifdef SYS_signalfd
    said(syscall(SYS_signalfd, -1, &set, 8), "signalfd(-1)");
    step("signalfd");
#endif
    int fd = said(signalfd(-1, &set, SFD_CLOEXEC), "signalfd4(-1, SFD_CLOEXEC)");
    step("signalfd4");
    said(signalfd(fd, &set, SFD_CLOEXEC), "signalfd4(%d, SFD_CLOEXEC)", fd);        /* changes it, begins nothing */
    step("signalfd4-again");
    said(memfd_create("m", MFD_CLOEXEC), "memfd_create(MFD_CLOEXEC)");
    step("memfd_create");
#ifdef SYS_inotify_init
    said(syscall(SYS_inotify_init), "inotify_init");
    step("inotify_init");
#endif
    said(inotify_init1(IN_CLOEXEC), "inotify_init1(IN_CLOEXEC)");
    step("inotify_init1");
    clear("second-anonymous-closed");
}

/* Not every header has these. */
#ifndef SYS_open_tree_attr
#define SYS_open_tree_attr 467
#endif
#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#define SO_PEERPIDFD 77
#endif
#ifndef KVM_CREATE_VM
#define KVM_CREATE_VM 0xae01
#define KVM_CREATE_VCPU 0xae41
#endif
#ifndef PIDFD_GET_UTS_NAMESPACE
#define PIDFD_GET_UTS_NAMESPACE 0xff0a
#endif

/* What needs the rights of an administrator, or a newer kernel, is skipped by name. */
static void rare(void)
{
    union {
        struct file_handle handle;
        char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
    } file = { .handle = { .handle_bytes = MAX_HANDLE_SZ } };
    int mount_id;
    int directory = need(open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open(.)");
    if (name_to_handle_at(AT_FDCWD, "a", &file.handle, &mount_id, 0) == 0)
        tried("open_by_handle_at", open_by_handle_at(directory, &file.handle, O_RDONLY | O_CLOEXEC), "open_by_handle_at");
    else
        printf("skip open_by_handle_at: name_to_handle_at: %s\n", strerrorname_np(errno));

    tried("fanotify_init", fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC, O_RDONLY), "fanotify_init(FAN_CLOEXEC)");
    tried("fanotify_init-plain", fanotify_init(FAN_CLASS_NOTIF, O_RDONLY), "fanotify_init(0)");
    tried("userfaultfd", syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY), "userfaultfd(O_CLOEXEC)");
    unsigned long long access = 1;                                  /* LANDLOCK_ACCESS_FS_EXECUTE */
    tried("landlock_create_ruleset", syscall(SYS_landlock_create_ruleset, &access, sizeof access, 0),
          "landlock_create_ruleset(0)");
    tried("landlock-version", syscall(SYS_landlock_create_ruleset, NULL, 0, 1), "landlock_create_ruleset(VERSION)");
    static const char queue[] = "/fdwatch_all_calls";
    struct mq_attr attributes = { .mq_maxmsg = 1, .mq_msgsize = 8 };
    long q = mq_open(queue, O_RDWR | O_CREAT, 0600, &attributes);
    int error = errno;
    mq_unlink(queue);
    errno = error;
    tried("mq_open", q, "mq_open");
    struct perf_event_attr event = { .type = PERF_TYPE_SOFTWARE, .size = sizeof event,
                                     .config = PERF_COUNT_SW_CPU_CLOCK, .disabled = 1, .exclude_kernel = 1 };
    tried("perf_event_open", syscall(SYS_perf_event_open, &event, 0, -1, -1, PERF_FLAG_FD_CLOEXEC),
          "perf_event_open(PERF_FLAG_FD_CLOEXEC)");
    tried("perf_event_open-plain", syscall(SYS_perf_event_open, &event, 0, -1, -1, 0), "perf_event_open(0)");
    clear("first-rare-closed");

    union bpf_attr map = { .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 8, .max_entries = 1 };
    long m = tried("bpf-map", syscall(SYS_bpf, BPF_MAP_CREATE, &map, sizeof map), "bpf(BPF_MAP_CREATE)");
    if (m != -1) {
        unsigned key = 0;
        unsigned long long value;
        union bpf_attr look = { .map_fd = m, .key = (unsigned long)&key, .value = (unsigned long)&value };
        said(syscall(SYS_bpf, BPF_MAP_LOOKUP_ELEM, &look, sizeof look), "bpf(BPF_MAP_LOOKUP_ELEM)");
        step("bpf-look-up");
    }
    struct bpf_insn code[] = { { .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0 }, { .code = BPF_JMP | BPF_EXIT } };
    union bpf_attr program = { .prog_type = BPF_PROG_TYPE_SOCKET_FILTER, .insns = (unsigned long)code, .insn_cnt = 2,
                               .license = (unsigned long)"MIT" };
    tried("bpf-program", syscall(SYS_bpf, BPF_PROG_LOAD, &program, sizeof program), "bpf(BPF_PROG_LOAD)");
    union bpf_attr stats = { .enable_stats = { .type = BPF_STATS_RUN_TIME } };
    tried("bpf-stats", syscall(SYS_bpf, BPF_ENABLE_STATS, &stats, sizeof stats), "bpf(BPF_ENABLE_STATS)");
    struct io_uring_params ring = { 0 };
    tried("io_uring_setup", syscall(SYS_io_uring_setup, 4, &ring), "io_uring_setup(4)");
    tried("memfd_secret", syscall(SYS_memfd_secret, O_CLOEXEC), "memfd_secret(O_CLOEXEC)");
    clear("second-rare-closed");

    long context = tried("fsopen", syscall(SYS_fsopen, "tmpfs", 1), "fsopen(tmpfs, FSOPEN_CLOEXEC)");
    if (context != -1 && syscall(SYS_fsconfig, context, 6, NULL, NULL, 0) == 0)         /* FSCONFIG_CMD_CREATE */
        tried("fsmount", syscall(SYS_fsmount, context, 1, 0), "fsmount(FSMOUNT_CLOEXEC)");
    tried("fspick", syscall(SYS_fspick, AT_FDCWD, "/", 0), "fspick(/)");
    tried("open_tree", syscall(SYS_open_tree, AT_FDCWD, ".", O_CLOEXEC), "open_tree(., OPEN_TREE_CLOEXEC)");
    tried("open_tree-clone", syscall(SYS_open_tree, AT_FDCWD, ".", 1), "open_tree(., OPEN_TREE_CLONE)");
    tried("open_tree_attr", syscall(SYS_open_tree_attr, AT_FDCWD, ".", O_CLOEXEC, NULL, 0), "open_tree_attr(.)");
    clear("trees-closed");
}

static void processes(void)
{
    int fd = need(open("a", O_RDONLY), "open(a)");
    long pid = tried("pidfd_open", syscall(SYS_pidfd_open, getpid(), 0), "pidfd_open");
    if (pid != -1) {
        tried("pidfd_getfd", syscall(SYS_pidfd_getfd, pid, fd, 0), "pidfd_getfd(%ld, %d)", pid, fd);
        said(syscall(SYS_pidfd_getfd, pid, 60, 0), "pidfd_getfd(%ld, 60)", pid);
        step("pidfd_getfd-fails");
        tried("PIDFD_GET_UTS_NAMESPACE", ioctl(pid, PIDFD_GET_UTS_NAMESPACE, 0), "ioctl(PIDFD_GET_UTS_NAMESPACE)");
    }
    said(syscall(SYS_unshare, CLONE_FS), "unshare(CLONE_FS)");
    step("unshare-other");
    clear("processes-closed");
}

static pthread_barrier_t gate;

static void *shares(void *unused)
{
    pthread_barrier_wait(&gate);
    pthread_barrier_wait(&gate);
    /* In a table that is no more the other's. */
    need(open("/dev/zero", O_RDONLY), "open(/dev/zero)");
    return unused;
}

/* A thread has the table too, until the first one takes a copy. */
static void unshared(void)
{
    pthread_t thread;
    int fd = need(open("a", O_RDONLY), "open(a)");
    pthread_barrier_init(&gate, NULL, 2);
    if (pthread_create(&thread, NULL, shares, NULL) != 0) {
        printf("skip unshare: no thread\n");
        return;
    }
    pthread_barrier_wait(&gate);
    tried("unshare", syscall(SYS_unshare, CLONE_FILES), "unshare(CLONE_FILES)");
    said(fcntl(fd, F_SETFD, FD_CLOEXEC), "fcntl(%d, F_SETFD, FD_CLOEXEC)", fd);
    step("unshare-set");
    pthread_barrier_wait(&gate);
    pthread_join(thread, NULL);
    step("unshare-other-opened");
    clear("unshare-closed");
}

static void requests(void)
{
    int fd = need(open("a", O_RDONLY), "open(a)");
    said(ioctl(fd, FIOCLEX), "ioctl(%d, FIOCLEX)", fd);
    step("FIOCLEX");
    said(ioctl(fd, FIONCLEX), "ioctl(%d, FIONCLEX)", fd);
    step("FIONCLEX");
    said(ioctl(60, FIOCLEX), "ioctl(60, FIOCLEX)");
    step("FIOCLEX-fails");
    int path = need(open(".", O_PATH), "open(., O_PATH)");
    said(ioctl(path, FIOCLEX), "ioctl(%d, FIOCLEX)", path);             /* open, and EBADF all the same */
    step("FIOCLEX-path");
    said(fcntl(path, F_SETFD, FD_CLOEXEC), "fcntl(%d, F_SETFD, FD_CLOEXEC)", path);
    step("F_SETFD-path");

    int terminal = open("/dev/ptmx", O_RDWR | O_NOCTTY);
    if (terminal == -1 || unlockpt(terminal) == -1)
        printf("skip TIOCGPTPEER: /dev/ptmx: %s\n", strerrorname_np(errno));
    else
        tried("TIOCGPTPEER", ioctl(terminal, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC), "ioctl(TIOCGPTPEER)");
    int space = open("/proc/self/ns/uts", O_RDONLY);
    if (space == -1)
        printf("skip NS_GET_USERNS: %s\n", strerrorname_np(errno));
    else
        tried("NS_GET_USERNS", ioctl(space, NS_GET_USERNS), "ioctl(NS_GET_USERNS)");
    int fault = open("/dev/userfaultfd", O_RDWR);
    if (fault == -1)
        printf("skip USERFAULTFD_IOC_NEW: %s\n", strerrorname_np(errno));
    else
        tried("USERFAULTFD_IOC_NEW", ioctl(fault, USERFAULTFD_IOC_NEW, O_CLOEXEC), "ioctl(USERFAULTFD_IOC_NEW)");
    int kvm = open("/dev/kvm", O_RDWR);
    if (kvm == -1) {
        printf("skip KVM_CREATE_VM: %s\n", strerrorname_np(errno));
    } else {
        long machine = tried("KVM_CREATE_VM", ioctl(kvm, KVM_CREATE_VM, 0), "ioctl(KVM_CREATE_VM)");
        if (machine != -1)
            tried("KVM_CREATE_VCPU", ioctl(machine, KVM_CREATE_VCPU, 0), "ioctl(KVM_CREATE_VCPU)");
    }
    clear("requests-closed");
}

/* What is read from fanotify is descriptors. */
static void delivered(void)
{
    _Alignas(8) char events[4096];
    int fan = fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_NONBLOCK, O_RDONLY | O_CLOEXEC);
    if (fan == -1 || fanotify_mark(fan, FAN_MARK_ADD, FAN_OPEN | FAN_EVENT_ON_CHILD, AT_FDCWD, ".") == -1) {
        printf("skip fanotify: %s\n", strerrorname_np(errno));
        clear("fanotify-closed");
        return;
    }
    step("fanotify-marked");
    need(open("a", O_RDONLY), "open(a)");
    need(open("c", O_RDONLY), "open(c)");
    said(read(fan, events, sizeof events) > 0, "read(%d) > 0", fan);
    step("fanotify-read");
    said(read(fan, events, sizeof events), "read(%d)", fan);
    step("fanotify-nothing");
    need(open("a", O_RDONLY), "open(a)");
    need(open("c", O_RDONLY), "open(c)");
    struct iovec places[2] = { { events, 24 }, { events + 1024, 1024 } };
    said(readv(fan, places, 2) > 0, "readv(%d) > 0", fan);
    step("fanotify-readv");
    int other = need(fanotify_init(FAN_CLASS_NOTIF | FAN_NONBLOCK, O_RDONLY), "fanotify_init");
    need(fanotify_mark(other, FAN_MARK_ADD, FAN_OPEN | FAN_EVENT_ON_CHILD, AT_FDCWD, "."), "fanotify_mark");
    pid_t child = need(fork(), "fork");
    if (child == 0) {
        need(open("c", O_RDONLY), "open(c)");
        need(read(other, events, sizeof events), "read");
        step("fanotify-child");
        _exit(0);
    }
    need(waitpid(child, NULL, 0), "waitpid");
    step("fanotify-parent");
    clear("fanotify-closed");
    /* Nobody hands out anything any more. */
    need(open("/dev/zero", O_RDONLY), "open(/dev/zero)");
    need(read(3, events, sizeof events), "read(/dev/zero)");
    step("read-as-usual");
    clear("read-closed");
}

/* Sends `n` descriptors of `fds` through `out` in one message. */
static void give(int out, const int *fds, size_t n)
{
    char byte = 'x';
    struct iovec data = { &byte, 1 };
    char control[CMSG_SPACE(8 * sizeof(int))];
    memset(control, 0, sizeof control);
    struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = control,
                              .msg_controllen = CMSG_SPACE(n * sizeof(int)) };
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(n * sizeof(int));
    memcpy(CMSG_DATA(head), fds, n * sizeof(int));
    need(sendmsg(out, &message, 0), "sendmsg");
}

/* A message to be received, with room for `room` bytes of control data. */
struct letter {
    struct msghdr head;
    unsigned length;                /* with it, this is a struct mmsghdr */
    struct iovec data;
    char byte;
    _Alignas(16) char control[256];
};

static struct msghdr *letter(struct letter *l, size_t room)
{
    memset(l, 0, sizeof *l);
    l->data = (struct iovec){ &l->byte, 1 };
    l->head = (struct msghdr){ .msg_iov = &l->data, .msg_iovlen = 1, .msg_control = room ? l->control : NULL,
                               .msg_controllen = room };
    return &l->head;
}

static void passed(void)
{
    int ends[2], on = 1;
    struct letter l;
    need(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends), "socketpair");
    int fds[3] = { need(open("a", O_RDONLY), "open(a)"), need(open("/dev/null", O_WRONLY), "open(/dev/null)"), ends[0] };
    step("before-passing");

    give(ends[0], fds, 3);
    said(syscall(SYS_recvmsg, ends[1], letter(&l, sizeof l.control), 0), "recvmsg(%d)", ends[1]);
    step("recvmsg");
    give(ends[0], fds, 2);
    said(syscall(SYS_recvmsg, ends[1], letter(&l, sizeof l.control), MSG_CMSG_CLOEXEC), "recvmsg(MSG_CMSG_CLOEXEC)");
    step("recvmsg-cloexec");
    /* Room for two of three, and for none: the kernel installs what fits. */
    give(ends[0], fds, 3);
    said(syscall(SYS_recvmsg, ends[1], letter(&l, CMSG_LEN(2 * sizeof(int))), 0), "recvmsg(room for two)");
    printf("flags %#x\n", l.head.msg_flags & MSG_CTRUNC);
    step("recvmsg-truncated");
    give(ends[0], fds, 3);
    said(syscall(SYS_recvmsg, ends[1], letter(&l, CMSG_LEN(2 * sizeof(int)) + 3), 0), "recvmsg(a bit more)");
    step("recvmsg-odd");
    give(ends[0], fds, 3);
    said(syscall(SYS_recvmsg, ends[1], letter(&l, 0), 0), "recvmsg(no room)");
    step("recvmsg-no-room");
    give(ends[0], fds, 1);
    said(syscall(SYS_recvmsg, ends[1], letter(&l, sizeof l.control), MSG_PEEK), "recvmsg(MSG_PEEK)");
    step("recvmsg-peek");
    said(syscall(SYS_recvmsg, ends[1], letter(&l, 0), 0), "recvmsg(no room)");
    need(send(ends[0], "x", 1, 0), "send");
    said(syscall(SYS_recvmsg, ends[1], letter(&l, sizeof l.control), 0), "recvmsg(nothing in it)");
    step("recvmsg-nothing");
    said(syscall(SYS_recvmsg, ends[1], letter(&l, sizeof l.control), MSG_DONTWAIT), "recvmsg(MSG_DONTWAIT)");
    said(syscall(SYS_recvmsg, 60, letter(&l, sizeof l.control), 0), "recvmsg(60)");
    step("recvmsg-fails");
    close_range(7, 40, 0);

    /* Credentials before the descriptors, and a pidfd behind them. */
    need(setsockopt(ends[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on), "SO_PASSCRED");
    if (setsockopt(ends[1], SOL_SOCKET, SO_PASSPIDFD, &on, sizeof on) == -1)
        printf("skip SCM_PIDFD: %s\n", strerrorname_np(errno));
    give(ends[0], fds, 2);
    said(syscall(SYS_recvmsg, ends[1], letter(&l, sizeof l.control), 0), "recvmsg(with credentials)");
    step("recvmsg-credentials");
    on = 0;
    setsockopt(ends[1], SOL_SOCKET, SO_PASSPIDFD, &on, sizeof on);

    struct {
        struct msghdr head;
        unsigned length;
    } many[3];
    struct letter each[3];
    for (int i = 0; i < 3; i++)
        many[i].head = *letter(&each[i], i == 1 ? 0 : sizeof each[i].control);
    for (int i = 0; i < 3; i++)
        give(ends[0], fds, 1);
    said(syscall(SYS_recvmmsg, ends[1], many, 3, MSG_CMSG_CLOEXEC, NULL), "recvmmsg(3)");
    step("recvmmsg");
#ifdef SYS_recvmmsg_time64
    many[0].head = *letter(&each[0], sizeof each[0].control);
    give(ends[0], fds, 2);
    said(syscall(SYS_recvmmsg_time64, ends[1], many, 1, 0, NULL), "recvmmsg_time64(1)");
    step("recvmmsg_time64");
#endif
#ifdef SYS_socketcall
    unsigned long call[5] = { ends[1], (unsigned long)letter(&l, sizeof l.control), MSG_CMSG_CLOEXEC };
    give(ends[0], fds, 2);
    said(syscall(SYS_socketcall, 17, call), "socketcall(recvmsg)");
    step("socketcall-recvmsg");
    many[0].head = *letter(&each[0], sizeof each[0].control);
    unsigned long call_many[5] = { ends[1], (unsigned long)many, 1 };
    give(ends[0], fds, 2);
    said(syscall(SYS_socketcall, 19, call_many), "socketcall(recvmmsg)");
    step("socketcall-recvmmsg");
#endif
    close_range(7, 40, 0);
    need(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), "socketpair");
    int peer = -1;
    socklen_t size = sizeof peer;
    long got = syscall(SYS_getsockopt, ends[0], SOL_SOCKET, SO_PEERPIDFD, &peer, &size);
    tried("SO_PEERPIDFD", got == -1 ? -1 : peer, "getsockopt(SO_PEERPIDFD)");
#ifdef SYS_socketcall
    unsigned long ask[5] = { ends[0], SOL_SOCKET, SO_PEERPIDFD, (unsigned long)&peer, (unsigned long)&size };
    got = syscall(SYS_socketcall, 15, ask);
    tried("socketcall-SO_PEERPIDFD", got == -1 ? -1 : peer, "socketcall(getsockopt)");
#endif
    clear("passed-closed");
}

/* The last one: a filter stays. */
static void listener(void)
{
    struct sock_filter allow[] = { BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW) };
    struct sock_fprog program = { 1, allow };
    need(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS");
    said(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program), "seccomp(0)");
    step("seccomp");
    tried("seccomp-listener", syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program),
          "seccomp(SECCOMP_FILTER_FLAG_NEW_LISTENER)");
    clear("listener-closed");
}

int main(int argc, char **argv)
{
    raw = argc > 1 && strcmp(argv[1], "-r") == 0;
    struct sigaction action = { .sa_handler = nothing, .sa_flags = SA_RESTART };
    need(sigaction(SIGUSR1, &action, NULL), "sigaction");
    if (mkdtemp(home) == NULL || chdir(home) == -1) {
        perror(home);
        return 2;
    }
    clear("start");
    files();
    copies();
    channels();
    anonymous();
    need(close(need(open("a", O_RDWR | O_CREAT, 0600), "open(a)")), "close");
    rare();
    processes();
    unshared();
    delivered();
    requests();
    passed();
    listener();
    static const char *const left[] = { "a", "c", "s" };
    for (size_t i = 0; i < sizeof left / sizeof *left; i++)
        unlink(left[i]);
    return rmdir(home) == 0 ? 0 : 2;
}
