/* A library for loader.c; NAME is in the name of a function, ROOM the size of its frame, PAD moves its code. */
#define CONCAT(a, b) a##b
#define AS(a, b) CONCAT(a, b)
#define NOINLINE __attribute__((noinline))
#define KEEP __asm__ volatile("" ::: "memory")
#ifdef PAD
NOINLINE int padding(int n) { volatile char b[200]; for (int i = 0; i < n; i++) b[i % 200] = i; return b[0]; }
#endif
NOINLINE void AS(step_of_, NAME)(void (*f)(void)) { volatile char b[ROOM]; b[0] = 1; f(); KEEP; b[1] = 2; }
NOINLINE void run(void (*f)(void)) { AS(step_of_, NAME)(f); KEEP; }
