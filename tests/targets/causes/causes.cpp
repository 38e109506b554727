// Ends by destructors and by C's streams. Each function opens a file of its own name in the folder of the first argument.
#include <cstdio>
#include <dirent.h>
#include <fcntl.h>
#include <fstream>
#include <memory>
#include <string>
#include <unistd.h>

static std::string dir;

static std::string path(const char *name) { return dir + "/" + name; }

static int raw(const char *name) { return open(path(name).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600); }

struct Owner {
    int fd;
    explicit Owner(int fd) : fd(fd) {}
    ~Owner();
};

__attribute__((noinline)) Owner::~Owner() { close(fd); }

struct Closer {
    void operator()(FILE *f) const { fclose(f); }
};

#define CASE __attribute__((noinline)) static void

CASE stream_left() {
    std::ofstream f(path("stream_left"));
    f << 1;
}

CASE stream_closed() {
    std::ofstream f(path("stream_closed"));
    f.close();
}

CASE owner_left() { Owner f(raw("owner_left")); }

CASE pointer_left() { std::unique_ptr<FILE, Closer> f(fopen(path("pointer_left").c_str(), "w")); }

CASE file_closed() {
    FILE *f = fopen(path("file_closed").c_str(), "w");
    fclose(f);
}

CASE plainly() { close(raw("plainly")); }

CASE directory() { closedir(opendir(path("directory").c_str())); }

int main(int, char **argv) {
    dir = argv[1];
    stream_left();
    stream_closed();
    owner_left();
    pointer_left();
    file_closed();
    plainly();
    directory();
    static std::ofstream at_exit(path("at_exit"));
}
