package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// scripted answers with the records of a text, one to a line; a line "none TTL" is NXDOMAIN.
func scripted(t *testing.T, asked *int, records *string) *Resolver {
	return &Resolver{exchange: func(_ context.Context, question *dns.Msg) (*dns.Msg, error) {
		*asked++
		answer := new(dns.Msg).SetReply(question)
		for line := range strings.Lines(*records) {
			switch line = strings.TrimSpace(line); {
			case line == "away":
				return nil, errors.New("nothing came back")
			case line == "refused":
				answer.Rcode = dns.RcodeRefused
			case strings.HasPrefix(line, "none "):
				answer.Rcode = dns.RcodeNameError
				line = "test. " + line[5:] + " IN SOA ns. me. 1 2 3 4 60"
				fallthrough
			default:
				record, err := dns.NewRR(line)
				if err != nil {
					t.Fatal(err)
				}
				if _, ok := record.(*dns.SOA); ok {
					answer.Ns = append(answer.Ns, record)
				} else {
					answer.Answer = append(answer.Answer, record)
				}
			}
		}
		return answer, nil
	}}
}

// TestAnswersAreKeptForTheirTTL in virtual time.
func TestAnswersAreKeptForTheirTTL(t *testing.T) {
	for _, one := range []struct {
		name, records string
		want          string
		keeps         time.Duration
	}{
		{"an address", "shop.test. 60 IN A 192.0.2.1", "[192.0.2.1]", time.Minute},
		{"addresses keep their order", "shop.test. 60 IN A 192.0.2.2\nshop.test. 60 IN A 192.0.2.1", "[192.0.2.2 192.0.2.1]", time.Minute},
		{"the shortest TTL counts, that of an alias too", "Shop.test. 5 IN CNAME LB.test.\nlb.test. 60 IN A 192.0.2.1", "[192.0.2.1]", 5 * time.Second},
		{"records of other names do not", "shop.test. 60 IN A 192.0.2.1\nother.test. 5 IN A 192.0.2.9", "[192.0.2.1]", time.Minute},
		{"TTL 0", "shop.test. 0 IN A 192.0.2.1", "[192.0.2.1]", 0},
		{"no such name, for less than its SOA's TTL", "none 900", "no address", time.Minute},
		{"no such name, for its SOA's TTL", "none 7", "no address", 7 * time.Second},
		{"aliases in a circle", "shop.test. 60 IN CNAME b.test.\nb.test. 60 IN CNAME shop.test.", "no address", 0},
		{"a server that does not know", "refused", "error", 0},
		{"a server that is away", "away", "error", 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			asked, records := 0, one.records
			r := scripted(t, &asked, &records)
			look := func() string {
				found, until, err := r.Addresses(t.Context(), "SHOP.test")
				switch {
				case errors.Is(err, ErrNoAddress):
					return "no address"
				case err != nil && until.IsZero():
					return "error"
				case err != nil:
					return err.Error()
				}
				return fmt.Sprint(found)
			}
			if got := look(); got != one.want {
				t.Errorf("%s: %s, want %s", one.name, got, one.want)
			}
			records = "shop.test. 60 IN A 198.51.100.1"
			if one.keeps > 0 {
				time.Sleep(one.keeps - time.Nanosecond)
				if got := look(); got != one.want || asked != 1 {
					t.Errorf("%s: %s after %d questions just before it expires, want %s", one.name, got, asked, one.want)
				}
				time.Sleep(time.Nanosecond)
			}
			if got := look(); got != "[198.51.100.1]" || asked != 2 {
				t.Errorf("%s: %s after %d questions when it has expired", one.name, got, asked)
			}
		})
	}
}

