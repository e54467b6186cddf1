// Package load sends HTTP requests at a constant rate and says what became of each of them.
//
// It is open-loop: the moments of sending are fixed ahead, and a slow or failing server does not make it send less.
// Latency counts from the moment at which a request should have been sent, so that a server that stalls for a second is
// seen by all requests of that second, not only by the one that was waiting (coordinated omission).
//
// The number of connections is bounded. A request that finds none free waits; if it cannot be sent within the
// timeout it is counted as unsent, never as failed. Both are told in Result.Saturation: they are the fault of this client, and a run that
// has unsent requests has not put the load on that it promised.
//
// It behaves as a plain keep-alive client: connections are reused, addresses of the load balancer take turns and are
// looked up again when their TTL is over. New connections go to the addresses that were told last; those to others are used on, until
// the server closes them or they have been idle for too long. It never repeats a request, so a failure that a browser would hide is counted.
//
//	names := load.NewResolver(server)
//	result, err := load.Run(ctx, load.Config{
//		Rate: 1000, Duration: time.Minute, Host: "shop.example.com", Lookup: names.Lookup("shop.example.com", 80),
//	})
package load

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// Config says what to send, where to and how fast.
type Config struct {
	// Rate is in requests per second.
	Rate float64
	// Duration of sending. Zero: until the context ends.
	Duration time.Duration

	// Lookup is called before the first request, and again when what it told has expired, but at most once a second. When it
	// fails later, or gives no address, the last ones stay in use and the failure is counted.
	Lookup Lookup
	// Resolve can be set in place of Lookup; what it tells holds for ResolveEvery (zero: 5 s).
	Resolve      func(context.Context) ([]netip.AddrPort, error)
	ResolveEvery time.Duration

	// Method, Path (with query) and Host of each request. Empty: GET, / and the address of the node.
	Method, Path, Host string
	// Header is added to each request.
	Header http.Header

	// Connections is how many may be open at the same time, to all nodes together. Zero: 256.
	Connections int
	// IdleTimeout closes connections that were not needed for so long. Zero: 30 s.
	IdleTimeout time.Duration
	// Timeout of a request once it is sent, and also how long a request may wait to be sent. Zero: 10 s.
	Timeout time.Duration

	// VersionHeader is the response header that tells the version of the application. Empty: X-App-Version.
	VersionHeader string
	// Fail4xx counts answers 400 to 499 as failed; answers from 500 on always are.
	Fail4xx bool
	// KeepFailures is how many failures are kept in detail, the first ones. Zero: 100.
	KeepFailures int
}

func (c Config) withDefaults() (Config, error) {
	if c.Rate <= 0 {
		return c, fmt.Errorf("cannot send %v requests per second: the rate must be above 0", c.Rate)
	}
	if (c.Lookup == nil) == (c.Resolve == nil) {
		return c, errors.New("cannot send requests: either Lookup or Resolve has to say where to")
	}
	c.ResolveEvery = cmp.Or(c.ResolveEvery, 5*time.Second)
	if c.Lookup == nil {
		c.Lookup = func(ctx context.Context) ([]netip.AddrPort, time.Time, error) {
			addresses, err := c.Resolve(ctx)
			return addresses, time.Now().Add(c.ResolveEvery), err
		}
	}
	c.Method = cmp.Or(c.Method, http.MethodGet)
	c.Path = cmp.Or(c.Path, "/")
	c.Connections = cmp.Or(c.Connections, 256)
	c.IdleTimeout = cmp.Or(c.IdleTimeout, 30*time.Second)
	c.Timeout = cmp.Or(c.Timeout, 10*time.Second)
	c.VersionHeader = cmp.Or(c.VersionHeader, "X-App-Version")
	c.KeepFailures = cmp.Or(c.KeepFailures, 100)
	for what, text := range map[string]string{"method": c.Method, "path": c.Path, "host": c.Host} {
		if strings.ContainsAny(text, " \r\n") {
			return c, fmt.Errorf("cannot send requests with %s %q: it holds a space or a line break", what, text)
		}
	}
	return c, nil
}

// Run sends as configured and returns when sending is over (Duration or the end of ctx) and each request that was sent
// has its answer or has timed out. The error is about the configuration, the first look-up or this machine, never about answers.
func Run(ctx context.Context, c Config) (Result, error) {
	g, err := New(c)
	if err != nil {
		return Result{}, err
	}
	return g.Run(ctx)
}

// Generator is one run, which others may watch.
type Generator struct {
	config Config
	record *record
	lanes  lanes
}

// New checks the configuration.
func New(c Config) (*Generator, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	g := &Generator{config: c, record: newRecord(c)}
	g.lanes.init(c, g.record)
	return g, nil
}

// Snapshot returns what is known so far. It may be called at any time, from any goroutine.
func (g *Generator) Snapshot() Result { return g.record.result() }

// Run is as the function Run. It may be called once.
func (g *Generator) Run(ctx context.Context) (Result, error) {
	addresses, until, err := g.config.Lookup(ctx)
	if err != nil {
		return Result{}, fmt.Errorf("cannot look up the load balancer: %w", err)
	}
	if len(addresses) == 0 {
		return Result{}, errors.New("cannot send requests: the load balancer has no address")
	}
	g.lanes.use(addresses)
	alarm, err := newAlarm()
	if err != nil {
		return Result{}, fmt.Errorf("cannot send requests at their moments: %w", err)
	}
	defer alarm.close()

	resolving, stop := context.WithCancel(ctx)
	resolved := make(chan struct{})
	go func() {
		defer close(resolved)
		g.keepResolving(resolving, until)
	}()
	g.send(ctx, alarm)
	stop()
	<-resolved
	g.lanes.finish()
	g.record.end(time.Now())
	return g.record.result(), nil
}

// send hands out requests at their moments.
func (g *Generator) send(ctx context.Context, alarm alarm) {
	start := time.Now()
	g.record.begin(start)
	interval := float64(time.Second) / g.config.Rate
	for i := uint64(0); ; i++ {
		after := time.Duration(float64(i) * interval)
		if g.config.Duration > 0 && after >= g.config.Duration {
			return
		}
		intended := start.Add(after)
		if !alarm.until(ctx, intended) {
			return
		}
		g.record.intended.Add(1)
		g.lanes.dispatch(intended)
	}
}

// lookupPause is the least time between two look-ups for lack of a TTL.
const lookupPause = time.Second

func (g *Generator) keepResolving(ctx context.Context, until time.Time) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		pause := time.Until(until)
		if until.IsZero() || pause <= 0 {
			pause = lookupPause
		}
		timer.Reset(pause)
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		var addresses []netip.AddrPort
		var err error
		addresses, until, err = g.config.Lookup(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil || len(addresses) == 0:
			g.record.lookupFailed()
		default:
			g.lanes.use(addresses)
		}
	}
}
