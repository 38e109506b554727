/* Stacks that unwinders get wrong; the first argument chooses. Each ends in close(-77). */
#define _GNU_SOURCE
#include <alloca.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#define NOINLINE __attribute__((noinline))
#define KEEP __asm__ volatile("" ::: "memory")
static char *alternative[64 * 1024];
NOINLINE void target_close(void) { close(-77); KEEP; }
NOINLINE void outer_step(void) { target_close(); KEEP; }
NOINLINE int compare(const void *a, const void *b) { target_close(); KEEP; return *(const int *)a - *(const int *)b; }
NOINLINE void handler(int s) { (void)s; outer_step(); KEEP; }
NOINLINE void by_qsort(void) { int v[2] = {2, 1}; qsort(v, 2, sizeof *v, compare); KEEP; }
NOINLINE void by_signal(int flags) {
  stack_t ss = {.ss_sp = alternative, .ss_size = sizeof alternative};
  sigaltstack(&ss, 0);
  struct sigaction sa; memset(&sa, 0, sizeof sa); sa.sa_handler = handler; sa.sa_flags = flags;
  sigaction(SIGUSR1, &sa, 0); raise(SIGUSR1); KEEP;
}
NOINLINE void by_fault(void) {
  struct sigaction sa; memset(&sa, 0, sizeof sa); sa.sa_handler = handler; sa.sa_flags = SA_RESETHAND;
  sigaction(SIGILL, &sa, 0); __asm__ volatile("ud2"); KEEP;
}
static int levels;
NOINLINE void nested(int s) { if (--levels > 0) raise(s); else target_close(); KEEP; }
NOINLINE void by_nested(int n) {
  struct sigaction sa; memset(&sa, 0, sizeof sa); sa.sa_handler = nested; sa.sa_flags = SA_NODEFER;
  sigaction(SIGUSR2, &sa, 0); levels = n; raise(SIGUSR2); KEEP;
}
NOINLINE void by_alloca(int n) { volatile char *p = alloca(n); p[0] = 1; p[n - 1] = 2; outer_step(); KEEP; p[0] = 2; }
NOINLINE void by_realign(int n) {
  volatile char buf[64] __attribute__((aligned(64))); volatile char *p = alloca(n);
  buf[0] = 1; p[0] = 1; outer_step(); KEEP; buf[1] = p[0];
}
NOINLINE void *thread(void *p) { outer_step(); KEEP; return p; }
NOINLINE void by_thread(void) { pthread_t t; pthread_create(&t, 0, thread, 0); pthread_join(t, 0); KEEP; }
NOINLINE void by_stream(void) { FILE *f = fopen("/dev/null", "r"); fclose(f); KEEP; }
/* To be passed instruction by instruction: through the PLT, and through the vDSO (where a clock would be read again
   and again, because it ticks at every instruction; in that of i386 time() does so, too, and it has no unwind tables). */
NOINLINE void stepped(int n) {
  volatile char buf[48] __attribute__((aligned(32)));
  buf[0] = n; strtoul("12", 0, n);
#ifdef __x86_64__
  buf[1] = time(0);
#endif
  KEEP; buf[1] = n;
}
NOINLINE void timed(int n) {
  volatile char buf[48]; struct timespec t;
  buf[0] = n; clock_gettime(CLOCK_MONOTONIC, &t); KEEP; buf[1] = t.tv_sec;
}
int main(int argc, char **argv) {
  const char *how = argc > 1 ? argv[1] : "";
  if (!strcmp(how, "all")) {
    outer_step(); by_qsort(); by_signal(0); by_signal(SA_ONSTACK); by_alloca(202); by_realign(202); by_thread();
    by_fault(); // its second time ends the program
  }
  if (!strcmp(how, "steps")) stepped(10);
  if (!strcmp(how, "clock")) timed(10);
  if (!strcmp(how, "qsort")) by_qsort();
  if (!strcmp(how, "signal")) by_signal(0);
  if (!strcmp(how, "sigaltstack")) by_signal(SA_ONSTACK);
  if (!strncmp(how, "nested", 6)) by_nested(atoi(how + 6));
  if (!strcmp(how, "fault")) by_fault();
  if (!strcmp(how, "alloca")) by_alloca(200 + argc);
  if (!strcmp(how, "realign")) by_realign(200 + argc);
  if (!strcmp(how, "thread")) by_thread();
  if (!strcmp(how, "fclose")) by_stream();
  if (!strcmp(how, "plain")) outer_step();
  KEEP;
  return 0;
}
