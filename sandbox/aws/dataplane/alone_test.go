package dataplane

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// BenchmarkAlone has nothing but the node in this process, so that CPU and memory are the node's own: targets and clients, which cost next to nothing,
// are in another one. One round is 60,000 requests over 64 connections to 250 targets. CPU depends on the neighbours much less than time does, and
// memory not at all:
//
//	go test -run '^$' -bench Alone -benchtime 5x ./sandbox/aws/dataplane/
func BenchmarkAlone(b *testing.B) {
	var set TargetSet
	var targets []string
	for range 250 {
		t := Target{Address: address(), Port: 8080, Zone: "zone-a"}
		set.Targets = append(set.Targets, t)
		targets = append(targets, netip.AddrPortFrom(t.Address, t.Port).String())
	}
	round := others(b, targets)
	_, at := newBenchNode(b, set)
	round(at) // makes the connections
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	user, system := cpuTimes()
	for b.Loop() {
		round(at)
	}
	userAfter, systemAfter := cpuTimes()
	runtime.ReadMemStats(&after)
	requests := float64(b.N) * roundRequests
	b.ReportMetric(float64((userAfter-user).Nanoseconds())/requests, "user-ns/req")
	b.ReportMetric(float64((systemAfter-system).Nanoseconds())/requests, "system-ns/req")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/requests, "allocs/req")
	b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/requests, "B/req")
	b.ReportMetric(0, "ns/op") // of a round, mostly the others'
}

func cpuTimes() (user, system time.Duration) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // impossible: both arguments are right
	}
	return time.Duration(u.Utime.Nano()), time.Duration(u.Stime.Nano())
}

const (
	roundRequests    = 60_000
	roundConnections = 64
)

// othersVariable tells the test binary to be the process of targets and clients, and holds the addresses of the targets.
const othersVariable = "LOCKSTEP_BENCH_TARGETS"

// others starts the process of targets and clients; round makes it send its requests to an address.
func others(b *testing.B, targets []string) (round func(to netip.AddrPort)) {
	b.Helper()
	self := exec.Command(os.Args[0])
	self.Env = append(os.Environ(), othersVariable+"="+strings.Join(targets, " "))
	self.Stderr = os.Stderr
	in, err := self.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := self.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := self.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = in.Close()
		if err := self.Wait(); err != nil {
			b.Error(err)
		}
	})
	said := bufio.NewReader(out)
	done := func() {
		if line, err := said.ReadString('\n'); err != nil {
			b.Fatalf("the other process said %q: %v", line, err)
		}
	}
	done() // it listens
	return func(to netip.AddrPort) {
		fmt.Fprintln(in, to)
		done()
	}
}

// beOthers is the main function of that process: it sends a round of requests to each address that it is told, until it is told nothing more.
func beOthers(targets []string) error {
	for _, t := range targets {
		l, err := net.Listen("tcp", t)
		if err != nil {
			return err
		}
		go answerAll(l)
	}
	fmt.Println("listening")
	for told := bufio.NewScanner(os.Stdin); told.Scan(); fmt.Println("answered") {
		var all errgroup.Group
		for range roundConnections {
			all.Go(func() error { return askOften(told.Text(), roundRequests/roundConnections) })
		}
		if err := all.Wait(); err != nil {
			return err
		}
	}
	return nil
}

func askOften(to string, times int) error {
	conn, err := net.Dial("tcp", to)
	if err != nil {
		return err
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	for range times {
		if err := ask(conn, r); err != nil {
			return err
		}
	}
	return nil
}

// answerAll is a target that looks at nothing but where a request ends.
func answerAll(l net.Listener) {
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-App-Version: v1\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n" +
		fmt.Sprintf("Content-Length: %d\r\n\r\n%*s", bodySize, bodySize, ""))
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			for r := bufio.NewReader(conn); ; {
				line, err := r.ReadSlice('\n')
				if err == nil && len(line) <= len("\r\n") {
					_, err = conn.Write(answer)
				}
				if err != nil {
					return
				}
			}
		}()
	}
}
