// close(-77) below C that Go calls, below Go that this C calls back, and below Go that a thread of C's own calls.
package main

/*
#cgo LDFLAGS: -pthread
#include <pthread.h>
#include <unistd.h>
#define KEEP __asm__ volatile("" ::: "memory")
#define NOINLINE __attribute__((noinline))
extern int fromC(int);
NOINLINE static int inner_close(int fd) { int r = close(fd); KEEP; return r + 1; }
NOINLINE static int by_c(int fd) { int r = inner_close(fd); KEEP; return r + 2; }
NOINLINE static int back(int fd) { int r = fromC(fd); KEEP; return r + 2; }
// With a frame pointer that the way out needs.
NOINLINE static int back_framed(int fd) { volatile char room[fd + 177]; room[0] = 1; int r = back(fd); KEEP; return r + room[0]; }
static void *of_c(void *p) { int r = back_framed(-77); KEEP; return r ? 0 : p; }
NOINLINE static void by_thread(void) { pthread_t t; pthread_create(&t, 0, of_c, 0); pthread_join(t, 0); KEEP; }
*/
import "C"
import "syscall"

//go:noinline
func targetClose(fd int) int {
	syscall.Close(fd)
	return 1
}

//go:noinline
func deeper(n int, fd int) int {
	if n == 0 {
		return targetClose(fd)
	}
	var room [2000]byte // The goroutine's stack has to grow, and moves.
	room[n] = byte(n)
	return deeper(n-1, fd) + int(room[n])
}

//export fromC
func fromC(fd C.int) C.int { return C.int(deeper(3, int(fd))) }

//go:noinline
func callsC() int { return int(C.by_c(-77)) + 1 }

//go:noinline
func callsBack() int { return int(C.back_framed(-77)) + 1 }

func main() {
	n := callsC()
	n += callsBack()
	done := make(chan int)
	go func() { done <- callsC() }()
	n += <-done
	go func() { done <- callsBack() }()
	n += <-done
	C.by_thread()
}
