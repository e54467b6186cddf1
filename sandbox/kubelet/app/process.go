package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"reflect"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Exit codes as the kernel and a shell give them.
const (
	exitError   = 1
	exitKilled  = 137
	exitSIGTERM = 143
)

// Identity is who an application is; it is part of its answers.
type Identity struct {
	Pod, Namespace, UID, Container, Node, Zone, Version string
}

// Config is what a process is started with.
type Config struct {
	Identity
	Behaviour Behaviour
	// Listen is where to listen: real addresses, not those of the VPC.
	Listen []netip.AddrPort
	// Seed makes the choices of latency and errors repeatable.
	Seed uint64
	// Log, if set, gets what the process says of itself.
	Log func(line string)
	// Exited is called once, from a goroutine of its own, when the process has ended: nothing of it listens any
	// more. The message, if any, says why.
	Exited func(code int32, message string)
}

// Process is one running application. All methods are safe for concurrent use.
type Process struct {
	cfg Config
	// now is how it behaves at present: manifests can change while it runs.
	now    atomic.Pointer[Behaviour]
	server http.Server
	answer func(http.ResponseWriter, *http.Request)

	// thawed is closed when a frozen process goes on; nil if it is not frozen.
	thawed atomic.Pointer[chan struct{}]

	versionHeader, podHeader []string // shared by all answers; never changed
	slots                    chan struct{}
	startedAt, readyAt       atomic.Int64 // Unix nanoseconds; readyAt is 0 until it listens

	requests, inFlight, lastAnswer atomic.Int64
	draws                          atomic.Uint64

	dead      context.Context // done when the process has ended
	die       context.CancelFunc
	mu        sync.Mutex
	timers    []*time.Timer
	listeners []net.Listener
	stopping  bool
	ended     bool
}

// Start starts a process. It listens after its start-up delay; if it cannot, it exits with code 1
// and a message.
func Start(cfg Config) *Process {
	p := &Process{cfg: cfg, versionHeader: []string{cfg.Version}, podHeader: []string{cfg.Pod}}
	p.now.Store(&p.cfg.Behaviour)
	p.answer = p.answerFor(cfg.Behaviour.App)
	p.dead, p.die = context.WithCancel(context.Background())
	p.startedAt.Store(time.Now().UnixNano())
	b := cfg.Behaviour
	if b.Capacity > 0 {
		p.slots = make(chan struct{}, b.Capacity)
	}
	p.server.Handler = p
	p.server.IdleTimeout = b.IdleTimeout
	p.server.ErrorLog = silent
	p.server.Protocols = protocols

	p.mu.Lock()
	defer p.mu.Unlock()
	if b.RunFor != nil {
		p.after(*b.RunFor, func() { p.end(b.ExitCode, "") })
	}
	if b.CrashAfter > 0 {
		p.after(b.CrashAfter, func() { p.end(exitError, "crashed, as asked for by crash-after") })
	}
	if b.StartupDelay > 0 {
		p.after(b.StartupDelay, p.listen)
	} else {
		p.listenLocked()
	}
	return p
}

// silent is the log of the HTTP servers, to which they only complain about their clients.
var silent = log.New(io.Discard, "", 0)

// after runs f later unless the process has ended by then. The caller holds mu.
func (p *Process) after(d time.Duration, f func()) {
	p.timers = append(p.timers, time.AfterFunc(d, f))
}

func (p *Process) listen() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listenLocked()
}

// listenConfig leaves out what costs memory or system calls and changes nothing on loopback.
var listenConfig = func() *net.ListenConfig {
	c := &net.ListenConfig{KeepAlive: -1}
	c.SetMultipathTCP(false)
	return c
}()

func (p *Process) listenLocked() {
	if p.ended || p.stopping || p.cfg.Behaviour.App == "pause" {
		return
	}
	for _, at := range p.cfg.Listen {
		l, err := listenConfig.Listen(p.dead, "tcp4", at.String())
		if err != nil {
			p.endLocked(exitError, listenError(at, err))
			return
		}
		p.listeners = append(p.listeners, l)
	}
	p.readyAt.Store(time.Now().Add(p.cfg.Behaviour.ReadyDelay).UnixNano())
	for _, l := range p.listeners {
		p.say("listening at " + l.Addr().String())
		go func() { _ = p.server.Serve(l) }()
	}
}

// say writes a line to the log.
func (p *Process) say(line string) {
	if p.cfg.Log != nil {
		p.cfg.Log(line)
	}
}

// manners says what SIGTERM leads to.
func (b *Behaviour) manners() string {
	switch {
	case b.OnSIGTERM == Ignore:
		return "ignored"
	case b.OnSIGTERM == Abrupt:
		return "dying at once"
	case b.DrainDelay > 0:
		return "still accepting for " + b.DrainDelay.String()
	default:
		return "finishing what is under way"
	}
}

