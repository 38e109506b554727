/* golang/go#22315: a program is written, closed, and cannot be executed, because a child that another thread forked
 * meanwhile has a copy of the descriptor until it executes a program of its own. Pipes are the barriers.
 *
 *   race, repaired-race: the same, with the fork kept out between open and close
 *   own, repaired-own:   who wrote it has not closed it; it has
 *   renamed:             who wrote it under another name has not closed it; who has what had the name before, is innocent
 *   linked:              it is executed by another name than it was written
 *   at:                  execveat by a descriptor of the folder, the writer not closed
 *   retry:               the same twenty times
 *   repaired-retry:      it is tried again after it was closed, and runs
 *   search:              names that are not there, and one that is no program: ordinary, and nobody's mistake
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int asked[2], forked[2], leave[2];
static pid_t other;

static void must(int ok, const char *what) {
    if (!ok) {
        perror(what);
        exit(1);
    }
}

static void await(int fd) {
    char c;
    must(read(fd, &c, 1) == 1, "read");
}

/* Another part of the program starts a child of its own. */
static void *spawner(void *unused) {
    (void)unused;
    await(asked[0]);
    other = fork();
    must(other >= 0, "fork");
    if (other == 0) {
        /* Something takes a while before the exec. */
        char c;
        close(leave[1]);
        if (read(leave[0], &c, 1) < 0) _exit(1);
        execlp("true", "true", (char *)NULL);
        _exit(1);
    }
    must(write(forked[1], "f", 1) == 1, "write");
    return NULL;
}

/* Copies true(1) to ./program; the writer is left open. */
static int written_as(const char *name) {
    char buf[65536];
    ssize_t n;
    int in = open("/bin/true", O_RDONLY | O_CLOEXEC);
    int out = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
    must(in >= 0 && out >= 0, "open");
    while ((n = read(in, buf, sizeof buf)) > 0) must(write(out, buf, n) == n, "write");
    close(in);
    return out;
}

static int written(void) { return written_as("program"); }

/* The errno of the execve, 0 if the program ran. */
static int executed(const char *how) {
    pid_t child = fork();
    must(child >= 0, "fork");
    if (child == 0) {
        char *argv[] = {"program", NULL};
        if (strcmp(how, "at") == 0) {
            int dir = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            syscall(SYS_execveat, dir, "program", argv, NULL, 0);
        } else {
            execv("./program", argv);
        }
        _exit(errno);
    }
    int status;
    must(waitpid(child, &status, 0) == child, "wait");
    return WEXITSTATUS(status);
}

/* Linux 6.11 and 6.12 execute what is open for writing. */
static void must_be_busy(int error) {
    if (error == 0) exit(77);
    must(error == ETXTBSY, "it should be busy");
}

static void race(int repaired) {
    pthread_t thread;
    must(pipe2(asked, O_CLOEXEC) == 0 && pipe2(forked, O_CLOEXEC) == 0 && pipe2(leave, O_CLOEXEC) == 0, "pipe2");
    must(pthread_create(&thread, NULL, spawner, NULL) == 0, "thread");
    int out = 0;
    if (!repaired) out = written();
    must(write(asked[1], "a", 1) == 1, "write");
    await(forked[0]);
    if (repaired) out = written();
    close(out);
    if (repaired)
        must(executed("race") == 0, "it should run");
    else
        must_be_busy(executed("race"));
    close(leave[1]);
    pthread_join(thread, NULL);
    must(waitpid(other, NULL, 0) == other, "wait");
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    if (strcmp(mode, "race") == 0 || strcmp(mode, "repaired-race") == 0) {
        race(mode[2] == 'p');
    } else if (strcmp(mode, "own") == 0 || strcmp(mode, "at") == 0) {
        int out = written();
        must_be_busy(executed(mode));
        close(out);
    } else if (strcmp(mode, "renamed") == 0) {
        unlink("program");
        written();
        written_as("program.new");
        must(rename("program.new", "program") == 0, "rename");
        must_be_busy(executed(mode));
    } else if (strcmp(mode, "linked") == 0) {
        unlink("program");
        written_as("program.new");
        must(link("program.new", "program") == 0, "link");
        must_be_busy(executed(mode));
    } else if (strcmp(mode, "retry") == 0) {
        int out = written();
        for (int i = 0; i < 20; i++) must_be_busy(executed(mode));
        close(out);
    } else if (strcmp(mode, "repaired-retry") == 0) {
        int out = written();
        for (int i = 0; i < 3; i++) must_be_busy(executed(mode));
        close(out);
        must(executed(mode) == 0, "it should run");
    } else if (strcmp(mode, "repaired-own") == 0) {
        close(written());
        must(executed("own") == 0, "it should run");
    } else if (strcmp(mode, "search") == 0) {
        pid_t child = fork();
        if (child == 0) {
            close(open("no-program", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
            execl("/nonexistent/true", "true", (char *)NULL);
            execl("./no-program", "true", (char *)NULL);
            execl("/nonexistent/more/true", "true", (char *)NULL);
            execlp("true", "true", (char *)NULL);
            _exit(1);
        }
        int status;
        must(waitpid(child, &status, 0) == child && status == 0, "true");
    } else {
        return 2;
    }
    return 0;
}
