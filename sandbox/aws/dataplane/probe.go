package dataplane

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane/proxyproto"
)

// probesAtOnce bounds the checks that run at the same moment, so that ten thousand targets registered in one
// call do not time out for want of CPU. A check that waits for its turn has not begun, its timeout neither.
const probesAtOnce = 1024

// probeResult is the outcome of one check.
type probeResult struct {
	reason, description string // both empty: passed
}

func (r probeResult) passed() bool { return r.reason == "" }

// probeKey says what is checked and how; equal keys can share one check.
type probeKey struct {
	group  string
	target TargetKey
	to     netip.AddrPort // VPC address that is checked
	check  HealthCheck
}

// Probes carries out health checks: real connections to the real endpoints of targets.
type Probes struct {
	endpoint func(netip.AddrPort) netip.AddrPort
	slots    chan struct{}

	mu     sync.Mutex
	active map[probeKey]*probe
}

// NewProbes returns the checks for one node, or for several that share them (see Config.Probes).
// endpoint maps an address and port of the VPC to the real one; nil means that they are the same.
func NewProbes(endpoint func(netip.AddrPort) netip.AddrPort) *Probes {
	if endpoint == nil {
		endpoint = func(a netip.AddrPort) netip.AddrPort { return a }
	}
	return &Probes{endpoint: endpoint, slots: make(chan struct{}, probesAtOnce), active: map[probeKey]*probe{}}
}

// probe is the endless row of checks of one target. It costs no goroutine between checks.
type probe struct {
	owner *Probes
	key   probeKey
	asking
	matcher codeMatcher
	ctx     context.Context
	cancel  context.CancelFunc

	// Guarded by owner.mu.
	watchers map[*watch]struct{}
	timer    *time.Timer
	last     *probeResult
	lastAt   time.Time
}

// watch is one node's interest in a probe.
type watch struct {
	probe   *probe
	mu      sync.Mutex // results come in order, one at a time
	stopped atomic.Bool
	deliver func(probeResult)
}

// asking is who checks: its address, the firewall on its way, and the Host header of its requests (nil: the target).
type asking struct {
	from netip.Addr
	wall Firewall
	host func() string
}

// watch begins (or joins) the checks of a target. The first check starts at once; who joins a running row gets
// its newest result at once, if there is one. deliver is called from goroutines of the probe.
func (p *Probes) watch(key probeKey, who asking, deliver func(probeResult)) *watch {
	w := &watch{deliver: deliver}
	p.mu.Lock()
	defer p.mu.Unlock()
	pr := p.active[key]
	if pr == nil {
		ctx, cancel := context.WithCancel(context.Background())
		pr = &probe{
			owner: p, key: key, asking: who, matcher: parseMatcher(key.check.Matcher),
			ctx: ctx, cancel: cancel, watchers: map[*watch]struct{}{},
		}
		p.active[key] = pr
		pr.timer = time.AfterFunc(0, pr.run)
	} else if pr.last != nil {
		result := *pr.last
		go w.receive(result)
	}
	w.probe = pr
	pr.watchers[w] = struct{}{}
	return w
}

// stop ends the interest: no further result is delivered, but for one whose delivery has begun. It does not wait for that one, since
// whoever stops may hold the lock that deliver needs. The last one to stop ends the checks.
func (w *watch) stop() {
	pr := w.probe
	pr.owner.mu.Lock()
	delete(pr.watchers, w)
	if len(pr.watchers) == 0 && pr.owner.active[pr.key] == pr {
		delete(pr.owner.active, pr.key)
		pr.timer.Stop()
		pr.cancel()
	}
	pr.owner.mu.Unlock()
	w.stopped.Store(true)
}

func (w *watch) receive(r probeResult) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.stopped.Load() {
		w.deliver(r)
	}
}

// run makes one check, hands out its result and plans the next: the interval counts from start to start.
func (pr *probe) run() {
	select {
	case pr.owner.slots <- struct{}{}:
	case <-pr.ctx.Done():
		return
	}
	start := time.Now()
	result := pr.check()
	<-pr.owner.slots
	if pr.ctx.Err() != nil {
		return
	}

	pr.owner.mu.Lock()
	pr.last, pr.lastAt = &result, start
	watchers := make([]*watch, 0, len(pr.watchers))
	for w := range pr.watchers {
		watchers = append(watchers, w)
	}
	if len(watchers) > 0 {
		pr.timer.Reset(max(0, time.Until(start.Add(pr.key.check.Interval))))
	}
	pr.owner.mu.Unlock()
	for _, w := range watchers {
		w.receive(result)
	}
}

