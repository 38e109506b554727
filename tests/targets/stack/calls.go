// close(-77) below Go: a method value, an interface, a deferred call while panicking, a goroutine, a finalizer, generics.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"sort"
	"syscall"
)

//go:noinline
func targetClose() int {
	syscall.Close(-77)
	return 1
}

type visitor interface{ visit(n int) int }

type shelf struct{ items []int }

//go:noinline
func (s *shelf) visit(n int) int {
	defer func() { s.items = nil }()
	return targetClose() + n
}

//go:noinline
func each[T any](items []T, f func(T) int) (n int) {
	for _, item := range items {
		n += f(item)
	}
	return n
}

//go:noinline
func recovers() {
	defer func() { targetClose(); fmt.Sprint(recover()) }()
	panic("expected")
}

func main() {
	var v visitor = &shelf{[]int{1, 2}}
	n := each([]int{3}, v.visit)
	sort.Slice([]int{2, 1}, func(i, j int) bool { n += targetClose(); return i < j })
	recovers()
	done := make(chan int)
	go func() { done <- targetClose() }()
	n += <-done
	f := &shelf{[]int{n}}
	runtime.SetFinalizer(f, func(*shelf) { done <- targetClose() })
	f = nil
	runtime.GC()
	<-done
	// The handler wakes the thread that waits for signals.
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR1)
	for i := 0; i < 3; i++ {
		syscall.Kill(syscall.Getpid(), syscall.SIGUSR1)
		<-c
	}
}
