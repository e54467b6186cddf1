//go:build linux

package sockopt

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

var hosts atomic.Uint32

// host is a loopback address that no other test uses.
func host() netip.Addr {
	n := hosts.Add(1)
	return netip.AddrFrom4([4]byte{127, byte(64 + os.Getpid()%64), byte(200 + n>>8), byte(n)})
}

// echo listens and sends back the first line of each connection.
func echo(t *testing.T) *net.TCPListener {
	t.Helper()
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	l, err := config.Listen(t.Context(), "tcp", netip.AddrPortFrom(host(), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				r := bufio.NewReader(conn)
				for {
					line, err := r.ReadString('\n')
					if err != nil {
						return
					}
					_, _ = io.WriteString(conn, line)
				}
			}()
		}
	}()
	return l.(*net.TCPListener)
}

// knock is an attempt that is to be dropped, dial one that is to succeed, however busy the machine is.
func knock(l net.Listener, from netip.Addr) error {
	conn, err := attempt(l, from, false, 150*time.Millisecond)
	if err == nil {
		_ = conn.Close()
	}
	return err
}

func dial(l net.Listener, from netip.Addr, marked bool) (net.Conn, error) {
	return attempt(l, from, marked, 10*time.Second)
}

func attempt(l net.Listener, from netip.Addr, marked bool, patience time.Duration) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from.AsSlice()}, Timeout: patience}
	if marked {
		d.Control = func(_, _ string, c syscall.RawConn) error { return c.Control(Relay) }
	}
	return d.Dial("tcp", l.Addr().String())
}

func wantEcho(t *testing.T, conn net.Conn) {
	t.Helper()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.WriteString(conn, "hello\n")
	if line, err := bufio.NewReader(conn).ReadString('\n'); line != "hello\n" {
		t.Fatalf("the connection says %q, %v", line, err)
	}
}

func wantTimeout(t *testing.T, err error) {
	t.Helper()
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("the attempt to connect ends by %v, want a time-out", err)
	}
}

func set(t *testing.T, l *net.TCPListener, f Filter) {
	t.Helper()
	if err := SetFilter(l, f); err != nil {
		t.Fatal(err)
	}
}

func only(a netip.Addr) []netip.Prefix { return []netip.Prefix{netip.PrefixFrom(a, 32)} }

// Attempts of those that are not admitted time out, and a change of the filter leaves connections alone.
func TestFilterDropsAttempts(t *testing.T) {
	l, in, out := echo(t), host(), host()
	set(t, l, Filter{Sources: only(in)})
	admitted, err := dial(l, in, false)
	if err != nil {
		t.Fatal(err)
	}
	defer admitted.Close()
	wantTimeout(t, knock(l, out))
	if Dropped(l) == 0 {
		t.Error("no segment was dropped")
	}
	set(t, l, Filter{})
	wantTimeout(t, knock(l, in))
	wantEcho(t, admitted)
	set(t, l, Everybody)
	conn, err := dial(l, out, false)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	wantEcho(t, conn)
}

// Who is denied stays out of a block that is admitted, and relays come in under any address.
func TestFilterDeniesAndRelays(t *testing.T) {
	l, bad := echo(t), host()
	set(t, l, Filter{Sources: Everybody.Sources, Denied: []netip.Addr{bad}, Relays: true})
	wantTimeout(t, knock(l, bad))
	for _, c := range []struct {
		from   netip.Addr
		marked bool
	}{{host(), false}, {bad, true}} {
		conn, err := dial(l, c.from, c.marked)
		if err != nil {
			t.Fatalf("from %s, marked %v: %v", c.from, c.marked, err)
		}
		wantEcho(t, conn)
		_ = conn.Close()
	}
}

// The edges of many blocks are where they have to be, and a filter that is too long leaves the socket open.
func TestFilterOfManyBlocks(t *testing.T) {
	l, in := echo(t), host()
	blocks := func(n int) (list []netip.Prefix) {
		for i := range n {
			list = append(list, netip.MustParsePrefix(fmt.Sprintf("10.%d.%d.0/25", i>>8, i&255)))
		}
		return append(list, netip.PrefixFrom(in, 31), netip.PrefixFrom(in, 32), netip.MustParsePrefix("2001:db8::/32"))
	}
	set(t, l, Filter{Sources: blocks(600)})
	inside := netip.PrefixFrom(in, 31).Masked().Addr()
	for from, admitted := range map[netip.Addr]bool{inside: true, inside.Next(): true, inside.Prev(): false, inside.Next().Next(): false} {
		if !admitted {
			wantTimeout(t, knock(l, from))
			continue
		}
		conn, err := dial(l, from, false)
		if err != nil {
			t.Errorf("%s: %v", from, err)
			continue
		}
		_ = conn.Close()
	}
	if err := SetFilter(l, Filter{Sources: blocks(2000)}); !errors.Is(err, ErrTooLong) {
		t.Errorf("2000 blocks: %v", err)
	}
	conn, err := dial(l, host(), false)
	if err != nil {
		t.Fatalf("after a filter that could not be: %v", err)
	}
	_ = conn.Close()
}

// An accepted connection can be rid of its copy of the filter, and the kernel tells what came in on it.
func TestAcceptedConnection(t *testing.T) {
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	l, err := config.Listen(t.Context(), "tcp", netip.AddrPortFrom(host(), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	in := host()
	set(t, l.(*net.TCPListener), Filter{Sources: only(in)})
	client, err := dial(l, in, false)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ClearFilter(conn.(*net.TCPConn))
	_, _ = io.WriteString(client, "hello\n")
	if line, err := bufio.NewReader(conn).ReadString('\n'); line != "hello\n" {
		t.Fatalf("%q, %v", line, err)
	}
	if i, ok := Look(conn.(*net.TCPConn)); !ok || i.Segments == 0 || i.Closed {
		t.Errorf("the kernel knows %+v, %v", i, ok)
	}
}

// BenchmarkAccept is a connection, from the attempt to the end, without a filter and with one of 50 blocks from which it is freed when it
// is accepted:
//
//	go test -run '^$' -bench Accept ./sandbox/aws/dataplane/sockopt/
func BenchmarkAccept(b *testing.B) {
	for _, filtered := range []bool{false, true} {
		b.Run(fmt.Sprintf("filtered=%v", filtered), func(b *testing.B) {
			var config net.ListenConfig
			config.SetMultipathTCP(false)
			l, err := config.Listen(b.Context(), "tcp", netip.AddrPortFrom(host(), 0).String())
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			f := Filter{Sources: only(netip.MustParseAddr("127.0.0.1"))}
			for i := range 49 {
				f.Sources = append(f.Sources, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 0}), 16))
			}
			if filtered {
				if err := SetFilter(l.(*net.TCPListener), f); err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				client, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					b.Fatal(err)
				}
				conn, err := l.Accept()
				if err != nil {
					b.Fatal(err)
				}
				if filtered {
					ClearFilter(conn.(*net.TCPConn))
				}
				_ = client.(*net.TCPConn).SetLinger(0)
				_, _ = client.Close(), conn.Close()
			}
		})
	}
}
