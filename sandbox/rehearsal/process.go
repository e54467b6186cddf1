package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// process is the controller under rehearsal: a child that can be killed and started again.
type process struct {
	path string
	args []string
	env  []string
	log  *os.File

	mu      sync.Mutex
	current *exec.Cmd
	ended   chan struct{}
	wanted  bool // false while it is being killed on purpose
	err     error
}

// startProcess starts the executable; its output goes to log.
func startProcess(path string, args, env []string, log *os.File) (*process, error) {
	p := &process{path: path, args: args, env: env, log: log}
	return p, p.start()
}

func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	cmd := exec.Command(p.path, p.args...)
	cmd.Env = append(os.Environ(), p.env...)
	cmd.Stdout, cmd.Stderr = p.log, p.log
	cmd.SysProcAttr = childAttributes()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("cannot start the controller %s: %w", p.path, err)
	}
	ended := make(chan struct{})
	p.current, p.ended, p.wanted = cmd, ended, true
	go func() {
		err := cmd.Wait()
		p.mu.Lock()
		if p.wanted && p.current == cmd {
			p.err = fmt.Errorf("the controller ended by itself: %v; its log is at %s", err, p.log.Name())
		}
		p.mu.Unlock()
		close(ended)
	}()
	return nil
}

// Err is why the controller ended although nobody killed it; nil while all is well.
func (p *process) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// kill ends the controller with no warning, as a node that loses power does, and returns when it is gone.
func (p *process) kill() error { return p.end(syscall.SIGKILL, 5*time.Second) }

// stop asks the controller to end and waits; it kills one that does not.
func (p *process) stop() error { return p.end(syscall.SIGTERM, 20*time.Second) }

func (p *process) end(signal syscall.Signal, patience time.Duration) error {
	p.mu.Lock()
	cmd, ended := p.current, p.ended
	p.wanted = false
	p.mu.Unlock()
	if err := cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("cannot end the controller (process %d): %w", cmd.Process.Pid, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		_ = cmd.Process.Kill()
		<-ended
		return fmt.Errorf("the controller (process %d) did not end within %s and was killed", cmd.Process.Pid, patience)
	}
}
