/* Why: a process has one tracer. A program that traces its own child, or a process beside it, must be told so, and
 * neither it nor the tracer that was there first may wait for the other. */
#include "target.h"
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

static void traces_its_child(void)
{
    int status;
    pid_t child = need(fork(), "fork");
    if (child == 0) {
        if (said(ptrace(PTRACE_TRACEME, 0, 0, 0), "PTRACE_TRACEME") == 0)
            raise(SIGSTOP);
        _exit(3);
    }
    need(waitpid(child, &status, 0), "waitpid");
    if (WIFSTOPPED(status)) {
        need(ptrace(PTRACE_CONT, child, 0, 0), "PTRACE_CONT");
        need(waitpid(child, &status, 0), "waitpid");
    }
    printf("the child exited %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

/* As gdb does to see what ptrace can do: nobody looks whether the request was granted, and the child stops itself. The
 * second stop is an ordinary one, of which the parent hears as of any child's. */
static void traces_its_child_blindly(int by_kill)
{
    int status;
    pid_t child = need(fork(), "fork");
    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        by_kill ? kill(getpid(), SIGSTOP) : raise(SIGSTOP);
        raise(SIGSTOP);
        _exit(5);
    }
    need(waitpid(child, &status, WUNTRACED), "waitpid");
    while (WIFSTOPPED(status)) {
        printf("the blind child stopped by %d\n", WSTOPSIG(status));
        if (ptrace(PTRACE_CONT, child, 0, 0) == -1)
            need(kill(child, SIGCONT), "kill");
        need(waitpid(child, &status, WUNTRACED), "waitpid");
    }
    printf("the blind child exited %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

static void seizes_a_sibling(void)
{
    int ends[2];
    char byte;
    need(pipe(ends), "pipe");
    pid_t sibling = need(fork(), "fork");
    if (sibling == 0) {
        close(ends[1]);
        _exit(read(ends[0], &byte, 1) == 0 ? 4 : 5);
    }
    pid_t tracer = need(fork(), "fork");
    if (tracer == 0) {
        close(ends[1]);
        said(ptrace(PTRACE_SEIZE, sibling, 0, 0), "PTRACE_SEIZE");
        said(ptrace(PTRACE_ATTACH, sibling, 0, 0), "PTRACE_ATTACH");
        _exit(0);
    }
    int status;
    need(waitpid(tracer, NULL, 0), "waitpid");
    close(ends[1]);
    need(waitpid(sibling, &status, 0), "waitpid");
    printf("the sibling exited %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

int main(void)
{
    traces_its_child();
    traces_its_child_blindly(0);
    traces_its_child_blindly(1);
    seizes_a_sibling();
    return 0;
}
