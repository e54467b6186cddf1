package load

import (
	"maps"
	"math/bits"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// outcome is what became of one request that was sent.
type outcome struct {
	intended, began, ended time.Time
	node                   netip.AddrPort
	reused                 bool
	status                 int
	version                string
	server                 string // kept for answers from 400 on
	err                    error
}

// record adds up outcomes.
type record struct {
	config        Config
	versionHeader []byte
	intended      atomic.Uint64

	mu       sync.Mutex
	versions map[string]*versionRecord
	nodes    map[netip.AddrPort]*Node
	seconds  []Second
	total    Result
	latency  histogram
	lateness histogram
}

type versionRecord struct {
	name string
	Version
}

func newRecord(c Config) *record {
	return &record{
		config: c, versionHeader: []byte(c.VersionHeader),
		versions: map[string]*versionRecord{}, nodes: map[netip.AddrPort]*Node{},
		total: Result{Rate: c.Rate, Status: map[int]uint64{}, Errors: map[Kind]uint64{}},
	}
}

func (r *record) begin(at time.Time) {
	r.mu.Lock()
	r.total.Started = at
	r.mu.Unlock()
}

func (r *record) end(at time.Time) {
	r.mu.Lock()
	r.total.Ended = at
	r.mu.Unlock()
}

// intern turns the bytes of a version into its one string.
func (r *record) intern(version []byte) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	v := r.versions[string(version)]
	if v == nil {
		v = &versionRecord{name: string(version)}
		r.versions[v.name] = v
	}
	return v.name
}

// second finds the record of the second in which a request should have been sent. Called with r.mu held.
func (r *record) second(intended time.Time) *Second {
	i := max(0, int(intended.Sub(r.total.Started)/time.Second))
	for len(r.seconds) <= i {
		r.seconds = append(r.seconds, Second{Second: len(r.seconds), Status: map[int]uint64{}, Versions: map[string]uint64{}, Errors: map[Kind]uint64{}})
	}
	return &r.seconds[i]
}

// add records a request that was sent.
func (r *record) add(o *outcome) {
	var kind Kind
	switch {
	case o.err != nil:
		kind = kindOf(o.err)
	case o.status >= 500 || r.config.Fail4xx && o.status >= 400:
		kind = BadStatus
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.second(o.intended)
	n := r.nodes[o.node]
	if n == nil {
		n = &Node{}
		r.nodes[o.node] = n
	}
	s.Sent++
	n.Sent++
	r.total.Sent++
	if o.reused {
		r.total.Connections.Reused++
	} else {
		r.total.Connections.Opened++
		n.Opened++
	}
	r.lateness.add(o.began.Sub(o.intended))
	if o.err == nil {
		r.total.Answered++
		r.total.Status[o.status]++
		s.Status[o.status]++
		latency := o.ended.Sub(o.intended)
		r.latency.add(latency)
		s.Slowest = max(s.Slowest, milliseconds(latency))
		r.addVersion(o, s, kind != "")
	}
	if kind == "" {
		return
	}
	s.Failed++
	n.Failed++
	s.Errors[kind]++
	r.total.Failed++
	r.total.Errors[kind]++
	if len(r.total.Failures) < r.config.KeepFailures {
		f := Failure{Intended: o.intended, Ended: o.ended, Node: o.node, Kind: kind, Status: o.status, Version: o.version, Server: o.server, Reused: o.reused}
		if o.err != nil {
			f.Error = o.err.Error()
		}
		r.total.Failures = append(r.total.Failures, f)
	}
}

func (r *record) addVersion(o *outcome, s *Second, failed bool) {
	v := r.versions[o.version]
	if v == nil {
		return
	}
	if v.Answered == 0 || o.ended.Before(v.First) {
		v.First = o.ended
	}
	if o.ended.After(v.Last) {
		v.Last = o.ended
	}
	v.Answered++
	if failed {
		v.Failed++
	}
	s.Versions[v.name]++
}

func (r *record) unsent(intended time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total.Saturation.Unsent++
	r.second(intended).Unsent++
}

func (r *record) delayed() {
	r.mu.Lock()
	r.total.Saturation.Delayed++
	r.mu.Unlock()
}

func (r *record) lookupFailed() {
	r.mu.Lock()
	r.total.FailedLookups++
	r.mu.Unlock()
}

// result is a copy of everything, that later outcomes do not change.
func (r *record) result() Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.total
	out.Intended = r.intended.Load()
	out.Status, out.Errors = maps.Clone(out.Status), maps.Clone(out.Errors)
	out.Failures = slices.Clone(out.Failures)
	out.Versions = map[string]Version{}
	for name, v := range r.versions {
		if v.Answered > 0 {
			out.Versions[name] = v.Version
		}
	}
	out.Nodes = map[netip.AddrPort]Node{}
	for address, n := range r.nodes {
		out.Nodes[address] = *n
	}
	out.Seconds = slices.Clone(r.seconds)
	for i := range out.Seconds {
		s := &out.Seconds[i]
		s.Status, s.Versions, s.Errors = maps.Clone(s.Status), maps.Clone(s.Versions), maps.Clone(s.Errors)
	}
	out.Latency, out.Lateness = r.latency.summary(), r.lateness.summary()
	return out
}

// histogram counts durations in buckets that are 1/32 wide relative to their value.
type histogram struct {
	counts [1024]uint64
	n      uint64
	sum    time.Duration
	max    time.Duration
}

func bucket(d time.Duration) int {
	us := uint64(max(0, d) / time.Microsecond)
	if us < 64 {
		return int(us)
	}
	shift := bits.Len64(us) - 6
	return min(shift*32+int(us>>shift), 1023)
}

// middle is the duration in the middle of a bucket.
func middle(bucket int) time.Duration {
	if bucket < 64 {
		return time.Duration(bucket)*time.Microsecond + time.Microsecond/2
	}
	shift := bucket/32 - 1
	low := uint64(bucket-shift*32) << shift
	return time.Duration(low)*time.Microsecond + time.Microsecond<<shift/2
}

func (h *histogram) add(d time.Duration) {
	h.counts[bucket(d)]++
	h.n++
	h.sum += d
	h.max = max(h.max, d)
}

func (h *histogram) percentile(p float64) time.Duration {
	left := uint64(p * float64(h.n))
	for i, c := range h.counts {
		if c > left {
			return min(middle(i), h.max)
		}
		left -= c
	}
	return h.max
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (h *histogram) summary() Latency {
	if h.n == 0 {
		return Latency{}
	}
	ms := milliseconds
	return Latency{
		P50: ms(h.percentile(0.5)), P90: ms(h.percentile(0.9)), P99: ms(h.percentile(0.99)), P999: ms(h.percentile(0.999)),
		Max: ms(h.max), Mean: ms(h.sum / time.Duration(h.n)),
	}
}
