/* Code made at run time, without unwinding tables, that calls back into close(-77): with a frame pointer, or without. */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#define NOINLINE __attribute__((noinline))
#define KEEP __asm__ volatile("" ::: "memory")
NOINLINE void target_close(void) { close(-77); KEEP; }
NOINLINE void outer_step(void) { target_close(); KEEP; }
typedef void code(void (*)(void));
NOINLINE void by_code(code *made) { made(outer_step); KEEP; }
int main(int argc, char **argv) {
  static const unsigned char framed[] = {0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0x5d, 0xc3}; /* push; mov; call *rdi; pop; ret */
  /* xor ebp, ebp instead of a frame: push rbp; sub rsp, 16; xor ebp, ebp; call *rdi; add rsp, 16; pop rbp; ret */
  static const unsigned char bare[] = {0x55, 0x48, 0x83, 0xec, 0x10, 0x31, 0xed, 0xff, 0xd7, 0x48, 0x83, 0xc4, 0x10, 0x5d, 0xc3};
  unsigned char *page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  int plain = argc > 1 && !strcmp(argv[1], "bare");
  memcpy(page, plain ? bare : framed, plain ? sizeof bare : sizeof framed);
  mprotect(page, 4096, PROT_READ | PROT_EXEC);
  by_code((code *)page);
  return 0;
}