// check makes one connection, asks, judges, and closes it: health checks never reuse a connection.
func (pr *probe) check() probeResult {
	hc := pr.key.check
	ctx, cancel := context.WithTimeout(pr.ctx, hc.Timeout)
	defer cancel()
	conn, err := dial(ctx, pr.dialing())
	if err != nil {
		return connectFailure(err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	if hc.ProxyProtocol {
		if _, err := conn.Write(proxyproto.Local()); err != nil {
			return connectFailure(err)
		}
	}
	switch hc.Protocol {
	case TCP:
		return probeResult{}
	case HTTPS:
		secured := tls.Client(conn, targetTLS(hc.Version == HTTP2 || hc.Version == GRPC))
		if err := secured.HandshakeContext(ctx); err != nil {
			return connectFailure(err)
		}
		conn = secured
	}
	code, err := pr.ask(ctx, conn)
	switch {
	case isTimeout(err):
		return probeResult{ReasonTimeout, "Request timed out"}
	case err != nil:
		return probeResult{ReasonFailedHealthChecks, "Health checks failed"}
	case !pr.matcher.matches(code):
		return probeResult{ReasonResponseCodeMismatch, fmt.Sprintf("Health checks failed with these codes: [%d]", code)}
	}
	return probeResult{}
}

func (pr *probe) dialing() dialing {
	return dialing{from: pr.from, to: pr.key.to, endpoint: pr.owner.endpoint, firewall: pr.wall}
}

// ask sends the request of a health check and returns the status of the answer; redirects are not followed.
func (pr *probe) ask(ctx context.Context, conn net.Conn) (int, error) {
	host := pr.key.to.String()
	if port := pr.key.to.Port(); (port == 80 && pr.key.check.Protocol == HTTP) || (port == 443 && pr.key.check.Protocol == HTTPS) {
		host = pr.key.to.Addr().String()
	}
	if pr.host != nil {
		host = pr.host()
	}
	if pr.key.check.Version == HTTP2 || pr.key.check.Version == GRPC {
		return pr.askHTTP2(ctx, conn, host)
	}
	request := "GET " + pr.key.check.Path + " HTTP/1.1\r\nHost: " + host +
		"\r\nConnection: close\r\nUser-Agent: ELB-HealthChecker/2.0\r\nAccept-Encoding: gzip, compressed\r\n\r\n"
	if _, err := conn.Write([]byte(request)); err != nil {
		return 0, err
	}
	r := readers.Get().(*bufio.Reader)
	defer putReader(r)
	r.Reset(conn)
	for {
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			return 0, err
		}
		if res.StatusCode >= 200 {
			return res.StatusCode, nil
		}
	}
}

func connectFailure(err error) probeResult {
	if isTimeout(err) {
		return probeResult{ReasonTimeout, "Request timed out"}
	}
	return probeResult{ReasonFailedHealthChecks, "Health checks failed"}
}

func isTimeout(err error) bool {
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	ne, ok := errors.AsType[net.Error](err)
	return ok && ne.Timeout()
}

// codeMatcher is a list of ranges of status codes.
type codeMatcher [][2]int

// parseMatcher reads "200", "200,202" or "200-299". The control API has validated it; what it cannot read it leaves out.
func parseMatcher(s string) codeMatcher {
	var m codeMatcher
	for part := range strings.SplitSeq(s, ",") {
		low, high, isRange := strings.Cut(strings.TrimSpace(part), "-")
		a, errA := strconv.Atoi(low)
		b, errB := a, error(nil)
		if isRange {
			b, errB = strconv.Atoi(high)
		}
		if errA == nil && errB == nil {
			m = append(m, [2]int{a, b})
		}
	}
	return m
}

func (m codeMatcher) matches(code int) bool {
	for _, r := range m {
		if r[0] <= code && code <= r[1] {
			return true
		}
	}
	return false
}
