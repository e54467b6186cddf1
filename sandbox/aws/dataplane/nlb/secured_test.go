package nlb

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"io"
	"math/big"
	"net"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
)

// certificate is a certificate that httptest has made, for example.com.
func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	return server.TLS.Certificates[0]
}

func secured(c tls.Certificate, alpn ...string) func(*dataplane.Listener) {
	return func(l *dataplane.Listener) { l.Certificates, l.ALPN = []tls.Certificate{c}, alpn }
}

// hello connects by TLS and offers protocols.
func (w *world) hello(offered ...string) (*client, string, error) {
	w.Helper()
	conn := w.dial().Conn
	secured := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: offered})
	if err := secured.HandshakeContext(w.Context()); err != nil {
		return nil, "", err
	}
	return &client{secured, bufio.NewReader(secured)}, secured.ConnectionState().NegotiatedProtocol, nil
}

// A TLS listener decrypts for a TCP group, with the client's address all the same.
func TestTLSListenerTCPGroup(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	w.group("g", []*app{a})
	w.listen(dataplane.TLS, to("g"), secured(certificate(t)))
	c, _, err := w.hello()
	if err != nil {
		t.Fatal(err)
	}
	name, peer, err := c.say("secret")
	if name != "a" || err != nil || host(peer) != host(c.LocalAddr().String()) {
		t.Errorf("%s answers for %s, %v", name, peer, err)
	}
	_ = c.Close()
	w.eventually("the flow ends", func() bool { return w.node.Stats().Network.ActiveFlows[dataplane.TLS] == 0 })
	if s := w.node.Stats().Network; s.NewFlows[dataplane.TLS] != 1 || s.ProcessedBytes[dataplane.TLS] == 0 {
		t.Errorf("stats %+v", s)
	}
}

// ALPN: the policy of the listener decides, in its order.
func TestApplicationProtocols(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	w.group("g", []*app{a})
	crt := certificate(t)
	for _, c := range []struct {
		name            string
		policy, offered []string
		want            string
		fails           bool
	}{
		{"none", nil, []string{"h2"}, "", false},
		{"http1-only", []string{"http/1.1", "http/1.0"}, []string{"h2", "http/1.1"}, "http/1.1", false},
		{"http2-only", []string{"h2"}, []string{"http/1.1", "h2"}, "h2", false},
		{"http1-only-does-not-fit", []string{"http/1.1", "http/1.0"}, []string{"h2"}, "", true},
		{"http1-client-of-http2-only", []string{"h2"}, []string{"http/1.1"}, "", false}, // crypto/tls lets it in without ALPN
		{"http2-preferred", []string{"h2", "http/1.1", "http/1.0"}, []string{"http/1.1", "h2"}, "h2", false},
		{"http2-optional", []string{"http/1.1", "http/1.0", "h2"}, []string{"h2", "http/1.1"}, "http/1.1", false},
		{"client-without-alpn", []string{"h2"}, nil, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.listen(dataplane.TLS, to("g"), secured(crt, c.policy...))
			_, got, err := w.hello(c.offered...)
			if got != c.want || (err != nil) != c.fails {
				t.Errorf("negotiated %q, %v", got, err)
			}
		})
	}
	w.eventually("the failed handshake is counted", func() bool { return w.node.Stats().Network.ClientTLSErrors == 1 })
}

// A TLS group is encrypted again, without a look at the certificate.
func TestTLSListenerTLSGroup(t *testing.T) {
	w := newWorld(t)
	crt := certificate(t)
	a := &app{name: "a", Target: dataplane.Target{Address: address(), Port: 9000, Zone: "zone-a"}}
	l, err := tls.Listen("tcp", netip.AddrPortFrom(a.Address, a.Port).String(), &tls.Config{Certificates: []tls.Certificate{crt}, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); a.accept(l) }()
	t.Cleanup(func() { _ = l.Close(); <-done })
	w.group("g", []*app{a}, func(g *dataplane.Group) { g.Protocol = dataplane.TLS })
	w.listen(dataplane.TLS, to("g"), secured(crt, "h2"))
	c, _, err := w.hello("h2")
	if err != nil {
		t.Fatal(err)
	}
	w.wantAnswer(c, "a")

	plain := w.serve("plain")
	w.group("g", []*app{plain}, func(g *dataplane.Group) { g.Protocol = dataplane.TLS })
	if c, _, err = w.hello(); err == nil {
		if _, _, err = c.say("x"); err == nil {
			t.Error("a target that speaks no TLS answers")
		}
	}
	w.eventually("the failed handshake is counted", func() bool { return w.node.Stats().Network.TargetTLSErrors > 0 })
}

// SNI chooses the certificate; who asks for none or an unknown name gets the default one.
func TestServerNames(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	w.group("g", []*app{a})
	first, second := certificate(t), selfSigned(t, "second.test")
	w.listen(dataplane.TLS, to("g"), func(l *dataplane.Listener) { l.Certificates = []tls.Certificate{first, second} })
	for name, want := range map[string]tls.Certificate{"second.test": second, "unknown.test": first, "": first} {
		conn := tls.Client(w.dial().Conn, &tls.Config{InsecureSkipVerify: true, ServerName: name})
		if err := conn.HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := conn.ConnectionState().PeerCertificates[0].Raw; string(got) != string(want.Certificate[0]) {
			t.Errorf("for %q another certificate is shown", name)
		}
	}
}

// The header of the PROXY protocol names client and node, also when the target sees the node's address; checks name nobody.
func TestProxyProtocol(t *testing.T) {
	w := newWorld(t)
	a := &app{name: "a", Target: dataplane.Target{Address: address(), Port: 9000, Zone: "zone-a"}}
	l, err := net.Listen("tcp", netip.AddrPortFrom(a.Address, a.Port).String())
	if err != nil {
		t.Fatal(err)
	}
	headers := make(chan []byte, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			head := make([]byte, 16)
			if _, err := io.ReadFull(conn, head); err == nil {
				rest := make([]byte, binary.BigEndian.Uint16(head[14:]))
				_, _ = io.ReadFull(conn, rest)
				select {
				case headers <- append(head, rest...):
				default:
				}
				if head[12] == 0x21 {
					_, _ = io.WriteString(conn, "seen\n")
				}
			}
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	w.group("g", []*app{a}, func(g *dataplane.Group) { g.Network.ProxyProtocol, g.Network.PreserveClient = true, false })
	w.listen(dataplane.TCP, to("g"))
	c := w.dial()
	if line, err := c.r.ReadString('\n'); line != "seen\n" {
		t.Fatalf("the target says %q, %v", line, err)
	}
	local := c.LocalAddr().(*net.TCPAddr).AddrPort()
	var sawLocal, sawProxied bool
	for !sawLocal || !sawProxied {
		h := <-headers
		switch h[12] {
		case 0x20:
			sawLocal = len(h) == 16
		case 0x21:
			source, _ := netip.AddrFromSlice(h[16:20])
			destination, _ := netip.AddrFromSlice(h[20:24])
			from := netip.AddrPortFrom(source, binary.BigEndian.Uint16(h[24:]))
			at := netip.AddrPortFrom(destination, binary.BigEndian.Uint16(h[26:]))
			if from != local || at != w.at {
				t.Fatalf("header of %s to %s, want %s to %s", from, at, local, w.at)
			}
			sawProxied = true
		}
	}
}

func selfSigned(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
