/* Why: a userfaultfd that asks for forks gets, when a process forks, another userfaultfd for the child's memory, and reads its
 * number out of a message (userfaultfd(2), UFFD_EVENT_FORK): no call makes it but read, or readv. It is closed twice, so
 * that whoever missed it has nothing to tell. */
#include "target.h"
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

static int uffd;

/* The fork is not over before its message has been read; that of libc would hold the lock of stdout meanwhile. */
static void *forks(void *unused)
{
    for (int i = 0; i < 2; i++) {
        pid_t child = (pid_t)syscall(SYS_fork);
        if (child == 0)
            _exit(0);
        need(waitpid(child, NULL, 0), "waitpid");
    }
    return unused;
}

int main(void)
{
    pthread_t thread;
    struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_EVENT_FORK };
    long size = sysconf(_SC_PAGESIZE);
    uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
    if (uffd == -1 || ioctl(uffd, UFFDIO_API, &api) == -1) {
        printf("skip userfaultfd: %s\n", strerrorname_np(errno));
        return 77;
    }
    void *room = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct uffdio_register part = { .range = { (unsigned long)room, size }, .mode = UFFDIO_REGISTER_MODE_MISSING };
    need(ioctl(uffd, UFFDIO_REGISTER, &part), "UFFDIO_REGISTER");
    if (pthread_create(&thread, NULL, forks, NULL) != 0)
        return 2;
    for (int i = 0; i < 2; i++) {
        struct uffd_msg message;
        struct iovec place = { &message, sizeof message };
        long n = i == 0 ? read(uffd, &message, sizeof message) : readv(uffd, &place, 1);
        if (n != sizeof message || message.event != UFFD_EVENT_FORK) {
            printf("skip %s: %s\n", i == 0 ? "read" : "readv", n == -1 ? strerrorname_np(errno) : "another event");
            _exit(77);
        }
        int fd = message.arg.fork.ufd;
        said(fcntl(fd, F_GETFD), "fcntl(%d)", fd);
        said(close(fd), "close(%d)", fd);
        said(close(fd), "close(%d)", fd);
    }
    pthread_join(thread, NULL);
    return 0;
}