// TestResolverAsksARealServer over UDP, and over TCP for what does not fit.
func TestResolverAsksARealServer(t *testing.T) {
	var first atomic.Bool
	at := serveDNS(t, func(question *dns.Msg) *dns.Msg {
		if question.Question[0].Name == "lost.test." && first.CompareAndSwap(false, true) {
			return nil // the datagram is lost
		}
		answer := new(dns.Msg).SetReply(question)
		for i := range 100 {
			answer.Answer = append(answer.Answer, &dns.A{
				Hdr: dns.RR_Header{Name: question.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.IPv4(192, 0, 2, byte(i)),
			})
		}
		return answer
	})
	r := NewResolver(at)
	for _, name := range []string{"many.test", "lost.test"} {
		if found, _, err := r.Addresses(t.Context(), name); err != nil || len(found) != 100 {
			t.Errorf("%s: %d addresses, %v", name, len(found), err)
		}
	}
	found, until, err := r.Lookup("many.test", 8080)(t.Context())
	if err != nil || len(found) != 100 || found[0].Port() != 8080 || time.Until(until) > time.Minute {
		t.Errorf("%v until %s: %v", found, until, err)
	}
}

// serveDNS answers over UDP and TCP on one port; nil is no answer.
func serveDNS(t *testing.T, answer func(*dns.Msg) *dns.Msg) netip.AddrPort {
	t.Helper()
	streams, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := streams.Addr().String()
	packets, err := net.ListenPacket("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, question *dns.Msg) {
		told := answer(question)
		if told == nil {
			return
		}
		if _, datagram := w.RemoteAddr().(*net.UDPAddr); datagram {
			told.Truncate(512)
		}
		_ = w.WriteMsg(told)
	})
	for _, server := range []*dns.Server{{Listener: streams, Handler: handler}, {PacketConn: packets, Handler: handler}} {
		started, ended := make(chan struct{}), make(chan error, 1)
		server.NotifyStartedFunc = func() { close(started) }
		go func() { ended <- server.ActivateAndServe() }()
		<-started
		t.Cleanup(func() {
			if err := errors.Join(server.Shutdown(), <-ended); err != nil {
				t.Error(err)
			}
		})
	}
	return netip.MustParseAddrPort(at)
}

// TestLoadFollowsDNS: when the record changes, new connections go to the new address as soon as the TTL is over, and the server is asked no
// more often than that.
func TestLoadFollowsDNS(t *testing.T) {
	// Two servers on one port, as the nodes of a load balancer are.
	listeners := make([]net.Listener, 2)
	for i, host := range []string{"127.0.0.2", "127.0.0.3"} {
		port := "0"
		if i > 0 {
			_, port, _ = net.SplitHostPort(listeners[0].Addr().String())
		}
		var err error
		if listeners[i], err = net.Listen("tcp", net.JoinHostPort(host, port)); err != nil {
			t.Skipf("cannot listen at %s:%s: %v", host, port, err)
		}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Connection", "close")
			_, _ = io.WriteString(w, host)
		})}
		ended := make(chan error, 1)
		go func() { ended <- server.Serve(listeners[i]) }()
		t.Cleanup(func() { _ = server.Close(); <-ended })
	}
	one, two := netip.MustParseAddrPort(listeners[0].Addr().String()), netip.MustParseAddrPort(listeners[1].Addr().String())
	var questions atomic.Int64
	var changed atomic.Bool
	at := serveDNS(t, func(question *dns.Msg) *dns.Msg {
		questions.Add(1)
		answer := new(dns.Msg).SetReply(question)
		to := one
		if changed.Load() {
			to = two
		}
		answer.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: question.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: to.Addr().AsSlice()}}
		return answer
	})
	g, err := New(Config{Rate: 200, Host: "shop.test", Lookup: NewResolver(at).Lookup("shop.test", one.Port())})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan Result, 1)
	go func() {
		r, err := g.Run(ctx)
		if err != nil {
			t.Error(err)
		}
		done <- r
	}()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for g.Snapshot().Nodes[one].Sent == 0 {
		<-tick.C
	}
	changed.Store(true)
	// Requests that are under way to the old address count when they are answered: it is left once those of the new one are
	// answered and none of the old.
	var old, since uint64
	for {
		r := g.Snapshot()
		if n := r.Nodes[one].Opened; n != old {
			old, since = n, r.Nodes[two].Sent
		}
		if r.Nodes[two].Sent >= since+40 {
			break
		}
		if r.Sent > 2000 {
			t.Fatalf("requests still go to the old address: %+v", r)
		}
		<-tick.C
	}
	cancel()
	r := <-done
	if r.Failed != 0 || r.Nodes[one].Sent+r.Nodes[two].Sent != r.Sent || r.FailedLookups != 0 {
		t.Errorf("got %+v", r)
	}
	if n := questions.Load(); float64(n) > 2+r.Ended.Sub(r.Started).Seconds() {
		t.Errorf("%d questions in %s with a TTL of 1 s", n, r.Ended.Sub(r.Started))
	}
}
