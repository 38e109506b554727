// Functions and namespaces of a program's own that are called like those of runtimes. Each closes the file of its name.
#include <fcntl.h>
#include <string>
#include <unistd.h>

static std::string dir;

static int opened(const char *name) { return open((dir + "/" + name).c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600); }

// Keeps the compiler from ending a function with a jump.
static volatile int after;

#define CLOSES(name)                                                                                                   \
    extern "C" __attribute__((noinline, noclone)) void name() {                                                        \
        close(opened(#name));                                                                                          \
        after = 1;                                                                                                     \
    }

CLOSES(finalize_modules)
CLOSES(gc_collect_main)
CLOSES(subtype_dealloc)
CLOSES(iobase_exit)
CLOSES(_close_open_fds)
CLOSES(redup)
CLOSES(do_redirections)
CLOSES(safe_closefrom)
CLOSES(uv_close)

namespace core {
namespace ptr {
__attribute__((noinline, noclone)) void drop_in_place() {
    close(opened("drop_in_place"));
    after = 1;
}
} // namespace ptr
} // namespace core

int main(int, char **argv) {
    dir = argv[1];
    finalize_modules();
    gc_collect_main();
    subtype_dealloc();
    iobase_exit();
    _close_open_fds();
    redup();
    do_redirections();
    safe_closefrom();
    uv_close();
    core::ptr::drop_in_place();
}
