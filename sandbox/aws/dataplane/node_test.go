package dataplane

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func answering(port uint16, status int) Listener {
	return Listener{Port: port, Protocol: HTTP, Default: Action{Fixed: &FixedResponse{Status: status}}}
}

func TestListenersOpenAndClose(t *testing.T) {
	w := newWorld(t)
	status := func(port uint16) int {
		res, err := w.client.Get("http://" + netip.AddrPortFrom(w.at.Addr(), port).String())
		if err != nil {
			if !strings.Contains(err.Error(), "refused") {
				t.Fatal(err)
			}
			return 0
		}
		_ = res.Body.Close()
		return res.StatusCode
	}
	w.apply(NodeConfig{Version: 1, Listeners: []Listener{answering(8080, 201)}})
	if a, b := status(8080), status(8081); a != 201 || b != 0 {
		t.Fatalf("got %d and %d", a, b)
	}
	w.apply(NodeConfig{Version: 2, Listeners: []Listener{answering(8080, 202), answering(8081, 203)}})
	if a, b := status(8080), status(8081); a != 202 || b != 203 {
		t.Fatalf("got %d and %d", a, b)
	}
	w.apply(NodeConfig{Version: 1, Listeners: []Listener{answering(8080, 299)}}) // late
	if a := status(8080); a != 202 {
		t.Fatalf("an older version took over: %d", a)
	}
	w.apply(NodeConfig{Version: 3, Listeners: []Listener{answering(8081, 203)}})
	w.eventually("the port is closed", func() bool { return status(8080) == 0 })
	if b := status(8081); b != 203 {
		t.Fatalf("got %d", b)
	}
	if e := w.awaitEvent(ListenerClosed, TargetKey{}); e.Port != 8080 {
		t.Fatalf("event %+v", e)
	}
	if v := w.node.Stats().ConfigVersion; v != 3 {
		t.Fatalf("version %d", v)
	}
}

func TestBusyPortIsReportedAndTriedAgain(t *testing.T) {
	w := newWorld(t)
	squatter, err := net.Listen("tcp", w.at.String())
	if err != nil {
		t.Fatal(err)
	}
	err = w.node.Apply(NodeConfig{Version: 1, Listeners: []Listener{answering(8080, 201), answering(8081, 202)}})
	if err == nil || !strings.Contains(err.Error(), w.at.String()) {
		t.Fatalf("got %v", err)
	}
	_ = squatter.Close()
	w.apply(NodeConfig{Version: 2, Listeners: []Listener{answering(8080, 201), answering(8081, 202)}})
	if status, _, _ := w.get("/"); status != 201 {
		t.Fatalf("got %d", status)
	}
}

func TestEndpointsAreMapped(t *testing.T) {
	real := address()
	w := newWorld(t, func(c *Config) {
		c.Address = netip.MustParseAddr("10.9.0.1")
		c.Endpoint = func(a netip.AddrPort) netip.AddrPort {
			switch a.Addr().String() {
			case "10.9.0.1":
				return netip.AddrPortFrom(real, a.Port()+8000)
			case "10.9.0.2":
				return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, real.As4()[1], 255, 2}), a.Port()+8000)
			}
			return a
		}
		c.Peer = func(a netip.AddrPort) netip.AddrPort {
			return netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), a.Port())
		}
	})
	w.at = netip.AddrPortFrom(real, 8080)
	var peer, forwarded, host string
	l, err := net.Listen("tcp", netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, real.As4()[1], 255, 2}), 8080).String())
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" {
			peer, forwarded, host = r.RemoteAddr, r.Header.Get("X-Forwarded-For"), r.Host
		}
	})}
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	w.healthyGroup("g", Target{Address: netip.MustParseAddr("10.9.0.2"), Port: 80})
	w.apply(NodeConfig{Listeners: []Listener{{Port: 80, Protocol: HTTP, Default: Action{Forward: &Forward{Groups: []WeightedGroup{only("g")}}}}}})
	if status, _, body := w.get("/"); status != 200 {
		t.Fatalf("got %d %s", status, body)
	}
	if at := netip.MustParseAddrPort(peer); at.Addr() != real || forwarded != "192.0.2.1" || strings.Contains(host, ":") {
		t.Fatalf("the target saw peer %s, client %s, host %s", peer, forwarded, host)
	}
}

