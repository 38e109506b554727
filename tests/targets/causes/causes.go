// Ends by the collector and by request. Each function opens a file of its own name in the folder of the first argument.
package main

import (
	"os"
	"runtime"
	"syscall"
	"time"
)

func path(name string) string { return os.Args[1] + "/" + name }

//go:noinline
func closed() {
	f, _ := os.Create(path("closed"))
	f.Close()
}

//go:noinline
func deferred() {
	f, _ := os.Create(path("deferred"))
	defer f.Close()
}

//go:noinline
func plainly() {
	fd, _ := syscall.Open(path("plainly"), syscall.O_CREAT|syscall.O_RDWR|syscall.O_CLOEXEC, 0600)
	syscall.Close(fd)
}

//go:noinline
func lost() {
	f, _ := os.Create(path("lost"))
	_ = f
}

func main() {
	closed()
	deferred()
	plainly()
	lost()
	// The collector may see a stale pointer on the stack at first, so it is asked until the file is gone.
	for i := 0; i < 1000; i++ {
		runtime.GC()
		if links, _ := os.ReadDir("/proc/self/fd"); !open(links) {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func open(links []os.DirEntry) bool {
	for _, l := range links {
		if to, _ := os.Readlink("/proc/self/fd/" + l.Name()); to == path("lost") {
			return true
		}
	}
	return false
}
