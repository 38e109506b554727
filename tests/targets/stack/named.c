/* close() below an inlined call and a local function: what is known of them depends on the debug information. */
#include <fcntl.h>
#include <unistd.h>
#define NOINLINE __attribute__((noinline))
#define KEEP __asm__ volatile("" ::: "memory")
static inline __attribute__((always_inline)) void inner_call(int fd) { close(fd); KEEP; }
NOINLINE static void local_call(int fd) { inner_call(fd); KEEP; }
NOINLINE void outer_call(int fd) { local_call(fd); KEEP; }
int main(void) {
  int fd = open("/dev/null", O_RDONLY);
  outer_call(fd);
  KEEP;
  return 0;
}
