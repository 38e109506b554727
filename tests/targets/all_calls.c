/* all_calls [-r]: makes each call that begins, changes or ends the life of a number, one step each.
 *
 * Why: what fdwatch believes of a table must be what the kernel says of it, after any call. Each step prints the call
 * and its result, then one line for each number from 3 up that is open, as the kernel sees it; then it raises SIGUSR1
 * (handled, does nothing), so that a tracer gets a stop at which the two can be compared. The number is looked at with
 * readlink and F_GETFD, which open nothing, so the steps are the only events.
 *
 * Inode numbers differ from run to run: pipes and sockets are printed as pipe:[A], socket:[B] in the order in which
 * they were met, and files relative to the target's own directory. -r prints what the kernel says as it is. A call that
 * this kernel does not have is reported as ENOSYS and its step goes on without it. */
#include "target.h"
#include <linux/openat2.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>

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
        printf("%s", path);
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
    raise(SIGUSR1);
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
    said(syscall(SYS_accept, listener, NULL, NULL), "accept(%d)", listener);
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
    static const char *const left[] = { "a", "c", "s" };
    for (size_t i = 0; i < sizeof left / sizeof *left; i++)
        unlink(left[i]);
    return rmdir(home) == 0 ? 0 : 2;
}
