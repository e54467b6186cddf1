package dataplane

import (
	"crypto/tls"
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestTimesKeepPercentiles(t *testing.T) {
	t.Parallel()
	for _, d := range []time.Duration{
		0, time.Microsecond, 15 * time.Microsecond, 31 * time.Microsecond, 32 * time.Microsecond, 999 * time.Microsecond,
		7 * time.Millisecond, time.Second, 59 * time.Second, time.Hour,
	} {
		got := middle(bucketOf(d))
		if off := math.Abs(float64(got - d)); off > float64(d)/32+1 {
			t.Errorf("%v is counted as %v", d, got)
		}
	}
	var m times
	m.add(100 * time.Hour) // no time is too long
	m.add(-time.Second)
	if all := m.snapshot(); len(all) != 2 || all[0].Count != 1 || all[0].Seconds != 0 {
		t.Errorf("got %v", all)
	}
	for b := 1; b < len(m.buckets); b++ {
		if bucketOf(middle(b)) != b || middle(b) <= middle(b-1) {
			t.Fatalf("bucket %d: %v belongs to bucket %d", b, middle(b), bucketOf(middle(b)))
		}
	}
}

// TestAnomaliesAreMitigated: one of four targets answers 500 to every request.
func TestAnomaliesAreMitigated(t *testing.T) {
	w := newWorld(t)
	group := quick("g")
	group.Algorithm, group.Mitigate = WeightedRandom, true
	w.node.ApplyGroup(group)
	var targets []Target
	var apps []*app
	for i := range 4 {
		a := w.serve(fmt.Sprint(i))
		apps, targets = append(apps, a), append(targets, a.Target)
	}
	apps[0].on(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(500) })
	w.node.ApplyTargets("g", TargetSet{Targets: targets})
	for _, target := range targets {
		w.awaitState(target, Healthy)
	}
	w.forwarding(only("g"))
	state := func() (anomalous, mitigated int, bad uint64) {
		for _, s := range w.node.Stats().Targets {
			if s.Anomalous {
				anomalous++
			}
			if s.Mitigated {
				mitigated++
			}
			bad += s.Usage.Status[5]
		}
		return anomalous, mitigated, bad
	}
	g := w.node.group("g")
	for range 100 {
		w.get("/")
	}
	if _, _, bad := state(); bad < 10 {
		t.Fatalf("only %d of 100 requests went to the bad one while nothing was known", bad)
	}
	for range 6 {
		g.detect() // as the node does once a second
	}
	if anomalous, mitigated, _ := state(); anomalous != 1 || mitigated != 1 {
		t.Fatalf("%d anomalous, %d mitigated", anomalous, mitigated)
	}
	w.await("it is reported", func() bool {
		last := w.changes[len(w.changes)-1]
		return last.Anomalous && last.Mitigated && last.Target == targets[0].Key() && last.State == Healthy
	})
	_, _, before := state()
	for range 200 {
		w.get("/")
	}
	if _, _, bad := state(); bad-before > 20 { // an even share would be 50
		t.Errorf("%d of 200 requests went to the anomalous target", bad-before)
	}
	apps[0].on(func(http.ResponseWriter, *http.Request) {})
	w.eventually("it is normal again, and gets its full share", func() bool {
		for range 20 {
			w.get("/")
		}
		g.detect()
		anomalous, mitigated, _ := state()
		return anomalous == 0 && mitigated == 0
	})
}

func TestAnomaliesNeedOthersToCompareWith(t *testing.T) {
	w := newWorld(t)
	a, b := w.serve("a"), w.serve("b")
	a.on(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(500) })
	w.healthyGroup("g", a.Target, b.Target)
	w.forwarding(only("g"))
	for range 60 {
		w.get("/")
	}
	w.node.group("g").detect()
	for _, s := range w.node.Stats().Targets {
		if s.Anomalous || s.Mitigated {
			t.Errorf("%v is anomalous among two", s.Target)
		}
	}
}