// Behave changes how the process behaves from now on: latency, errors, health, and what SIGTERM leads to. What is
// decided at the start (the application, its delays, capacity, when it ends) stays as it is.
func (p *Process) Behave(b Behaviour) {
	was := p.now.Load()
	changed := *was
	changed.Latency, changed.ErrorRate, changed.UnhealthyAfter = b.Latency, b.ErrorRate, b.UnhealthyAfter
	changed.OnSIGTERM, changed.DrainDelay, changed.CPU, changed.Memory = b.OnSIGTERM, b.DrainDelay, b.CPU, b.Memory
	if p.now.Store(&changed); !reflect.DeepEqual(*was, changed) {
		p.say("behaving as the pod's annotations say now")
	}
}

// Freeze stops the process from answering, as if nothing came through to it or from it any more, or lets it go on.
func (p *Process) Freeze(frozen bool) {
	if frozen {
		p.thawed.CompareAndSwap(nil, new(make(chan struct{})))
		return
	}
	if thawed := p.thawed.Swap(nil); thawed != nil {
		close(*thawed)
	}
}

// Behaviour returns how the process behaves at present.
func (p *Process) Behaviour() Behaviour { return *p.now.Load() }

// Alive reports whether the process has not ended.
func (p *Process) Alive() bool { return p.dead.Err() == nil }

// Healthy reports whether the process listens and would answer a health check with success.
func (p *Process) Healthy() bool {
	now := time.Now().UnixNano()
	ready := p.readyAt.Load()
	if p.cfg.Behaviour.App == "pause" {
		ready = p.startedAt.Load()
	}
	return p.dead.Err() == nil && ready != 0 && now >= ready && !p.unhealthy(now)
}

func listenError(at netip.AddrPort, err error) string {
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
		var limit syscall.Rlimit
		_ = syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
		return fmt.Sprintf("cannot listen at %s: all %d file handles that this process may have are in use; start the sandbox with a higher limit (ulimit -n) or with fewer pods", at, limit.Cur)
	}
	return fmt.Sprintf("cannot listen at %s: %v", at, err)
}

// Terminate is SIGTERM.
func (p *Process) Terminate() {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.now.Load()
	if p.ended || p.stopping {
		return
	}
	p.say("SIGTERM: " + b.manners())
	if b.OnSIGTERM == Ignore {
		return
	}
	p.stopping = true
	switch {
	case b.OnSIGTERM == Abrupt:
		p.endLocked(exitSIGTERM, "")
	case p.readyAt.Load() == 0: // it does not listen
		p.endLocked(0, "")
	case b.DrainDelay > 0:
		p.server.SetKeepAlivesEnabled(false)
		p.after(b.DrainDelay, p.shutDown)
	default:
		go p.shutDown()
	}
}

// shutDown is what an ordinary server does when it stops: no new connections, idle ones are closed, the process
// ends with the last answer.
func (p *Process) shutDown() {
	if err := p.server.Shutdown(p.dead); err == nil {
		p.end(0, "")
	}
}

// Kill is SIGKILL: listeners are closed and connections cut when it returns.
func (p *Process) Kill() { p.end(exitKilled, "") }

func (p *Process) end(code int32, message string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endLocked(code, message)
}

func (p *Process) endLocked(code int32, message string) {
	if p.ended {
		return
	}
	p.ended = true
	for _, t := range p.timers {
		t.Stop()
	}
	for _, l := range p.listeners { // also those that the server has not taken over yet
		_ = l.Close()
	}
	_ = p.server.Close()
	p.die()
	p.say(fmt.Sprintf("exit code %d %s", code, message))
	if p.cfg.Exited != nil {
		go p.cfg.Exited(code, message)
	}
}

// Traffic is what a process has served, health checks not counted.
type Traffic struct {
	// Requests is how many requests were answered, InFlight how many are being answered now.
	Requests, InFlight int64
	// LastAnswer is when the last of them was answered; zero if none was.
	LastAnswer time.Time
}

// Traffic returns what the process has served so far.
func (p *Process) Traffic() Traffic {
	t := Traffic{Requests: p.requests.Load(), InFlight: p.inFlight.Load()}
	if ns := p.lastAnswer.Load(); ns != 0 {
		t.LastAnswer = time.Unix(0, ns)
	}
	return t
}

// Plus returns what two processes have served together.
func (t Traffic) Plus(o Traffic) Traffic {
	t.Requests += o.Requests
	t.InFlight += o.InFlight
	if o.LastAnswer.After(t.LastAnswer) {
		t.LastAnswer = o.LastAnswer
	}
	return t
}
