package firewall

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/lockstep-delivery/lockstep/internal/balancing/binding"
	"github.com/lockstep-delivery/lockstep/internal/cloud"
)

// wishes are what bindings ask for, and how far that has got. They are all that the bindings' workers and the
// firewall's own share; their lock is never held while AWS is asked. The zero value is ready.
type wishes struct {
	mu        sync.Mutex
	byBinding map[types.NamespacedName]*wish
	next      int
	listeners map[int]func(types.NamespacedName)
}

// wish is what one binding asks for.
type wish struct {
	want binding.Networking
	// version grows with each change of want, and when its addresses should be looked up anew.
	version int
	since   time.Time
	// held and err are what came of the version reported.
	held bool
	err  error
}

// Allow implements binding.Firewall.
func (f *Firewall) Allow(key types.NamespacedName, want binding.Networking) (held bool, err error) {
	want = own(want)
	now := f.Now()
	f.wishes.mu.Lock()
	defer f.wishes.mu.Unlock()
	if f.wishes.byBinding == nil {
		f.wishes.byBinding = map[types.NamespacedName]*wish{}
	}
	w := f.wishes.byBinding[key]
	switch {
	case w == nil:
		w = &wish{}
		f.wishes.byBinding[key] = w
	case !reflect.DeepEqual(w.want, want):
	case now.Sub(w.since) < interfaceAge:
		return w.held, w.err
	default: // the addresses may be other interfaces' by now; what holds, holds meanwhile
		w.version, w.since = w.version+1, now
		f.kick()
		return w.held, w.err
	}
	w.want, w.version, w.since, w.held = want, w.version+1, now, false
	f.kick()
	return false, w.err
}

// own is a copy that nobody else writes into, with the endpoints in order.
func own(want binding.Networking) binding.Networking {
	out := binding.Networking{Endpoints: slices.Clone(want.Endpoints)}
	for _, rule := range want.Rules {
		out.Rules = append(out.Rules, *rule.DeepCopy())
	}
	slices.SortFunc(out.Endpoints, func(a, b binding.Endpoint) int { return strings.Compare(a.IP, b.IP) })
	return out
}

// Forget implements binding.Firewall: what only this binding needed is revoked in time.
func (f *Firewall) Forget(key types.NamespacedName) {
	f.wishes.mu.Lock()
	_, known := f.wishes.byBinding[key]
	delete(f.wishes.byBinding, key)
	f.wishes.mu.Unlock()
	if known {
		f.kick()
	}
}

// Subscribe implements binding.Firewall.
func (f *Firewall) Subscribe(changed func(types.NamespacedName)) (cancel func()) {
	s := &f.wishes
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listeners == nil {
		s.listeners = map[int]func(types.NamespacedName){}
	}
	id := s.next
	s.next++
	s.listeners[id] = changed
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.listeners, id)
	}
}

// asked is a copy of all wishes.
func (s *wishes) asked() map[types.NamespacedName]wish {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[types.NamespacedName]wish, len(s.byBinding))
	for key, w := range s.byBinding {
		all[key] = *w
	}
	return all
}

// report keeps what came of a version of a wish, and tells when that is news.
func (s *wishes) report(key types.NamespacedName, version int, held bool, err error) {
	s.mu.Lock()
	w := s.byBinding[key]
	if w == nil || w.version != version || w.held == held && text(w.err) == text(err) {
		s.mu.Unlock()
		return
	}
	w.held, w.err = held, err
	listeners := slices.Collect(maps.Values(s.listeners))
	s.mu.Unlock()
	for _, changed := range listeners {
		changed(key)
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// kick has a pass made now.
func (f *Firewall) kick() {
	select {
	case f.kicked <- struct{}{}:
	default:
	}
}

// retry paces attempts that fail: the pauses double, unless AWS or the budget says when to come again.
type retry struct {
	failures int
	at       time.Time
}

// The pauses between attempts.
const (
	fastestRetry = 50 * time.Millisecond
	slowestRetry = 30 * time.Second
)

func (r *retry) failed(now time.Time, err error) {
	pause := min(fastestRetry<<min(r.failures, 16), slowestRetry)
	if wait, soon := cloud.RetryAfter(err); soon {
		pause = max(wait, fastestRetry)
	}
	r.failures, r.at = r.failures+1, now.Add(pause)
}

func (r retry) due(now time.Time) bool { return !now.Before(r.at) }
