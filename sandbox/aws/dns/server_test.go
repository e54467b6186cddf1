package dns_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"testing"

	mdns "github.com/miekg/dns"
)

// TestGoResolver uses the resolver of the standard library as every Go program does, over UDP and, for what does
// not fit, TCP.
func TestGoResolver(t *testing.T) {
	a := newAccount(t, nil).serve()
	lb := a.active(a.balancer("web", application))
	var many []string
	for i := range 200 {
		many = append(many, fmt.Sprintf("192.0.2.%d", i))
	}
	a.zone("example.com", set("many.example.com", "A", 60, many...), set("www.example.com", "CNAME", 60, *lb.DNSName))
	var overTCP atomic.Bool
	resolver := &net.Resolver{PreferGo: true, StrictErrors: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		overTCP.CompareAndSwap(false, network == "tcp")
		return new(net.Dialer).DialContext(ctx, network, a.server.Addr().String())
	}}
	var want []string
	for _, real := range a.real("web") {
		want = append(want, real.String())
	}
	slices.Sort(want)
	for _, name := range []string{*lb.DNSName, "www.example.com"} {
		got := must(resolver.LookupHost(t.Context(), name+"."))(t)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	if got := must(resolver.LookupNetIP(t.Context(), "ip4", "many.example.com."))(t); len(got) != 200 || !overTCP.Load() {
		t.Errorf("%d addresses; over TCP: %t", len(got), overTCP.Load())
	}
	_, err := resolver.LookupHost(t.Context(), "nobody.example.com.")
	if missing, ok := errors.AsType[*net.DNSError](err); !ok || !missing.IsNotFound {
		t.Errorf("a name that is not there: %v", err)
	}
}

// TestSizes: what is too large for the client's datagrams is cut and marked.
func TestSizes(t *testing.T) {
	a := newAccount(t, nil).serve()
	var many []string
	for i := range 60 {
		many = append(many, fmt.Sprintf("192.0.2.%d", i))
	}
	a.zone("example.com", set("many.example.com", "A", 60, many...), set("some.example.com", "A", 60, many[:40]...))
	ask := func(network, name string, size uint16, version uint8) *mdns.Msg {
		question := new(mdns.Msg).SetQuestion(name, mdns.TypeA)
		if size > 0 {
			question.SetEdns0(size, false)
			question.IsEdns0().SetVersion(version)
		}
		client := &mdns.Client{Net: network}
		answer, _, err := client.ExchangeContext(t.Context(), question, a.server.Addr().String())
		if err != nil {
			t.Fatalf("%s over %s: %v", name, network, err)
		}
		answer.Compress = true // as it was sent
		return answer
	}
	for _, one := range []struct {
		network, name string
		size          uint16
		whole         bool
	}{
		{"udp", "some.example.com.", 0, false},
		{"udp", "some.example.com.", 512, false},
		{"udp", "some.example.com.", 100, false}, // less than 512 is 512
		{"udp", "some.example.com.", 1232, true},
		{"udp", "some.example.com.", 65535, true},
		{"udp", "many.example.com.", 700, false},
		{"tcp", "many.example.com.", 0, true},
		{"tcp", "many.example.com.", 512, true},
	} {
		answer := ask(one.network, one.name, one.size, 0)
		limit := max(512, min(int(one.size), 1232))
		if answer.Truncated == one.whole || one.network == "udp" && answer.Len() > limit || len(answer.Answer) == 0 {
			t.Errorf("%+v: truncated %t, %d bytes, %d records", one, answer.Truncated, answer.Len(), len(answer.Answer))
		}
		if opt := answer.IsEdns0(); (opt != nil) != (one.size > 0) {
			t.Errorf("%+v: EDNS is answered with %v", one, opt)
		}
	}
	if answer := ask("udp", "some.example.com.", 1232, 1); answer.Rcode != mdns.RcodeBadVers || len(answer.Answer) != 0 {
		t.Errorf("a later version of EDNS: %v", answer)
	}
}

