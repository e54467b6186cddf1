package shell

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestRun(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/broken" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = w.Write([]byte(r.Method + " " + r.URL.Path + " " + r.Header.Get("X-A") + "\n"))
	}))
	defer server.Close()
	var signals []string
	files := &Files{}
	files.Mount("/etc/podinfo/labels", func() string { return "app=\"web\"\n" })
	for _, c := range []struct {
		name, script string
		code         int32
		out          string
		err          string // a part of it
	}{
		{"lists and exit codes", "true && false || exit 3", 3, "", ""},
		{"variables, pipes and loops", "for i in 1 2; do echo $GREETING$i; done | cat", 0, "hello1\nhello2\n", ""},
		{"files", "touch /tmp/ok; test -f /tmp/ok && rm /tmp/ok; test -f /tmp/ok", 1, "", ""},
		{"writing and appending", "echo a > /tmp/f; echo b >> /tmp/f; cat /tmp/f; cd /tmp; cat f; ls", 0, "a\nb\na\nb\nf\n", ""},
		{"nothing of this machine", "cat /etc/passwd", 1, "", "No such file or directory"},
		{"no globbing on this machine", "echo /etc/pass*", 0, "/etc/pass*\n", ""},
		{"no PATH of this machine", "ps", 127, "", "ps: not found"},
		{"the downward API", "cat /etc/podinfo/labels; echo x > /etc/podinfo/labels", 1, "app=\"web\"\n", "read-only"},
		{"a shell within", `sh -c 'echo $1' x y; bash -ec "exit 4"`, 4, "y\n", ""},
		{"a program by its path", "/bin/echo hi; /usr/bin/hostname", 0, "hi\nweb-1\n", ""},
		{"curl", "curl -fsS -H 'X-A: b' localhost:8080/x", 0, "GET /x b\n", ""},
		{"curl fails as asked", "curl -fs http://localhost:8080/broken || exit $?", 22, "", ""},
		{"curl shows what it gets", "curl -s localhost:8080/broken", 0, "GET /broken \n", ""},
		{"wget", "wget -qO- http://localhost:8080/y", 0, "GET /y \n", ""},
		{"wget fails", "wget -q --spider localhost:8080/broken", 1, "", ""},
		{"wget to a file", "cd /tmp; wget -q localhost:8080/z; cat z", 0, "GET /z \n", ""},
		{"nobody listens", "nc -z elsewhere 1", 1, "", "elsewhere"},
		{"a signal", "kill 1; kill -s QUIT 1; kill -HUP 1; kill 7", 1, "", "no such process"},
		{"no shell language", "if", 2, "", "sh:"},
		{"input", "read x; echo got $x", 0, "got typed\n", ""},
		{"environment", "export NEW=1; printenv GREETING NEW", 0, "hello\n1\n", ""},
	} {
		var out, errs bytes.Buffer
		code, err := Run(t.Context(), Config{
			Command: []string{"sh", "-c", c.script}, Env: []string{"GREETING=hello"}, Stdin: strings.NewReader("typed\n"), Stdout: &out, Stderr: &errs,
			Hostname: "web-1", Files: files, Signal: func(s string) { signals = append(signals, s) },
			Dial: func(ctx context.Context, host, port string) (net.Conn, error) {
				if host != "localhost" || port != "8080" {
					return nil, errors.New(host + " does not answer")
				}
				return (&net.Dialer{}).DialContext(ctx, "tcp", server.Listener.Addr().String())
			},
		})
		if err != nil || code != c.code || out.String() != c.out || !strings.Contains(errs.String(), c.err) || c.err == "" && errs.Len() > 0 {
			t.Errorf("%s: exit code %d, %v, output %q, errors %q", c.name, code, err, out.String(), errs.String())
		}
	}
	if got := strings.Join(signals, " "); got != "TERM QUIT HUP" {
		t.Errorf("signals %s", got)
	}
}

// A person at a terminal gets a prompt, sees what is typed, and keeps variables from line to line.
func TestTerminal(t *testing.T) {
	var out bytes.Buffer
	code, err := Run(t.Context(), Config{
		Command: []string{"sh"}, Terminal: true, Files: &Files{}, Stdout: &out, Stdin: strings.NewReader("x=1\rech\x7fho $x\rif\rexit 4\rnever\r"),
	})
	if code != 4 || err != nil || !strings.Contains(out.String(), "\n1\r\n/ # ") || !strings.Contains(out.String(), "sh: ") || strings.Contains(out.String(), "never") {
		t.Errorf("exit code %d, %v, screen %q", code, err, out.String())
	}
}

func TestUnknownProgram(t *testing.T) {
	code, err := Run(t.Context(), Config{Command: []string{"pg_isready", "-q"}, Files: &Files{}, Unknown: func(args []string) uint8 { return uint8(len(args)) }})
	if code != 2 || err != nil {
		t.Errorf("exit code %d, %v", code, err)
	}
}

func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		begin := time.Now()
		_, err := Run(ctx, Config{Command: []string{"sh", "-c", "while true; do sleep 1; done"}, Files: &Files{}})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != 3*time.Second {
			t.Errorf("after %s: %v", time.Since(begin), err)
		}
	})
}

func TestFilesHaveLimits(t *testing.T) {
	files := &Files{}
	script := "x=0123456789abcdef; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do x=$x$x; echo $x > /tmp/$i; done"
	if _, err := Run(t.Context(), Config{Command: []string{"sh", "-c", script}, Files: files}); err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, content := range files.files {
		total += len(content)
	}
	if total != files.size || total > room || total < room/4 {
		t.Errorf("the files hold %d bytes, counted %d, of %d", total, files.size, room)
	}
}
