// What a plugin in Go does of the system, by the standard library alone: the syscall profile `go`
// is what this needs. Each part says "ok: NAME"; the last line is "done".
package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"
)

func must(err error) {
	if err != nil {
		fmt.Println("failed:", err)
		panic(err)
	}
}

func got[T any](value T, err error) T {
	must(err)
	return value
}

func files() {
	base := got(os.MkdirTemp("", "files"))
	defer os.RemoveAll(base)
	at := func(name string) string { return filepath.Join(base, name) }
	must(os.WriteFile(at("one"), bytes.Repeat([]byte("x"), 10_000), 0o640))
	if got(os.Stat(at("one"))).Size() != 10_000 || got(os.Lstat(at("one"))).IsDir() {
		panic("size")
	}
	must(os.Chmod(at("one"), 0o600))
	must(os.Chtimes(at("one"), time.Unix(1, 0), time.Unix(1, 0)))
	must(os.Rename(at("one"), at("two")))
	must(os.Link(at("two"), at("hard")))
	must(os.Symlink("two", at("soft")))
	if got(os.Readlink(at("soft"))) != "two" || got(filepath.EvalSymlinks(at("soft"))) != at("two") {
		panic("link")
	}
	must(os.Truncate(at("two"), 9_000))
	must(os.MkdirAll(at("inner/most"), 0o755))
	file := got(os.OpenFile(at("two"), os.O_RDWR, 0))
	must(file.Truncate(8_000))
	must(file.Chmod(0o644))
	got(file.Seek(0, io.SeekEnd))
	got(file.WriteString("y"))
	got(file.WriteAt([]byte("z"), 0))
	got(file.ReadAt(make([]byte, 10), 0))
	must(file.Sync())
	copied := got(os.Create(at("three")))
	got(file.Seek(0, io.SeekStart))
	got(io.Copy(copied, file))
	must(copied.Close())
	must(file.Close())
	if len(got(os.ReadDir(base))) != 5 {
		panic("entries")
	}
	must(filepath.WalkDir(base, func(_ string, _ fs.DirEntry, err error) error { return err }))
	was := got(os.Getwd())
	must(os.Chdir(base))
	must(os.Chdir(was))
	packed := gzip.NewWriter(got(os.Create(at("packed"))))
	got(packed.Write(bytes.Repeat([]byte("x"), 100_000)))
	must(packed.Close())
	must(os.Remove(at("hard")))
}

func sockets() {
	base := got(os.MkdirTemp("", "net"))
	defer os.RemoveAll(base)
	for network, address := range map[string]string{"unix": filepath.Join(base, "socket"), "tcp": "127.0.0.1:0"} {
		listener := got(net.Listen(network, address))
		go func() {
			peer := got(listener.Accept())
			must(peer.SetDeadline(time.Now().Add(time.Minute)))
			got(io.Copy(peer, peer))
			must(peer.Close())
		}()
		connection := got(net.Dial(network, listener.Addr().String()))
		got(connection.Write([]byte("hello")))
		if tcp, isTCP := connection.(*net.TCPConn); isTCP {
			must(tcp.SetKeepAlive(true))
			file := got(os.Create(filepath.Join(base, "sent")))
			got(file.WriteString(strings.Repeat("x", 1_000)))
			got(file.Seek(0, io.SeekStart))
			got(io.Copy(tcp, file))
			buffers := net.Buffers{[]byte("a"), []byte("b")}
			got(buffers.WriteTo(tcp))
			must(tcp.CloseWrite())
		} else {
			must(connection.(*net.UnixConn).CloseWrite())
		}
		got(io.ReadAll(connection))
		must(connection.Close())
		must(listener.Close())
	}
	packets := got(net.ListenPacket("udp", "127.0.0.1:0"))
	got(packets.WriteTo([]byte("x"), packets.LocalAddr()))
	_, _, err := packets.ReadFrom(make([]byte, 10))
	must(err)
	udp := got(net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}))
	_, _, err = udp.WriteMsgUDP([]byte("x"), nil, udp.LocalAddr().(*net.UDPAddr))
	must(err)
	_, _, _, _, err = udp.ReadMsgUDP(make([]byte, 10), nil)
	must(err)
	got(net.LookupHost("localhost"))
}

func requests() {
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	for _, server := range []*httptest.Server{httptest.NewServer(echo), httptest.NewTLSServer(echo)} {
		answer := got(server.Client().Post(server.URL, "text/plain", strings.NewReader("body")))
		if string(got(io.ReadAll(answer.Body))) != "body" {
			panic("body")
		}
		answer.Body.Close()
		server.Close()
	}
	_ = tls.Config{}
}

func threads() {
	var group sync.WaitGroup
	for range make([]struct{}, 64) {
		group.Add(1)
		go func() {
			defer group.Done()
			runtime.LockOSThread()
			time.Sleep(time.Millisecond)
		}()
	}
	group.Wait()
	kept := make([][]byte, 0, 64)
	for round := range make([]struct{}, 512) {
		kept = append(kept, make([]byte, 256<<10))
		if round%64 == 63 {
			kept = kept[:0]
		}
	}
	_ = kept
	debug.FreeOSMemory()
	spin := time.Now()
	for time.Since(spin) < 50*time.Millisecond { // long enough to be preempted by a signal
	}
	got(rand.Read(make([]byte, 32)))
}

func signals() {
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGUSR1)
	must(syscall.Kill(os.Getpid(), syscall.SIGUSR1))
	<-told
	context, stop := context.WithTimeout(context.Background(), time.Millisecond)
	defer stop()
	<-context.Done()
}

func questions() {
	got(os.Hostname())
	if os.Getppid() == os.Getpid() || os.Getuid() != os.Geteuid() || os.Getgid() != os.Getegid() {
		panic("ids")
	}
	got(os.Getgroups())
	got(os.UserHomeDir())
	got(os.Executable())
	_, _ = user.Current()
	var name syscall.Utsname
	must(syscall.Uname(&name))
	var use syscall.Rusage
	must(syscall.Getrusage(0, &use))
	os.Getpagesize()
}

func processes() {
	// Its own program is what it may execute.
	self := got(os.Executable())
	child := exec.Command(self, "child")
	child.Stdin = strings.NewReader("input")
	if output := string(got(child.Output())); output != "input" {
		panic(output)
	}
	long := exec.Command(self, "wait")
	reader := got(long.StdoutPipe())
	must(long.Start())
	got(reader.Read(make([]byte, 1)))
	must(long.Process.Kill())
	var ended *exec.ExitError
	if !errors.As(long.Wait(), &ended) {
		panic("it ended by itself")
	}
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "child" {
		got(io.Copy(os.Stdout, os.Stdin))
		return
	}
	if len(os.Args) > 1 && os.Args[1] == "wait" {
		fmt.Print("x")
		time.Sleep(time.Hour)
	}
	parts := []struct {
		name string
		run  func()
	}{
		{"files", files}, {"sockets", sockets}, {"requests", requests}, {"threads", threads},
		{"signals", signals}, {"questions", questions}, {"processes", processes},
	}
	for _, part := range parts {
		part.run()
		fmt.Println("ok:", part.name)
	}
	fmt.Println("done")
}
