// Package journal keeps what has happened in the emulated AWS: every call with its outcome, and every
// event of the data plane, in one order.
//
// The newest records are kept in memory for whoever asks later, counts are kept for ever, and a
// subscriber gets each record as it comes. Nothing in it is visible through an AWS API: AWS does not
// tell when a node has taken a change, the journal does.
package journal

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Record is one line of the journal. Either Operation is set (a call) or Event (of the data plane).
type Record struct {
	// Sequence numbers the records from 1 without gaps.
	Sequence uint64 `json:"sequence"`
	// Received is when the call came in, or when the event happened.
	Received time.Time `json:"received"`
	// Duration from the receipt of a call to its answer, in nanoseconds.
	Duration time.Duration `json:"duration,omitempty"`

	Service    string            `json:"service,omitempty"`
	Operation  string            `json:"operation,omitempty"`
	Region     string            `json:"region,omitempty"`
	AccessKey  string            `json:"accessKey,omitempty"`
	UserAgent  string            `json:"userAgent,omitempty"`
	RequestID  string            `json:"requestId,omitempty"`
	Parameters map[string]string `json:"parameters,omitempty"`
	// Status is the HTTP status, Code the error code (empty: success).
	Status  int    `json:"status,omitempty"`
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`

	// Event is the kind of a data-plane event, Detail what the data plane says of it.
	Event  string `json:"event,omitempty"`
	Detail any    `json:"detail,omitempty"`
}

// Count says how often an operation was called.
type Count struct {
	Calls int `json:"calls"`
	// Errors by code.
	Errors map[string]int `json:"errors,omitempty"`
}

// Journal keeps records. Its methods may be called from several goroutines.
type Journal struct {
	mu          sync.Mutex
	ring        []Record
	next        uint64 // sequence of the next record
	counts      map[string]*Count
	subscribers map[*subscriber]struct{}
	lines       *json.Encoder
}

// subscriber is a channel that is closed when its reader is too slow.
type subscriber struct{ records chan Record }

// New returns a journal that remembers the newest keep records and writes each as a line of JSON to
// lines, if that is not nil.
func New(keep int, lines io.Writer) *Journal {
	j := &Journal{
		ring: make([]Record, keep), next: 1,
		counts: map[string]*Count{}, subscribers: map[*subscriber]struct{}{},
	}
	if lines != nil {
		j.lines = json.NewEncoder(lines)
	}
	return j
}

// maxText bounds each text of a record that comes from outside: the newest records stay in memory, and a request may have a megabyte.
const maxText = 4096

// maxParameters bounds the parameters of a record together, in bytes.
const maxParameters = 16 << 10

// maxCounts bounds the operations that are counted each for itself. Their names come from outside; the rest is counted as others.
const (
	maxCounts = 10_000
	others    = "(others)"
)

// cut is a text as it is kept: a copy, since a short text may be a part of a large request, which would stay with it.
func cut(text string) string {
	if len(text) <= maxText {
		return strings.Clone(text)
	}
	return fmt.Sprintf("%s... (%d bytes)", text[:maxText], len(text))
}

// cut is the record with its texts cut. The parameters are replaced, not changed.
func (r Record) cut() Record {
	for _, text := range []*string{&r.Service, &r.Operation, &r.Region, &r.AccessKey, &r.UserAgent, &r.Code, &r.Message} {
		*text = cut(*text)
	}
	if r.Parameters != nil {
		parameters := make(map[string]string, len(r.Parameters))
		left := maxParameters
		for _, name := range slices.Sorted(maps.Keys(r.Parameters)) {
			key, value := cut(name), cut(r.Parameters[name])
			if left -= len(key) + len(value); left < 0 {
				parameters["..."] = fmt.Sprintf("%d parameters in all", len(r.Parameters))
				break
			}
			parameters[key] = value
		}
		r.Parameters = parameters
	}
	return r
}

// Add numbers and keeps a record. Texts beyond 4096 bytes are cut, and parameters beyond 16 KiB left out.
func (j *Journal) Add(r Record) {
	r = r.cut()
	j.mu.Lock()
	defer j.mu.Unlock()
	r.Sequence = j.next
	j.next++
	j.ring[int(r.Sequence)%len(j.ring)] = r
	if r.Operation != "" {
		j.count(r)
	}
	if j.lines != nil && j.lines.Encode(r) != nil {
		// A journal file that can no longer be written must not stop the emulator.
		j.lines = nil
	}
	for s := range j.subscribers {
		select {
		case s.records <- r:
		default:
			close(s.records)
			delete(j.subscribers, s)
		}
	}
}

func (j *Journal) count(r Record) {
	name := r.Service + ":" + r.Operation
	c := j.counts[name]
	if c == nil && len(j.counts) >= maxCounts {
		name = others
		c = j.counts[name]
	}
	if c == nil {
		c = &Count{Errors: map[string]int{}}
		j.counts[name] = c
	}
	c.Calls++
	if r.Code != "" {
		c.Errors[r.Code]++
	}
}

// Since lists the kept records with a sequence above after, oldest first.
func (j *Journal) Since(after uint64) []Record {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.since(after)
}

func (j *Journal) since(after uint64) []Record {
	if after >= j.next {
		return nil
	}
	first := after + 1
	if kept := uint64(len(j.ring)); j.next > kept {
		first = max(first, j.next-kept)
	}
	var found []Record
	for s := first; s < j.next; s++ {
		found = append(found, j.ring[int(s)%len(j.ring)])
	}
	return found
}

// Follow returns the kept records with a sequence above after, and a channel with all later ones.
// The channel is closed by stop, or when buffer records wait in it: a slow reader is told, it does not
// lose records unnoticed.
func (j *Journal) Follow(after uint64, buffer int) (kept []Record, later <-chan Record, stop func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := &subscriber{records: make(chan Record, buffer)}
	j.subscribers[s] = struct{}{}
	return j.since(after), s.records, func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		if _, open := j.subscribers[s]; open {
			close(s.records)
			delete(j.subscribers, s)
		}
	}
}

// Counts says how often each operation ("service:Operation") was called since the start.
func (j *Journal) Counts() map[string]Count {
	j.mu.Lock()
	defer j.mu.Unlock()
	all := make(map[string]Count, len(j.counts))
	for name, c := range j.counts {
		all[name] = Count{Calls: c.Calls, Errors: maps.Clone(c.Errors)}
	}
	return all
}
