// Package logs keeps what one run of a container has said, as a container runtime does: line by line, with the time
// and the stream of each, and hands it out in the ways that kubectl logs asks for.
//
// A log keeps the newest lines up to a limit, and less when the logs of a [Store] hold much together; it never blocks or
// slows down who writes. Start reading at [Log].
package logs

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// keep is how many bytes a log holds: older lines go first. A runtime's own limit is 10 MB per file; thousands of
// containers share this process.
const keep = 1 << 20

// What the logs of a store hold together: once that is more than keepTogether, a log that grows keeps no more than floor. The
// sum stays below keepTogether + floor x logs, and what simulated applications say is below the floor.
const (
	keepTogether = 256 << 20
	floor        = 16 << 10
)

// Store bounds what many logs hold together. The zero value is ready. It is safe for concurrent use.
type Store struct {
	// limit is keepTogether if it is 0.
	limit int64
	// over is what the logs hold beyond their floors.
	over atomic.Int64
}

// New returns an empty log. What it holds is given back to the store when nobody has it any more.
func (s *Store) New() *Log { return &Log{store: s} }

// longest is where a line is cut into several, as runtimes do.
const longest = 16 << 10

// Stream says where a line was written.
type Stream uint8

// The two streams.
const (
	Stdout Stream = iota
	Stderr
)

// Log is the output of one run of a container. The zero value is empty and ready. It is safe for concurrent use.
type Log struct {
	store *Store // nil: it is alone
	// counted is what the store counts of it; made when there is something to count, so that most logs cost nothing more.
	counted *int64

	mu    sync.Mutex
	lines []line
	size  int // of the lines, with what keeping them costs
	// gone counts the lines that were dropped for want of room, so that a line's number never changes.
	gone   int
	closed bool
	more   chan struct{} // closed at the next change; made by who waits for it
}

type line struct {
	at     int64 // Unix nanoseconds
	stream Stream
	// whole says that the line ended with a newline.
	whole bool
	text  string
}

// Printf adds a line of the application's own.
func (l *Log) Printf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := format
	if len(args) > 0 {
		text = fmt.Sprintf(format, args...)
	}
	l.add(Stdout, text, true)
}

// add appends a line. The caller holds mu.
func (l *Log) add(s Stream, text string, whole bool) {
	if l.closed {
		return
	}
	l.lines = append(l.lines, line{time.Now().UnixNano(), s, whole, text})
	l.size += cost(text)
	limit := l.limit()
	for l.size > limit && len(l.lines) > 1 {
		l.size -= cost(l.lines[0].text)
		l.lines[0] = line{} // its text can go before the array does
		l.lines, l.gone = l.lines[1:], l.gone+1
	}
	l.count()
	l.changed()
}

// cost is what a line takes of the memory: even one of no text takes some.
func cost(text string) int { return len(text) + int(unsafe.Sizeof(line{})) }

// limit is how much the log may hold now. The caller holds mu.
func (l *Log) limit() int {
	if l.store == nil || l.size <= floor {
		return keep
	}
	mine := int64(l.size - floor)
	if l.counted != nil {
		mine -= *l.counted
	}
	if l.store.over.Load()+mine > cmp.Or(l.store.limit, keepTogether) {
		return floor
	}
	return keep
}

// count tells the store what the log holds beyond its floor. The caller holds mu.
func (l *Log) count() {
	over := int64(max(l.size-floor, 0))
	if l.store == nil || over == 0 && l.counted == nil {
		return
	}
	if l.counted == nil {
		l.counted = new(int64)
		store := l.store
		runtime.AddCleanup(l, func(counted *int64) { store.over.Add(-*counted) }, l.counted)
	}
	l.store.over.Add(over - *l.counted)
	*l.counted = over
}

func (l *Log) changed() {
	if l.more != nil {
		close(l.more)
		l.more = nil
	}
}

// Close says that the run has ended: nothing more is added, and who follows comes to the end.
func (l *Log) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.changed()
}