// TestQuestionsThatAreNone are refused as they should be, and nothing hangs.
func TestQuestionsThatAreNone(t *testing.T) {
	a := newAccount(t, nil)
	question := func(change func(*mdns.Msg)) *mdns.Msg {
		q := new(mdns.Msg).SetQuestion("www.example.com.", mdns.TypeA)
		change(q)
		return a.server.Answer(q)
	}
	for want, change := range map[int]func(*mdns.Msg){
		mdns.RcodeNotImplemented: func(q *mdns.Msg) { q.Opcode = mdns.OpcodeNotify },
		mdns.RcodeRefused:        func(q *mdns.Msg) { q.Question[0].Qclass = mdns.ClassCHAOS },
		mdns.RcodeFormatError:    func(q *mdns.Msg) { q.SetEdns0(512, false); q.SetEdns0(512, false) },
	} {
		if got := question(change); got.Rcode != want || len(got.Answer) != 0 {
			t.Errorf("got %s, want %s", mdns.RcodeToString[got.Rcode], mdns.RcodeToString[want])
		}
	}
	if got := question(func(q *mdns.Msg) { q.Question = nil }); got.Rcode != mdns.RcodeFormatError {
		t.Errorf("no question: %v", got)
	}
}

// TestRubbish: what is no question is dropped or refused, and the server goes on.
func TestRubbish(t *testing.T) {
	a := newAccount(t, nil).serve()
	a.zone("example.com", set("www.example.com", "A", 60, "192.0.2.1"))
	response := must(new(mdns.Msg).SetReply(new(mdns.Msg).SetQuestion("www.example.com.", mdns.TypeA)).Pack())(t)
	circle := append(make([]byte, 12), 0xc0, 12, 0, 1, 0, 1) // a name that points at itself
	circle[5] = 1
	for _, network := range []string{"udp", "tcp"} {
		for _, rubbish := range [][]byte{{}, {0}, {0xff, 0xff}, make([]byte, 12), circle, bytes.Repeat([]byte{0xff}, 2000), response} {
			conn := must(net.Dial(network, a.server.Addr().String()))(t)
			defer conn.Close() // at the end: half a question over TCP stays open
			if network == "tcp" {
				rubbish = append([]byte{byte(len(rubbish) >> 8), byte(len(rubbish) + 1)}, rubbish...)
			}
			must(conn.Write(rubbish))(t)
		}
		answer, _, err := (&mdns.Client{Net: network}).ExchangeContext(t.Context(), new(mdns.Msg).SetQuestion("www.example.com.", mdns.TypeA), a.server.Addr().String())
		if err != nil || say(answer) != "A 192.0.2.1 60" {
			t.Errorf("after rubbish over %s: %v, %v", network, answer, err)
		}
	}
}

// TestClose frees the port, whether the server has served or not, and ends those that wait for their turn.
func TestClose(t *testing.T) {
	for _, served := range []bool{false, true} {
		a := newAccount(t, nil)
		at := a.server.Addr().String()
		if served {
			a.serve()
			idle := must(net.Dial("tcp", at))(t) // a client that says nothing
			defer idle.Close()
			if _, _, err := (&mdns.Client{Net: "tcp"}).Exchange(new(mdns.Msg).SetQuestion("x.", mdns.TypeA), at); err != nil {
				t.Error(err)
			}
		}
		if err := errors.Join(a.server.Close(), a.server.Close()); err != nil {
			t.Error(err)
		}
		for _, network := range []string{"tcp", "udp"} {
			if network == "tcp" {
				must(net.Listen("tcp", at))(t).Close()
			} else {
				must(net.ListenPacket("udp", at))(t).Close()
			}
		}
	}
}

// FuzzQuestions: whatever arrives, there is an answer that can be sent, or none at all.
func FuzzQuestions(f *testing.F) {
	a := newAccount(f, nil)
	lb := a.active(a.balancer("web", application))
	a.zone("example.com", set("www.example.com", "A", 60, "192.0.2.1"), set("*.example.com", "TXT", 60, `"a"`), set("a\\057b.example.com", "CNAME", 60, *lb.DNSName))
	for _, name := range []string{*lb.DNSName, "www.example.com", `a\047b.example.com`, ".", "x.y.z.example.com"} {
		for _, kind := range []uint16{mdns.TypeA, mdns.TypeANY, mdns.TypeSOA, 65280} {
			wire, err := new(mdns.Msg).SetQuestion(mdns.Fqdn(name), kind).SetEdns0(4096, true).Pack()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(wire)
		}
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		question := new(mdns.Msg)
		if question.Unpack(wire) != nil || question.Response {
			return
		}
		answer := a.server.Answer(question)
		answer.Truncate(512)
		packed, err := answer.Pack()
		if err != nil {
			t.Fatalf("the answer to %v cannot be sent: %v", question, err)
		}
		if len(packed) > 512 && len(question.Question) < 2 {
			t.Errorf("%d bytes for %v", len(packed), question)
		}
		if !answer.Response || answer.Id != question.Id {
			t.Errorf("%v is no answer to %v", answer, question)
		}
	})
}
