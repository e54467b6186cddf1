package load

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Lookup gives the real addresses of the load balancer's nodes and until when they may be used; with an error, until when
// there is no use in asking again, or zero.
type Lookup func(context.Context) (addresses []netip.AddrPort, until time.Time, err error)

// Resolver asks one DNS server for IPv4 addresses and keeps what it says for as long as the TTL says, as the
// cache of an operating system does. That there is nothing is kept too, for the time in the zone's SOA record. All who share a
// resolver get the same answer, so a weighted record sends them all to one place until it has expired.
type Resolver struct {
	// exchange asks the server.
	exchange func(context.Context, *dns.Msg) (*dns.Msg, error)

	mu   sync.Mutex
	kept map[string]reply
}

// reply is what the server has said of a name.
type reply struct {
	addresses []netip.Addr
	err       error
	until     time.Time
}

// ErrNoAddress says that there is no such name, or that it has no IPv4 address.
var ErrNoAddress = errors.New("the name has no address")

// NewResolver returns a resolver that knows nothing yet.
func NewResolver(server netip.AddrPort) *Resolver {
	return &Resolver{exchange: func(ctx context.Context, question *dns.Msg) (*dns.Msg, error) {
		return ask(ctx, server.String(), question)
	}}
}

// Lookup looks a name up for Config; port is the real one of the load balancer's nodes.
func (r *Resolver) Lookup(name string, port uint16) Lookup {
	return func(ctx context.Context) ([]netip.AddrPort, time.Time, error) {
		found, until, err := r.Addresses(ctx, name)
		var at []netip.AddrPort
		for _, a := range found {
			at = append(at, netip.AddrPortFrom(a, port))
		}
		return at, until, err
	}
}

// Addresses are those of a name, in the order of the server's answer, and the time until which they hold. The error is
// ErrNoAddress, which holds as long, or says why the server was of no help; then the time is zero.
func (r *Resolver) Addresses(ctx context.Context, name string) ([]netip.Addr, time.Time, error) {
	name = dns.CanonicalName(name)
	r.mu.Lock()
	known, ok := r.kept[name]
	r.mu.Unlock()
	if ok && time.Now().Before(known.until) {
		return known.addresses, known.until, known.err
	}
	question := new(dns.Msg).SetQuestion(name, dns.TypeA).SetEdns0(answerSize, false)
	answer, err := r.exchange(ctx, question)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("cannot resolve %s: %w", name, err)
	}
	told, err := read(name, answer, time.Now())
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("cannot resolve %s: %w", name, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.kept, func(_ string, old reply) bool { return !time.Now().Before(old.until) })
	if r.kept == nil {
		r.kept = map[string]reply{}
	}
	r.kept[name] = told
	return told.addresses, told.until, told.err
}

// read takes the addresses from an answer, following its CNAMEs. The shortest TTL on the way counts.
func read(name string, answer *dns.Msg, now time.Time) (reply, error) {
	if answer.Rcode != dns.RcodeSuccess && answer.Rcode != dns.RcodeNameError {
		return reply{}, fmt.Errorf("the server answers %s", dns.RcodeToString[answer.Rcode])
	}
	var found reply
	shortest := uint32(1<<31 - 1)
	at := name
	for range len(answer.Answer) + 1 {
		next := ""
		for _, record := range answer.Answer {
			if dns.CanonicalName(record.Header().Name) != at {
				continue
			}
			switch record := record.(type) {
			case *dns.CNAME:
				next = dns.CanonicalName(record.Target)
			case *dns.A:
				if a, ok := netip.AddrFromSlice(record.A.To4()); ok {
					found.addresses = append(found.addresses, a)
				}
			default:
				continue
			}
			shortest = min(shortest, record.Header().Ttl)
		}
		if next == "" || len(found.addresses) > 0 {
			break
		}
		at = next
	}
	if len(found.addresses) == 0 {
		found.err, shortest = fmt.Errorf("cannot resolve %s: %w (%s)", name, ErrNoAddress, dns.RcodeToString[answer.Rcode]), 0
		for _, record := range answer.Ns {
			if soa, ok := record.(*dns.SOA); ok {
				shortest = min(soa.Hdr.Ttl, soa.Minttl)
			}
		}
	}
	found.until = now.Add(time.Duration(shortest) * time.Second)
	return found, nil
}

const (
	answerSize  = 1232
	askTimeout  = 2 * time.Second
	askAttempts = 3
)

// ask sends a question over UDP, again when nothing comes back, and over TCP when the answer was cut.
func ask(ctx context.Context, server string, question *dns.Msg) (*dns.Msg, error) {
	client := dns.Client{UDPSize: answerSize, Timeout: askTimeout}
	var answer *dns.Msg
	var err error
	for range askAttempts {
		answer, _, err = client.ExchangeContext(ctx, question, server)
		if err == nil || ctx.Err() != nil {
			break
		}
	}
	if err == nil && answer.Truncated {
		client.Net = "tcp"
		answer, _, err = client.ExchangeContext(ctx, question, server)
	}
	return answer, err
}