// Writer returns a writer for one stream. What has no newline yet is kept back until there is one, or until Close.
func (l *Log) Writer(s Stream) io.WriteCloser { return &writer{log: l, stream: s} }

type writer struct {
	log    *Log
	stream Stream
	mu     sync.Mutex
	part   []byte
}

func (w *writer) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	w.part = append(w.part, b...)
	for {
		end := bytes.IndexByte(w.part, '\n')
		switch {
		case end >= 0 && end <= longest:
			w.log.add(w.stream, string(w.part[:end]), true)
			w.part = w.part[end+1:]
		case len(w.part) >= longest:
			w.log.add(w.stream, string(w.part[:longest]), false)
			w.part = w.part[longest:]
		default:
			w.part = append([]byte(nil), w.part...) // let go of what has been taken
			return len(b), nil
		}
	}
}

// Close adds what has no newline.
func (w *writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	if len(w.part) > 0 {
		w.log.add(w.stream, string(w.part), false)
		w.part = nil
	}
	return nil
}

// Tail returns the end of the log: at most so many lines and bytes.
func (l *Log) Tail(lines, size int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b []byte
	for _, line := range l.lines[max(0, len(l.lines)-lines):] {
		b = line.append(b, false)
	}
	return string(b[max(0, len(b)-size):])
}

// Options say which part of a log is wanted. The zero value is all that there is now.
type Options struct {
	// Follow goes on with what comes until the run has ended.
	Follow bool
	// Timestamps puts the time before every line.
	Timestamps bool
	// Since leaves out what is older.
	Since time.Time
	// Tail leaves out all but the last lines; nil is all.
	Tail *int64
	// Limit ends after so many bytes; nil is no limit.
	Limit *int64
	// Only leaves out the other stream; nil is both.
	Only *Stream
}

// Copy writes the log to w, and calls flush after each part. It ends when all is written that is asked for, when ctx
// ends (which is no error), or when w fails.
func (l *Log) Copy(ctx context.Context, w io.Writer, flush func(), o Options) error {
	l.mu.Lock()
	next := l.first(o)
	left := int64(math.MaxInt64)
	if o.Limit != nil {
		left = *o.Limit
	}
	for {
		var part []byte
		for ; next < l.gone+len(l.lines); next++ {
			if line := l.lines[max(next-l.gone, 0)]; o.wants(line) {
				part = line.append(part, o.Timestamps)
			}
		}
		ended := l.closed || !o.Follow
		if !ended && l.more == nil {
			l.more = make(chan struct{})
		}
		more := l.more
		l.mu.Unlock()
		if int64(len(part)) >= left {
			part, ended = part[:left], true
		}
		left -= int64(len(part))
		if len(part) > 0 {
			if _, err := w.Write(part); err != nil {
				return err
			}
			flush()
		}
		if ended {
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil
		}
		l.mu.Lock()
		next = max(next, l.gone)
	}
}

// first returns the number of the first line that is wanted. The caller holds mu.
func (l *Log) first(o Options) int {
	if o.Tail == nil {
		return l.gone
	}
	left := *o.Tail
	for i := len(l.lines); i > 0; i-- {
		if left <= 0 {
			return l.gone + i
		}
		if o.Only == nil || l.lines[i-1].stream == *o.Only {
			left--
		}
	}
	return l.gone
}

func (o Options) wants(l line) bool {
	late := o.Since.IsZero() || l.at >= o.Since.UnixNano()
	return late && (o.Only == nil || *o.Only == l.stream)
}

func (l line) append(b []byte, timestamps bool) []byte {
	if timestamps {
		b = time.Unix(0, l.at).UTC().AppendFormat(b, "2006-01-02T15:04:05.000000000Z07:00")
		b = append(b, ' ')
	}
	b = append(b, l.text...)
	if l.whole {
		b = append(b, '\n')
	}
	return b
}
