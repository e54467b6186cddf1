package apiserver

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// child is the process of a control plane, from its start until it has been waited for.
type child struct {
	pid   int
	log   string      // path
	ready chan report // receives once, when the child says that it serves
	done  chan struct{}
	exit  error    // of the process; read after done
	left  bool     // whether it left processes in its group; read after done
	life  *os.File // our end of the child's standard input: it ends when this is closed
}

// report is the line that the executable prints when it is ready.
type report struct {
	Ready      bool   `json:"ready"`
	Endpoint   string `json:"endpoint"`
	Kubeconfig string `json:"kubeconfig"`
}

// spawn starts the executable.
func spawn(path, dir string, c Config) (*child, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make its directory: %w", err)
	}
	p := &child{log: filepath.Join(dir, "controlplane.log"), ready: make(chan report, 1), done: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open its log: %w", err)
	}
	defer log.Close()
	stdin, life, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer stdin.Close()
	out, stdout, err := os.Pipe()
	if err != nil {
		_ = life.Close()
		return nil, err
	}
	defer stdout.Close()
	p.life = life

	args := []string{"--dir", dir, "--until-stdin-closes", "--secure-port", strconv.Itoa(c.Port)}
	if c.ServiceRange != "" {
		args = append(args, "--service-cluster-ip-range", c.ServiceRange)
	}
	cmd := exec.Command(path, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, log
	// A group of its own keeps the terminal's Ctrl-C away: the caller decides when the control plane goes.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(cmd.SysProcAttr)

	started := make(chan error)
	go p.live(cmd, started)
	if err := <-started; err != nil {
		_ = life.Close()
		_ = out.Close()
		return nil, err
	}
	go p.listen(out)
	return p, nil
}

// live starts the process and waits for its end, on a thread that is kept for this: where the kernel kills a
// child whose parent dies, "parent" means the thread that started it.
func (p *child) live(cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		started <- err
		return
	}
	p.pid = cmd.Process.Pid
	started <- nil
	p.exit = cmd.Wait()
	// The group's number stays taken while anybody is in it, and right now nobody else can have got it.
	p.left = syscall.Kill(-p.pid, syscall.SIGKILL) == nil
	_ = p.life.Close()
	close(p.done)
}

// listen waits for the child's report on its standard output, and then drains it.
func (p *child) listen(out *os.File) {
	defer out.Close()
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var r report
		if json.Unmarshal(line, &r) == nil && r.Ready {
			p.ready <- r
			break
		}
	}
	_, _ = io.Copy(io.Discard, lines)
}

// end asks the process to end, kills it after the grace, and returns when it is gone.
func (p *child) end(grace time.Duration) error {
	p.signal(syscall.SIGTERM)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		p.signal(syscall.SIGKILL)
		<-p.done
	}
	if p.left {
		return fmt.Errorf("the control plane (pid %d) left processes behind, which have been killed", p.pid)
	}
	return nil
}

// signal reaches the process and its group while it has not been waited for; after that the number may be
// somebody else's.
func (p *child) signal(s syscall.Signal) {
	select {
	case <-p.done:
	default:
		_ = syscall.Kill(-p.pid, s)
	}
}

// lastWords says how the process ended and what it logged last.
func (p *child) lastWords() string {
	how := "it ended on its own"
	var exit *exec.ExitError
	if errors.As(p.exit, &exit) {
		how = exit.String()
	} else if p.exit != nil {
		how = p.exit.Error()
	}
	if line := lastLine(p.log); line != "" {
		return how + ": " + line
	}
	return how
}

// lastLine returns the last line of a file that is not blank, or nothing when there is none or it cannot be read.
func lastLine(path string) string {
	const tail = 8 << 10
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.Size() > tail {
		_, _ = file.Seek(-tail, io.SeekEnd)
	}
	content, err := io.ReadAll(file)
	if err != nil {
		return ""
	}
	content = bytes.TrimSpace(content)
	return string(bytes.TrimSpace(content[bytes.LastIndexByte(content, '\n')+1:]))
}
