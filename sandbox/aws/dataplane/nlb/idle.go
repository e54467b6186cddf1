package nlb

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane/blackhole"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane/sockopt"
)

// idleSteps is how often in one idle time-out a stream is looked at.
const idleSteps = 16

// idleWatcher finds out that a stream is idle by the number of segments that have come in on either side: keep-alive probes are activity too, and
// only the kernel sees them.
type idleWatcher struct {
	stream *stream
	idle   time.Duration

	mu       sync.Mutex
	timer    *time.Timer
	segments uint64
	since    time.Time // of the newest activity that was seen
	stopped  bool
}

func (s *stream) watchIdle(idle time.Duration) *idleWatcher {
	w := &idleWatcher{stream: s, idle: idle, since: time.Now()}
	w.mu.Lock()
	defer w.mu.Unlock()
	segments, told := w.received()
	if !told { // by a system that does not count: no flow is idle there
		w.stopped, w.timer = true, time.NewTimer(0)
		return w
	}
	w.segments = segments
	w.timer = time.AfterFunc(idle/idleSteps, w.look)
	return w
}

// received counts the segments that have come in on both sides, where the kernel does.
func (w *idleWatcher) received() (segments uint64, told bool) {
	for _, c := range []*net.TCPConn{w.stream.client, w.stream.server} {
		info, ok := sockopt.Look(c)
		segments, told = segments+info.Segments, told || ok
	}
	return segments, told
}

func (w *idleWatcher) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.timer.Stop()
}

func (w *idleWatcher) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return
	}
	segments, _ := w.received()
	now := time.Now()
	switch {
	case segments != w.segments:
		w.segments, w.since = segments, now
	case now.Sub(w.since) >= w.idle:
		w.stopped = true
		w.stream.forget()
		return
	}
	w.timer.Reset(w.idle / idleSteps)
}

// forget ends the copying of an idle stream, and tells nobody.
func (s *stream) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isCut {
		return
	}
	s.forgotten = true
	past := time.Unix(1, 0)
	_, _ = s.client.SetDeadline(past), s.server.SetDeadline(past)
}

// haunt answers whoever still believes in a forgotten flow by an RST, each side for itself. What nobody has touched for another
// idle time-out ends then.
func (s *stream) haunt(idle time.Duration) {
	var both sync.WaitGroup
	until := time.Now().Add(idle)
	_, _ = s.client.SetReadDeadline(until), s.server.SetReadDeadline(until) // before the end of the stream can set others
	for _, c := range []*net.TCPConn{s.client, s.server} {
		both.Go(func() {
			_, _ = c.Read(make([]byte, 1))
			s.node.count(func(counts *counts) { counts.elbResets++ })
			blackhole.Reset(c)
		})
	}
	stop := context.AfterFunc(s.ctx, func() {
		past := time.Unix(1, 0)
		_, _ = s.client.SetReadDeadline(past), s.server.SetReadDeadline(past)
	})
	defer stop()
	both.Wait()
}
