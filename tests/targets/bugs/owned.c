/* Why: fdopendir and fdopen take the number over, and their caller closes it once more (libkrun issue 540, brpc issue 2415).
 *
 *   directory, stream                       closedir, or fclose, has closed it
 *   repaired-directory, repaired-stream     the caller keeps a number of its own */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int own(int fd, int repaired)
{
    return repaired ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : fd;
}

static void directory(int fd, int repaired)
{
    DIR *dir = fdopendir(own(fd, repaired));
    while (readdir(dir))
        ;
    closedir(dir);
}

static void stream(int fd, int repaired)
{
    FILE *file = fdopen(own(fd, repaired), "r");
    fgetc(file);
    fclose(file);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "directory";
    int repaired = strncmp(mode, "repaired-", 9) == 0;
    int is_stream = strcmp(mode + (repaired ? 9 : 0), "stream") == 0;
    int fd = open(is_stream ? "/dev/zero" : "/dev", O_RDONLY | O_CLOEXEC);
    if (is_stream)
        stream(fd, repaired);
    else
        directory(fd, repaired);
    if (close(fd) != 0)
        perror("close");
    return 0;
}