func TestListenersSayWhatTheyAreToldTo(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	seen := make(chan http.Header, 2)
	a.on(func(rw http.ResponseWriter, r *http.Request) {
		seen <- r.Header
		rw.Header().Set("Server", "mine")
		rw.Header().Set("X-Frame-Options", "SAMEORIGIN")
	})
	w.healthyGroup("g", a.Target)
	w.client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}
	w.apply(NodeConfig{Attributes: Attributes{TLSHeaders: true}, Listeners: []Listener{{
		Port: 8080, Protocol: HTTPS, Certificates: []tls.Certificate{certificate(t, "x")},
		ResponseHeaders: map[string]string{"x-frame-options": "DENY", "Strict-Transport-Security": "max-age=1"}, WithoutServer: true,
		TLSVersionHeader: "X-Version", TLSCipherHeader: "X-Cipher",
		Rules:   []Rule{{Priority: 1, Conditions: []Condition{{Field: PathPattern, Values: []string{"/own"}}}, Action: Action{Fixed: &FixedResponse{Status: 200}}}},
		Default: Action{Forward: &Forward{Groups: []WeightedGroup{only("g")}}},
	}}})
	for _, path := range []string{"/", "/own"} {
		r, _ := http.NewRequest(http.MethodGet, strings.Replace(w.url(path), "http", "https", 1), nil)
		r.Header.Set("X-Version", "forged")
		_, header, _ := w.do(r)
		if header.Get("X-Frame-Options") != "DENY" || len(header["X-Frame-Options"]) != 1 || header.Get("Strict-Transport-Security") != "max-age=1" || header["Server"] != nil {
			t.Errorf("%s: got %v", path, header)
		}
	}
	if h := <-seen; h.Get("X-Version") != "TLSv1.2" || !strings.HasPrefix(h.Get("X-Cipher"), "ECDHE-ECDSA-") || h.Get("X-Amzn-Tls-Version") != "" {
		t.Errorf("the target saw %v", h)
	}
}

func TestCipherNames(t *testing.T) {
	t.Parallel()
	for suite, want := range map[uint16]string{
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256: "ECDHE-RSA-AES128-GCM-SHA256", tls.TLS_RSA_WITH_AES_256_CBC_SHA: "AES256-SHA",
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256: "ECDHE-ECDSA-CHACHA20-POLY1305", tls.TLS_AES_128_GCM_SHA256: "TLS_AES_128_GCM_SHA256",
		tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256: "ECDHE-RSA-AES128-SHA256", tls.TLS_RSA_WITH_AES_128_GCM_SHA256: "AES128-GCM-SHA256",
	} {
		if got := cipherName(suite); got != want {
			t.Errorf("%s: got %s, want %s", tls.CipherSuiteName(suite), got, want)
		}
	}
}

func TestWhatNodesCount(t *testing.T) {
	w := newWorld(t)
	a, b := w.serve("a"), w.serve("b")
	b.healthy.Store(500)
	group := quick("g")
	group.Stickiness, group.DNSMinimumHealthy, group.MinimumHealthy = time.Hour, 1, 2
	w.node.ApplyGroup(group)
	w.node.ApplyTargets("g", TargetSet{Targets: []Target{a.Target, b.Target}})
	w.awaitState(a.Target, Healthy)
	w.awaitState(b.Target, Unhealthy)
	w.apply(NodeConfig{Listeners: []Listener{{Port: 8080, Protocol: HTTP,
		Rules: []Rule{
			{Priority: 1, Conditions: []Condition{{Field: PathPattern, Values: []string{"/far"}}}, Action: Action{Redirect: &Redirect{Status: 302, Query: "#{query}"}}},
			{Priority: 2, Conditions: []Condition{{Field: PathPattern, Values: []string{"/none"}}}, Action: Action{Fixed: &FixedResponse{Status: 200}}},
		},
		Default: Action{Forward: &Forward{Groups: []WeightedGroup{only("g")}}},
	}}})
	w.get("/") // two rules are looked at; fails open
	w.get("/far?" + strings.Repeat("x", 9<<10))
	key := w.node.cookie.seal(targetCookie, time.Now().Add(time.Hour), "g", "127.0.0.9", "1")
	w.get("/", func(r *http.Request) { r.Header.Set("Cookie", targetCookie+"="+key) })
	s := w.node.Stats()
	if s.RuleEvaluations != 5 || s.NonSticky != 1 || s.RedirectsTooLong != 1 || s.NewConnections != 1 || s.ClientConnections != 1 || s.Processed < 9<<10 {
		t.Errorf("got %+v", s)
	}
	if s.TargetConnections < 1 || s.NewTargetConnections < 1 {
		t.Errorf("connections to targets: %d, %d made", s.TargetConnections, s.NewTargetConnections)
	}
	g := s.Groups["g"]
	answers := uint64(0)
	for _, m := range g.Times {
		answers += m.Count
	}
	if g.Opened != 2 || g.Routing || !g.DNS || answers != 2 {
		t.Errorf("group %+v", g)
	}
}
