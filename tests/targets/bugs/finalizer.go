// Why: the number of an os.File is used when the collector has finalized the file (Go issue 41505). "repaired" keeps it
// alive.
package main

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
)

func number(keep *[]*os.File) int {
	file, err := os.Open("/dev/null")
	if err != nil {
		panic(err)
	}
	if len(os.Args) > 1 && os.Args[1] == "repaired" {
		*keep = append(*keep, file)
	}
	return int(file.Fd())
}

func main() {
	var keep []*os.File
	fd := number(&keep)
	for i := 0; i < 100; i++ {
		runtime.GC()
		runtime.Gosched()
		var stat syscall.Stat_t
		if syscall.Fstat(fd, &stat) != nil {
			break
		}
	}
	_, err := syscall.Dup(fd)
	fmt.Println(err)
	runtime.KeepAlive(keep)
}
