/* Why: a database that was started with `2>&-` gets 2, and every message corrupts it (libmdbx issue 144). `repaired` fills
 * 0, 1 and 2 first. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "repaired") == 0) {
        int null = open("/dev/null", O_RDWR);
        while (null >= 0 && null < 2)
            null = open("/dev/null", O_RDWR);
        if (null > 2)
            close(null);
    }
    char name[] = "/tmp/fdwatch-database-XXXXXX";
    int db = mkstemp(name);
    unlink(name);
    fprintf(stderr, "started\n");
    close(db);
    return 0;
}
