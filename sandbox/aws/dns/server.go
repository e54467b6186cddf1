package dns

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/elbv2"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/route53"
)

// Account is what the answers are taken from.
type Account interface {
	// Resolve gives the VPC addresses at the DNS name of a load balancer, nothing if no visible one has that name.
	Resolve(name string) []netip.Addr
	// LoadBalancers lists all load balancers with the zones of their nodes.
	LoadBalancers() []elbv2.Balancer
	// ZoneOf is the availability zone of an address of the VPC, nothing for any other.
	ZoneOf(netip.Addr) string
	// Route53 has the hosted zones.
	Route53() *route53.Service
}

// Addresses translates between addresses of VPCs and those at which they are really served. What it does not know is the zero Addr.
type Addresses interface {
	RealAddr(virtual netip.Addr) netip.Addr
	VirtualAddr(real netip.Addr) netip.Addr
}

// Config is what a server needs.
type Config struct {
	Account Account
	// Region is part of the names of load balancers.
	Region string
	// VPC says where addresses are really served.
	VPC Addresses
	// Seed makes the draws of weighted records and the order of answers repeatable.
	Seed uint64
	// Log is told of records that cannot be answered; nil: nobody is.
	Log *slog.Logger
}

const (
	// maxUDP is the largest answer over UDP, even if the client takes more: what is safe from fragmentation.
	maxUDP = 1232
	// maxQuery is the largest question over UDP.
	maxQuery = 4096
	// patience with a TCP client that sends nothing, or takes nothing.
	patience = 10 * time.Second
)

// Server answers on one port, over UDP and TCP.
type Server struct {
	config   Config
	at       netip.AddrPort
	packets  net.PacketConn
	streams  net.Listener
	udp, tcp *dns.Server

	mu     sync.Mutex
	random *rand.Rand
	closed bool
}

// Listen takes a port, host:port; port 0 is one that is free over UDP and TCP. Questions wait until Serve.
func Listen(at string, c Config) (*Server, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{config: c, random: rand.New(rand.NewPCG(c.Seed, 53))}
	if err := s.bind(at); err != nil {
		return nil, fmt.Errorf("cannot serve DNS at %s: %w", at, err)
	}
	s.at = netip.MustParseAddrPort(s.streams.Addr().String())
	s.udp = &dns.Server{PacketConn: s.packets, Handler: s, UDPSize: maxQuery}
	s.tcp = &dns.Server{Listener: s.streams, Handler: s, ReadTimeout: patience, WriteTimeout: patience, IdleTimeout: func() time.Duration { return patience }}
	return s, nil
}

// bind takes the same port twice. A free one over TCP may be in use over UDP: then another is tried.
func (s *Server) bind(at string) error {
	host, port, err := net.SplitHostPort(at)
	if err != nil {
		return err
	}
	for range 20 {
		if s.streams, err = net.Listen("tcp", at); err != nil {
			return err
		}
		_, bound, _ := net.SplitHostPort(s.streams.Addr().String())
		if s.packets, err = net.ListenPacket("udp", net.JoinHostPort(host, bound)); err == nil {
			return nil
		}
		_ = s.streams.Close()
		if port != "0" || !errors.Is(err, syscall.EADDRINUSE) {
			return err
		}
	}
	return err
}

// Addr is where the server listens.
func (s *Server) Addr() netip.AddrPort { return s.at }

// Serve answers until Close, and returns nil after it.
func (s *Server) Serve() error {
	ended := make(chan error, 2)
	for _, server := range []*dns.Server{s.udp, s.tcp} {
		go func() { ended <- server.ActivateAndServe() }()
	}
	err := <-ended
	if s.isClosed() {
		<-ended
		return nil
	}
	_ = s.Close()
	<-ended
	return fmt.Errorf("cannot serve DNS at %s any longer: %w", s.at, err)
}

// Close ends Serve, after the questions in work.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	for _, server := range []*dns.Server{s.udp, s.tcp} {
		_ = server.Shutdown() // an error means that Serve has not begun, or has ended: closing the sockets is enough
	}
	_ = s.packets.Close()
	_ = s.streams.Close()
	return nil
}

func (s *Server) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// ServeDNS implements dns.Handler.
func (s *Server) ServeDNS(w dns.ResponseWriter, question *dns.Msg) {
	answer := s.AnswerTo(client(w.RemoteAddr()), question)
	answer.Truncate(room(w.RemoteAddr(), question))
	if err := w.WriteMsg(answer); err != nil && !s.isClosed() {
		s.config.Log.Debug("a DNS answer was not sent", "to", w.RemoteAddr(), "error", err)
	}
}

// client is the address that a question comes from.
func client(from net.Addr) netip.Addr {
	at, err := netip.ParseAddrPort(from.String())
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap()
}

// room is how large an answer may be.
func room(to net.Addr, question *dns.Msg) int {
	if _, datagram := to.(*net.UDPAddr); !datagram {
		return dns.MaxMsgSize
	}
	if opt := question.IsEdns0(); opt != nil {
		return min(max(dns.MinMsgSize, int(opt.UDPSize())), maxUDP)
	}
	return dns.MinMsgSize
}

// draw is a random number below n.
func (s *Server) draw(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.random.IntN(n)
}

// shuffle brings records into random order.
func (s *Server) shuffle(records []dns.RR) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.random.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
}
