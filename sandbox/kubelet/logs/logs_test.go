package logs

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"
)

func copied(t *testing.T, l *Log, o Options) string {
	t.Helper()
	var b bytes.Buffer
	if err := l.Copy(t.Context(), &b, func() {}, o); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestCopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Log
		out, errs := l.Writer(Stdout), l.Writer(Stderr)
		_, _ = io.WriteString(out, "one\ntw")
		time.Sleep(time.Minute)
		_, _ = io.WriteString(errs, "oh\n")
		_, _ = io.WriteString(out, "o\nthree")
		_ = out.Close()
		l.Close()
		l.Printf("too late")
		for _, c := range []struct {
			name string
			o    Options
			want string
		}{
			{"all", Options{}, "one\noh\ntwo\nthree"},
			{"follow ends with the run", Options{Follow: true}, "one\noh\ntwo\nthree"},
			{"tail", Options{Tail: new(int64(2))}, "two\nthree"},
			{"tail of nothing", Options{Tail: new(int64(0))}, ""},
			{"tail of one stream", Options{Tail: new(int64(1)), Only: new(Stderr)}, "oh\n"},
			{"limit", Options{Limit: new(int64(5))}, "one\no"},
			{"since", Options{Since: time.Now().Add(-time.Second)}, "oh\ntwo\nthree"},
			{"timestamps", Options{Timestamps: true, Tail: new(int64(1))}, "2000-01-01T00:01:00.000000000Z three"},
		} {
			if got := copied(t, &l, c.o); got != c.want {
				t.Errorf("%s: %q, want %q", c.name, got, c.want)
			}
		}
		if got := l.Tail(2, 7); got != "o\nthree" {
			t.Errorf("the tail is %q", got)
		}
	})
}

func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Log
		l.Printf("before")
		ctx, cancel := context.WithCancel(t.Context())
		r, w := io.Pipe()
		done := make(chan error)
		go func() { done <- l.Copy(ctx, w, func() {}, Options{Follow: true}) }()
		got := make([]byte, 100)
		for _, want := range []string{"before\n", "after 1\n"} {
			n, err := r.Read(got)
			if string(got[:n]) != want || err != nil {
				t.Fatalf("read %q, %v; want %q", got[:n], err, want)
			}
			synctest.Wait() // it waits for more
			l.Printf("after %d", 1)
		}
		_, _ = r.Read(got)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("a reader that leaves is no error: %v", err)
		}
	})
}

// A log that overflows keeps its end, and a follower that was too slow goes on with what is left.
func TestOverflow(t *testing.T) {
	var l Log
	big := strings.Repeat("x", 1<<10)
	for i := range 3 * keep / len(big) {
		l.Printf("%d %s", i, big)
	}
	if l.size > keep || len(l.lines) > keep/len(big) {
		t.Errorf("it keeps %d bytes in %d lines", l.size, len(l.lines))
	}
	last := fmt.Sprintf("%d %s\n", 3*keep/len(big)-1, big)
	if got := copied(t, &l, Options{Tail: new(int64(1))}); got != last {
		t.Errorf("the last line is %.20q", got)
	}
	w := l.Writer(Stdout)
	_, _ = io.WriteString(w, strings.Repeat("y", longest+1)+"\nz\n")
	if got := copied(t, &l, Options{Tail: new(int64(3))}); got != strings.Repeat("y", longest+1)+"\nz\n" {
		t.Errorf("a long line comes back as %.40q", got)
	}
}

// A line without text takes memory, too.
func TestEmptyLines(t *testing.T) {
	var l Log
	w := l.Writer(Stdout)
	for range 64 {
		_, _ = w.Write(bytes.Repeat([]byte("\n"), 1024))
	}
	if len(l.lines) > keep/int(unsafe.Sizeof(line{})) {
		t.Errorf("%d empty lines are kept", len(l.lines))
	}
}

// What many logs hold together is bounded, and logs that nobody has any more are not counted.
func TestStore(t *testing.T) {
	const limit, count = 1 << 20, 100
	store := &Store{limit: limit}
	logs := make([]*Log, count)
	text := strings.Repeat("x", 1000)
	for i := range logs {
		logs[i] = store.New()
		for range 200 {
			logs[i].Printf("%s", text)
		}
	}
	held := 0
	for _, l := range logs {
		held += l.size
	}
	if most := limit + count*floor; held > most || held < limit {
		t.Errorf("the logs hold %d bytes, want %d to %d", held, limit, most)
	}
	if got := logs[count-1].Tail(1, 2000); got != text+"\n" {
		t.Errorf("the last log ends with %d bytes, want its newest line", len(got))
	}
	first, last := logs[0].size, logs[count-1].size
	if first < 200*1000 || last > floor {
		t.Errorf("the first log holds %d bytes, the last %d: want all of the first, and the floor", first, last)
	}
	runtime.KeepAlive(logs)
	logs = nil
	deadline := time.Now().Add(10 * time.Second)
	for store.over.Load() != 0 {
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes of logs that are gone are still counted", store.over.Load())
		}
		runtime.GC()
		runtime.Gosched()
	}
}

// BenchmarkLog measures what the log of a simulated application holds: one line.
func BenchmarkLog(b *testing.B) {
	var store Store
	b.ReportAllocs()
	for b.Loop() {
		store.New().Printf("%s", "listening at 127.1.0.5:8080")
	}
}
