package logs

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
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
