/* A 32-bit program without a C library: close(-77) some calls deep. */
#define NOINLINE __attribute__((noinline))
#define KEEP __asm__ volatile("" ::: "memory")
NOINLINE void target_close(void) { int r = 6; __asm__ volatile("int $0x80" : "+a"(r) : "b"(-77) : "memory"); KEEP; }
NOINLINE void outer_step(void) { volatile char b[40]; b[3] = 1; target_close(); KEEP; b[4] = b[3]; }
NOINLINE int deep(int d) { int r = d > 0 ? deep(d - 1) : (outer_step(), 0); KEEP; __asm__ volatile("" : "+r"(r)); return r + 1; }
void _start(void) { deep(2); for (;;) { int r = 1; __asm__ volatile("int $0x80" : "+a"(r) : "b"(0)); } }
