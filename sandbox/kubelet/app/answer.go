package app

import (
	"net/http"
	"strings"
	"time"
)

// ServeHTTP answers one request as the behaviour says.
func (p *Process) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if thawed := p.thawed.Load(); thawed != nil {
		select {
		case <-*thawed:
		case <-p.dead.Done():
			panic(http.ErrAbortHandler)
		case <-r.Context().Done():
			return
		}
	}
	h := w.Header()
	h["X-App-Version"], h["X-Pod"] = p.versionHeader, p.podHeader
	live, ready := healthPath(r.URL.Path)
	now := time.Now().UnixNano()
	switch {
	case isGRPC(r):
		p.answerGRPC(w, r)
	case now < p.readyAt.Load() && !live:
		p.reply(w, http.StatusServiceUnavailable, "not ready yet\n")
	case live || ready:
		p.answerHealth(w, now)
	default:
		p.serve(w, r)
	}
}

func (p *Process) answerHealth(w http.ResponseWriter, now int64) {
	if p.unhealthy(now) {
		p.reply(w, http.StatusInternalServerError, "unhealthy, as asked for by unhealthy-after\n")
		return
	}
	p.reply(w, http.StatusOK, "ok\n")
}

func (p *Process) unhealthy(now int64) bool {
	after := p.now.Load().UnhealthyAfter
	return after > 0 && now-p.startedAt.Load() >= int64(after)
}

// serve answers with capacity, latency and errors.
func (p *Process) serve(w http.ResponseWriter, r *http.Request) {
	counted := !isHealthChecker(r)
	if counted {
		p.inFlight.Add(1)
		defer p.inFlight.Add(-1)
	}
	if p.slots != nil {
		select {
		case p.slots <- struct{}{}:
			defer func() { <-p.slots }()
		case <-r.Context().Done():
			return
		}
	}
	if d := p.latency(); d > 0 && !sleep(r, d) {
		return
	}
	if p.faulty(r) {
		p.reply(w, http.StatusInternalServerError, "an error, as asked for by error-rate\n")
	} else {
		p.answer(w, r)
	}
	if counted {
		p.requests.Add(1)
		p.lastAnswer.Store(time.Now().UnixNano())
	}
}

// latency draws how long this answer takes.
func (p *Process) latency() time.Duration {
	l := p.now.Load().Latency
	if l.High == 0 {
		return l.Low
	}
	return l.At(p.chance())
}

// faulty draws whether this answer is an error. Of the colour demo only the colour can fail.
func (p *Process) faulty(r *http.Request) bool {
	b := p.now.Load()
	return b.ErrorRate > 0 && (b.App != "color" || r.URL.Path == "/color") && p.chance() < b.ErrorRate
}

// sleep waits; it reports false if the client has gone or the process has been killed meanwhile.
func sleep(r *http.Request, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

// chance draws a number from 0 to 1. The same seed gives the same numbers, and requests share no lock
// (SplitMix64, as a hash of a counter).
func (p *Process) chance() float64 {
	x := p.cfg.Seed + p.draws.Add(1)*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return float64((x^x>>31)>>11) / (1 << 53)
}

// healthPath says whether a path asks if the application lives, or if it is ready.
func healthPath(path string) (live, ready bool) {
	switch path[strings.LastIndexByte(path, '/')+1:] {
	case "live", "livez", "healthz":
		return true, false
	case "ready", "readyz", "health":
		return false, true
	}
	return false, false
}

// isHealthChecker reports whether the client is the kubelet or a load balancer checking health.
func isHealthChecker(r *http.Request) bool {
	agent := r.Header["User-Agent"]
	return len(agent) == 1 && (strings.HasPrefix(agent[0], "kube-probe/") || strings.HasPrefix(agent[0], "ELB-HealthChecker/"))
}

var (
	plainText = []string{"text/plain; charset=utf-8"}
	jsonText  = []string{"application/json"}
	htmlText  = []string{"text/html; charset=utf-8"}
)

func (p *Process) reply(w http.ResponseWriter, code int, text string) {
	w.Header()["Content-Type"] = plainText
	w.WriteHeader(code)
	_, _ = w.Write([]byte(text))
}

// answerFor returns what the application itself answers, once it answers.
func (p *Process) answerFor(name string) func(http.ResponseWriter, *http.Request) {
	if name == "color" {
		return newColour(p.cfg.Identity)
	}
	return newEcho(p.cfg.Identity)
}
