/* What the targets share: saying what was called, and giving up when the ground is not as it must be. */
#ifndef FDWATCH_TARGET_H
#define FDWATCH_TARGET_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Lines leave at once: a fork must not copy what is still in the buffer, and a tracer reads along. */
__attribute__((constructor)) static void line_buffered(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
}

/* Prints "call WHAT = RESULT", with the errno's name for -1, and returns the result. */
__attribute__((format(printf, 2, 3), unused)) static long said(long result, const char *what, ...)
{
    int error = errno;
    va_list arguments;
    printf("call ");
    va_start(arguments, what);
    vprintf(what, arguments);
    va_end(arguments);
    if (result == -1)
        printf(" = %s\n", strerrorname_np(error));
    else
        printf(" = %ld\n", result);
    return result;
}

/* What a target relies on and does not itself examine. */
__attribute__((unused)) static long need(long result, const char *what)
{
    if (result == -1) {
        perror(what);
        exit(2);
    }
    return result;
}

#endif
