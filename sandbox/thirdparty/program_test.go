package thirdparty

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// repository is the root of Lockstep's checkout, seen from here.
const repository = "../.."

// lockstep is the program under test, as `make build` leaves it.
const lockstep = repository + "/bin/lockstep"

// programs is where each program's folder gets its executables. They stay, so that only the first run builds.
const programs = repository + "/bin/thirdparty"

// build builds a package as the go.mod of a folder pins it and returns the executable. What has not changed is not built again.
func build(t *testing.T, folder, path string) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join(programs, folder))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if _, err := output("go", "build", "-C", folder, "-trimpath", "-ldflags=-s -w", "-o", dir+"/", path); err != nil {
		t.Fatalf("cannot build %s of %s: %v", path, folder, err)
	}
	t.Logf("built %s of %s in %s", filepath.Base(path), folder, time.Since(began).Round(time.Second))
	return filepath.Join(dir, filepath.Base(path))
}

// source is the folder with the source of a module as the go.mod of a folder pins it.
func source(t *testing.T, folder, module string) string {
	t.Helper()
	dir, err := output("go", "list", "-C", folder, "-m", "-f", "{{.Dir}}", module)
	if err != nil {
		t.Fatalf("cannot find the source of %s: %v", module, err)
	}
	return strings.TrimSpace(string(dir))
}

// output runs a command to its end and returns what it prints. The error holds what it complains of.
func output(name string, args ...string) ([]byte, error) {
	command := exec.Command(name, args...)
	var complaint bytes.Buffer
	command.Stderr = &complaint
	out, err := command.Output()
	if err != nil {
		return out, fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, out, complaint.Bytes())
	}
	return out, nil
}

// process is a program that runs until the test ends.
type process struct {
	name  string
	ended chan struct{}
	log   *os.File

	mu  sync.Mutex
	err error // why it ended
}

// start runs a program in the sandbox's environment until the test is over. Its AWS calls bear the name as the
// application's, which is how the journal tells them from others.
func (w *world) start(t *testing.T, name, path string, args ...string) *process {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(path, args...)
	command.Env = append(append(os.Environ(), w.environment...), "AWS_SDK_UA_APP_ID="+name)
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for the test, which then ends the program
	if err := command.Start(); err != nil {
		t.Fatalf("cannot start %s: %v", name, err)
	}
	p := &process{name: name, ended: make(chan struct{}), log: log}
	go func() {
		err := command.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.err = fmt.Errorf("%s ended by itself: %v", name, err)
		close(p.ended)
	}()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the last words of %s:\n%s", name, p.lastWords())
		}
		_ = command.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.ended:
		case <-time.After(20 * time.Second):
			_ = command.Process.Kill()
			<-p.ended
		}
		log.Close()
	})
	return p
}

// alive fails the test when the program has ended.
func (p *process) alive(t *testing.T) {
	t.Helper()
	select {
	case <-p.ended:
		p.mu.Lock()
		defer p.mu.Unlock()
		t.Fatal(p.err)
	default:
	}
}

func (p *process) lastWords() string {
	const enough = 6000
	data, err := os.ReadFile(p.log.Name())
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-enough):])
}

// errNotYet says that what is waited for is not there.
var errNotYet = errors.New("not yet")

// eventually waits until look finds nothing wrong, and fails the test when it still does after two minutes or one of the
// processes has ended.
func eventually(t *testing.T, what string, look func() error, processes ...*process) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		err := look()
		if err == nil {
			return
		}
		for _, p := range processes {
			p.alive(t)
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s: %v", what, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// freePort is a TCP port of 127.0.0.1 that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
