/* Why: a directory of the host reaches the first program of a container (CVE-2024-21626), because it was not
 * close-on-exec. `repaired` opens it with O_CLOEXEC. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    int repaired = argc > 1 && strcmp(argv[1], "repaired") == 0;
    int host = open("/sys", O_RDONLY | O_DIRECTORY | (repaired ? O_CLOEXEC : 0));
    if (host < 0)
        return 2;
    execl("/bin/true", "init", (char *)NULL);
    return 127;
}
