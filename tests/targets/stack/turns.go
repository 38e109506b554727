// close(-77) below C that Go calls, below Go that C calls, and so on, as often as the argument says.
package main

/*
#include <unistd.h>
#define KEEP __asm__ volatile("" ::: "memory")
extern int again(int);
__attribute__((noinline)) static int turn(int n) { int r = n == 0 ? close(-77) : again(n - 1); KEEP; return r + 1; }
*/
import "C"
import (
	"os"
	"strconv"
)

//export again
func again(n C.int) C.int { return C.turn(n) + 1 }

func main() {
	n, _ := strconv.Atoi(os.Args[1])
	C.turn(C.int(n))
}