// certificate signs itself for a name.
func certificate(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestHTTPSListener(t *testing.T) {
	w := newWorld(t)
	l := Listener{Port: 8080, Protocol: HTTPS, Certificates: []tls.Certificate{certificate(t, "a.example.com"), certificate(t, "b.example.com")},
		Default: Action{Redirect: &Redirect{Protocol: "HTTP", Port: "80", Status: 301}}}
	w.apply(NodeConfig{Version: 1, Listeners: []Listener{l}})
	for _, c := range []struct{ name, want string }{{"a.example.com", "a.example.com"}, {"b.example.com", "b.example.com"}, {"c.example.com", "a.example.com"}} {
		conn, err := tls.Dial("tcp", w.at.String(), &tls.Config{ServerName: c.name, InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		if got := conn.ConnectionState().PeerCertificates[0].Subject.CommonName; got != c.want {
			t.Errorf("%s: certificate of %s", c.name, got)
		}
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		if answer, _ := io.ReadAll(conn); !strings.Contains(string(answer), "Location: http://x/\r\n") {
			t.Errorf("got %q", answer)
		}
		_ = conn.Close()
	}
	w.apply(NodeConfig{Version: 2, Listeners: []Listener{answering(8080, 204)}}) // the same port, now without TLS
	if status, _, _ := w.get("/"); status != 204 {
		t.Fatalf("got %d", status)
	}
}

func TestJournalTellsTheLifeOfATarget(t *testing.T) {
	w := newWorld(t)
	a, b := w.serve("a"), w.serve("b")
	group := quick("g")
	group.DeregistrationDelay = 100 * time.Millisecond
	w.node.ApplyGroup(group)
	w.node.ApplyTargets("g", TargetSet{Version: 1, Targets: []Target{a.Target, b.Target}})
	w.awaitState(a.Target, Healthy)
	w.awaitState(b.Target, Healthy)
	w.forwarding(only("g"))
	before := time.Now()
	for range 4 {
		w.get("/")
	}
	first := w.awaitEvent(TargetFirstRequest, a.Key())
	if first.At.Before(before) || first.Group != "g" || first.Zone != "zone-a" || first.LoadBalancer != "app/test" {
		t.Fatalf("first request %+v", first)
	}
	leaving := a.Target
	leaving.State = Draining
	w.node.ApplyTargets("g", TargetSet{Version: 2, Targets: []Target{leaving, b.Target}})
	draining, gone := w.awaitEvent(TargetDraining, a.Key()), w.awaitEvent(TargetGone, a.Key())
	if waited := gone.At.Sub(draining.At); waited < 100*time.Millisecond {
		t.Fatalf("gone %v after it began to drain, the delay is 100 ms", waited)
	}
	u := gone.Usage
	if gone.Cut != 0 || u.Requests != 2 || u.Status[2] != 2 || u.FirstRequest.IsZero() || u.LastRequest.Before(u.FirstRequest) || u.LastDone.Before(u.LastRequest) {
		t.Fatalf("gone %+v", gone)
	}
	// The set still holds it, and the control API sends it once more: nothing begins anew.
	w.node.ApplyTargets("g", TargetSet{Version: 3, Targets: []Target{leaving, b.Target}})
	w.node.ApplyTargets("g", TargetSet{Version: 2, Targets: nil}) // late: ignored
	w.wantTarget("b")
	count := 0
	w.mu.Lock()
	for _, e := range w.events {
		if e.Kind == TargetDraining {
			count++
		}
	}
	w.mu.Unlock()
	if count != 1 {
		t.Fatalf("%d times draining", count)
	}
	stats := w.node.Stats()
	if len(stats.Targets) != 2 || !stats.Targets[0].Gone || stats.Targets[0].Usage.Requests != 2 || stats.Targets[1].Gone {
		t.Fatalf("stats %+v", stats)
	}
}

func TestRegisteredAgainWhileDraining(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	w.healthyGroup("g", a.Target)
	w.forwarding(only("g"))
	leaving := a.Target
	leaving.DrainUntil = time.Now().Add(time.Hour)
	w.drain(leaving)
	w.wantOwn(503)
	w.node.ApplyTargets("g", TargetSet{Targets: []Target{a.Target}})
	w.await("initial again, then healthy", func() bool {
		n := len(w.changes)
		return n == 4 && w.changes[2].State == Initial && w.changes[3].State == Healthy
	})
	w.wantTarget("a")
}

func TestRemovedGroupEndsItsRequestsWell(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	w.healthyGroup("g", a.Target)
	w.forwarding(only("g"))
	arrived, letGo := a.slow("late")
	got := w.async("/")
	<-arrived
	w.node.RemoveGroup("g")
	w.wantOwn(503)
	checks := a.checks.Load()
	letGo()
	if g := <-got; g != (answer{200, "late"}) {
		t.Fatalf("got %v", g)
	}
	w.group("g", a.Target) // and it can come back
	w.await("healthy again", func() bool { return len(w.changes) == 4 && w.changes[3].State == Healthy })
	if a.checks.Load() <= checks {
		t.Fatal("healthy without a check")
	}
}

func TestTargetThatLeavesTheSetIsCutOff(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	w.healthyGroup("g", a.Target)
	w.forwarding(only("g"))
	arrived, letGo := a.slow("late")
	defer letGo()
	got := w.async("/")
	<-arrived
	w.node.ApplyTargets("g", TargetSet{})
	if g := <-got; g.status != 502 {
		t.Fatalf("got %v", g)
	}
}

func TestRemovedListenerEndsItsRequestsWell(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	w.healthyGroup("g", a.Target)
	w.forwarding(only("g"))
	arrived, letGo := a.slow("late")
	got := w.async("/")
	<-arrived
	w.apply(NodeConfig{})
	letGo()
	if g := <-got; g != (answer{200, "late"}) {
		t.Fatalf("got %v", g)
	}
}
