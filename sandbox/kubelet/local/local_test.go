package local

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait.
const patience = 20 * time.Second

func run(t *testing.T, c Config) (code int32, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	ended := make(chan int32, 1)
	c.Stdout, c.Stderr, c.Exited = &out, &errs, func(code int32) { ended <- code }
	if _, err := Start(c); err != nil {
		t.Fatal(err)
	}
	select {
	case code = <-ended:
	case <-time.After(patience):
		t.Fatal("it does not end")
	}
	return code, out.String(), errs.String()
}

func TestRun(t *testing.T) {
	t.Setenv("SECRET_OF_OURS", "not for commands")
	dir := t.TempDir()
	for _, c := range []struct {
		name, script string
		code         int32
		out, err     string
	}{
		{"output and exit code", "echo out; echo err >&2; exit 7", 7, "out\n", "err\n"},
		{"its own folder", "pwd", 0, dir + "\n", ""},
		{"its own environment only", "echo $GREETING${SECRET_OF_OURS-none}", 0, "hello none\n", ""},
		{"ended by a signal", "kill -TERM $$", 143, "", ""},
		{"input", "cat", 0, "typed", ""},
	} {
		code, out, errs := run(t, Config{Command: []string{"sh", "-c", c.script}, Env: []string{"GREETING=hello "}, Dir: dir, Stdin: strings.NewReader("typed")})
		if code != c.code || out != c.out || errs != c.err {
			t.Errorf("%s: exit code %d, output %q, errors %q", c.name, code, out, errs)
		}
	}
}

func TestTerminal(t *testing.T) {
	sizes := make(chan Size, 1)
	sizes <- Size{Rows: 33, Columns: 99}
	close(sizes)
	code, out, _ := run(t, Config{
		Command: []string{"sh", "-c", "test -t 0 && test -t 1 && read x; until test \"$(stty size)\" = '33 99'; do :; done; echo got $x; exit 6"},
		Stdin:   strings.NewReader("typed\n"), Terminal: true, Resize: sizes,
	})
	if code != 6 || !strings.Contains(out, "got typed\r\n") {
		t.Errorf("exit code %d, screen %q", code, out)
	}
}

func TestCannotStart(t *testing.T) {
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("not a program"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, command := range map[int32][]string{127: {"no-such-program", "x"}, 126: {script}} {
		_, err := Start(Config{Command: command})
		var start *StartError
		if !errors.As(err, &start) || start.Code != want {
			t.Errorf("%q: %v; want exit code %d", command, err, want)
		}
	}
}

// What a command leaves running in the background ends with it, as in a container.
func TestNothingIsLeftBehind(t *testing.T) {
	begin := time.Now()
	_, out, _ := run(t, Config{Command: []string{"sh", "-c", "sleep 1000 & echo $!"}})
	if took := time.Since(begin); took > patience/2 {
		t.Errorf("the background process has held it up for %s", took)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(out))
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); alive(pid); time.Sleep(time.Millisecond) { // until init has taken it away
		if time.Now().After(deadline) {
			t.Fatalf("process %d is still there", pid)
		}
	}
}

// alive reports whether a process runs. One that nobody has waited for yet does not.
func alive(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) && !errors.Is(err, os.ErrNotExist)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func TestUsage(t *testing.T) {
	const line = "4711 (a) b (c)) S 1 4711 4711 0 -1 4194304 100 200 0 0 250 50 25 75 20 0 1 0 12345 1000000 321 18446744073709551615 1 1"
	cpu, memory, ok := parseStat(line)
	if cpu != 4*time.Second || memory != 321*int64(os.Getpagesize()) || !ok {
		t.Errorf("%s, %d bytes, %v", cpu, memory, ok)
	}
	if _, _, ok := parseStat("4711 (cut"); ok {
		t.Error("a line that was cut off is taken for whole")
	}
}

func TestSignals(t *testing.T) {
	for _, c := range []struct {
		name, script string
		send         func(*Process)
		want         int32
	}{
		{"a trap decides", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done", (*Process).Terminate, 3},
		{"a kill cannot be ignored", "trap '' TERM; echo ready; sleep 1000", (*Process).Kill, 137},
	} {
		ready, ended := make(chan struct{}), make(chan int32, 1)
		p, err := Start(Config{Command: []string{"sh", "-c", c.script}, Stdout: signal(ready), Exited: func(code int32) { ended <- code }})
		if err != nil {
			t.Fatal(err)
		}
		<-ready
		c.send(p)
		if code := <-ended; code != c.want {
			t.Errorf("%s: exit code %d, want %d", c.name, code, c.want)
		}
		c.send(p) // of a process that is gone: nothing happens
	}
}

// signal is closed by the first write.
type signal chan struct{}

func (s signal) Write(b []byte) (int, error) {
	close(s)
	return len(b), nil
}
