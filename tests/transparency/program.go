// Goroutines, os/exec, net, files, signals; many threads, and descriptors that go round between them.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sort"
	"strings"
	"sync"
	"syscall"
)

func main() {
	out, err := exec.Command("echo", "from a child").Output()
	fmt.Printf("%s%v\n", out, err)
	err = exec.Command("sh", "-c", "exit 3").Run()
	fmt.Println(err)
	err = exec.Command("sh", "-c", "kill -9 $$").Run()
	fmt.Println(err)
	r, w, _ := os.Pipe()
	c := exec.Command("sh", "-c", "echo on three >&3")
	c.ExtraFiles = []*os.File{w}
	fmt.Println(c.Run())
	w.Close()
	b, _ := io.ReadAll(r)
	fmt.Print(string(b))
	r.Close()

	var mu sync.Mutex
	var wg sync.WaitGroup
	var lines []string
	for i := 0; i < 20; i++ {
		wg.Add(1)
		go func(i int) {
			defer wg.Done()
			cmd := exec.Command("cat")
			cmd.Stdin = strings.NewReader(fmt.Sprint("child ", i))
			out, err := cmd.Output()
			mu.Lock()
			lines = append(lines, fmt.Sprint(string(out), err))
			mu.Unlock()
		}(i)
	}
	for i := 0; i < 8; i++ {
		wg.Add(1)
		go func(i int) {
			defer wg.Done()
			runtime.LockOSThread()
			for j := 0; j < 200; j++ {
				f, err := os.Create(fmt.Sprintf("g%d", i))
				if err != nil {
					panic(err)
				}
				if _, err = fmt.Fprintln(f, j); err != nil {
					panic(err)
				}
				if err = f.Close(); err != nil {
					panic(err)
				}
				if f.Close() == nil {
					panic("closed twice")
				}
			}
		}(i)
	}
	wg.Wait()
	sort.Strings(lines)
	fmt.Println(len(lines), lines[0], lines[19])

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	sum := 0
	var cg sync.WaitGroup
	for i := 0; i < 50; i++ {
		cg.Add(1)
		go func(i int) {
			defer cg.Done()
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				panic(err)
			}
			fmt.Fprintf(c, "%d\n", i)
			s, _ := bufio.NewReader(c).ReadString('\n')
			n := 0
			fmt.Sscan(s, &n)
			mu.Lock()
			sum += n
			mu.Unlock()
			c.Close()
		}(i)
	}
	cg.Wait()
	l.Close()
	fmt.Println("sum", sum)
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGUSR1)
	syscall.Kill(os.Getpid(), syscall.SIGUSR1)
	fmt.Println(<-ch)
	os.Exit(4)
}
