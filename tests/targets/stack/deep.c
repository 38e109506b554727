/* close() below D frames, N times, stopping before the first: the shape of most programs. */
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>
static int n = 1;
__attribute__((noinline)) int leaf(int fd) { int r = 0; for (int i = 0; i < n; i++) r += close(fd); __asm__ volatile(""); return r; }
__attribute__((noinline)) int deep(int d) { int r = d > 0 ? deep(d - 1) : leaf(-1); __asm__ volatile("" : "+r"(r)); return r + 1; }
int main(int argc, char **argv) { if (argc > 2) n = atoi(argv[2]); return deep(argc > 1 ? atoi(argv[1]) : 5) == 99; }
