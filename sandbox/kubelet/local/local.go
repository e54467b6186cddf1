// Package local runs a container's command as a process of this machine: for Jobs and hooks whose work is to be
// done for real, not simulated.
//
// There is no isolation: the command has the rights of whoever started the sandbox. It gets a folder to work in, the
// environment that its manifest gives it and nothing of our own (no cloud credentials above all), and a process group
// that ends with it. As in a container, the end of the first process is the end of all.
//
// Start reading at [Start].
package local

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
)

// Exit codes that a shell and container runtimes use.
const (
	exitNotFound = 127
	exitCannot   = 126
	exitSignal   = 128
)

// straggler is how long output is waited for after the process has ended, from descendants that have left its group.
const straggler = time.Second

// Config says what to run. Command is required.
type Config struct {
	// Command is the program and its arguments. A program without a slash is looked for in the PATH of Env.
	Command []string
	// Env is the whole environment, NAME=value. Without a PATH it gets that of most images.
	Env []string
	// Dir is the folder to work in.
	Dir string
	// Stdin, Stdout and Stderr may be nil.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Terminal gives the process a terminal, whose screen is Stdout, with the sizes that come by Resize.
	Terminal bool
	Resize   <-chan Size
	// Exited is called once, from a goroutine of its own, when the process has ended and all that it wrote is written.
	// A process that a signal has ended has 128 + its number.
	Exited func(code int32)
}

// Size is that of a terminal, in characters.
type Size struct{ Rows, Columns uint16 }

// StartError says that a command cannot be run; Code is what a shell would exit with.
type StartError struct {
	Code int32
	Err  error
}

func (e *StartError) Error() string { return e.Err.Error() }
func (e *StartError) Unwrap() error { return e.Err }

// Process is a running command. Its methods are safe for concurrent use.
type Process struct {
	cmd *exec.Cmd
	// gone says that the process has ended: a signal must never reach another that has its number later.
	mu   sync.Mutex
	gone bool
}

// defaultPath is what most images have.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Start starts a process. The error is a *StartError.
func Start(c Config) (*Process, error) {
	program, env, err := find(c.Command, c.Env)
	if err != nil {
		return nil, err
	}
	cmd := &exec.Cmd{Path: program, Args: c.Command, Env: env, Dir: c.Dir, SysProcAttr: &syscall.SysProcAttr{Setpgid: true}}
	dieWithParent(cmd.SysProcAttr)
	out := output{done: make(chan struct{})}
	defer out.closeWriters()
	connect := c.pipes
	if c.Terminal {
		connect = c.screen
	}
	if err := connect(cmd, &out); err != nil {
		out.drain(0)
		return nil, &StartError{exitCannot, fmt.Errorf("cannot connect the input and output of %s: %w", program, err)}
	}
	if err := cmd.Start(); err != nil {
		out.drain(0)
		return nil, &StartError{exitCannot, fmt.Errorf("cannot start %s: %w", program, err)}
	}
	p := &Process{cmd: cmd}
	go p.live(&out, c.Exited)
	return p, nil
}

// pipes connects a command to the streams.
func (c Config) pipes(cmd *exec.Cmd, out *output) (err error) {
	if cmd.Stdout, err = out.to(c.Stdout); err != nil {
		return err
	}
	cmd.Stderr = cmd.Stdout
	if c.Stderr != c.Stdout {
		if cmd.Stderr, err = out.to(c.Stderr); err != nil {
			return err
		}
	}
	if c.Stdin == nil {
		return nil
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	go func() { // ends with the process, whose end closes the pipe, or with the input
		_, _ = io.Copy(in, c.Stdin)
		_ = in.Close()
	}()
	return nil
}

// screen connects a command to a terminal of its own.
func (c Config) screen(cmd *exec.Cmd, out *output) error {
	ours, theirs, err := pty.Open()
	if err != nil {
		return err
	}
	out.readers, out.writers = append(out.readers, ours), append(out.writers, theirs)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, theirs
	cmd.SysProcAttr.Setpgid, cmd.SysProcAttr.Setsid, cmd.SysProcAttr.Setctty = false, true, true
	if c.Stdout != nil {
		out.copies.Go(func() { _, _ = io.Copy(c.Stdout, ours) })
	}
	if c.Stdin != nil {
		go func() { _, _ = io.Copy(ours, c.Stdin) }()
	}
	if c.Resize != nil {
		go func() {
			for {
				select {
				case size, ok := <-c.Resize:
					if !ok {
						return
					}
					_ = pty.Setsize(ours, &pty.Winsize{Rows: size.Rows, Cols: size.Columns})
				case <-out.done:
					return
				}
			}
		}()
	}
	return nil
}

// find returns the path of the command's program, and the environment with a PATH in it.
func find(command, env []string) (program string, all []string, err error) {
	if len(command) == 0 {
		return "", nil, &StartError{exitNotFound, errors.New("no command is given")}
	}
	path := ""
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			path = v
		}
	}
	if path == "" {
		path = defaultPath
		env = append(env[:len(env):len(env)], "PATH="+path)
	}
	if strings.ContainsRune(command[0], '/') {
		return command[0], env, nil
	}
	for _, dir := range filepath.SplitList(path) {
		at := filepath.Join(dir, command[0])
		if info, err := os.Stat(at); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 && filepath.IsAbs(at) {
			return at, env, nil
		}
	}
	return "", nil, &StartError{exitNotFound, fmt.Errorf("exec: %q: executable file not found in $PATH (%s) of the machine that runs the sandbox", command[0], path)}
}

// live waits for the end of the process, ends what it has left in its group, and waits for its output.
func (p *Process) live(out *output, exited func(int32)) {
	p.await()
	out.drain(straggler)
	if exited != nil {
		exited(code(p.cmd.ProcessState))
	}
}

// endGroup ends what is left of the group. Nothing is signalled afterwards.
func (p *Process) endGroup() {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	p.gone = true
}

func code(s *os.ProcessState) int32 {
	if w, ok := s.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return exitSignal + int32(w.Signal())
	}
	return int32(s.ExitCode())
}

// Terminate sends SIGTERM to the first process, as a container runtime does.
func (p *Process) Terminate() { p.signal(p.cmd.Process.Pid, syscall.SIGTERM) }

// Kill ends all processes of the group.
func (p *Process) Kill() { p.signal(-p.cmd.Process.Pid, syscall.SIGKILL) }

func (p *Process) signal(pid int, s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.gone {
		_ = syscall.Kill(pid, s)
	}
}

// PID returns the number of the first process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// output is the pipes through which a process writes. They are our own, and not those of exec.Cmd, since its Wait
// would wait for descendants, too.
type output struct {
	readers, writers []*os.File
	copies           sync.WaitGroup
	done             chan struct{} // closed when there will be no more
}

func (o *output) to(w io.Writer) (io.Writer, error) {
	if w == nil {
		return nil, nil
	}
	r, pw, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	o.readers, o.writers = append(o.readers, r), append(o.writers, pw)
	o.copies.Go(func() { _, _ = io.Copy(w, r) })
	return pw, nil
}

func (o *output) closeWriters() {
	for _, w := range o.writers {
		_ = w.Close()
	}
}

func (o *output) closeReaders() {
	for _, r := range o.readers {
		_ = r.Close()
	}
}

// drain waits until everything is copied, or for as long as given.
func (o *output) drain(atMost time.Duration) {
	defer close(o.done)
	done := make(chan struct{})
	go func() { o.copies.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(atMost):
	}
	o.closeReaders()
	<-done
}

// Usage returns how much processor time the process, and those of its descendants that have ended, have used, and how much
// memory it has now. ok is false when it has ended, and where the system does not tell.
func (p *Process) Usage() (cpu time.Duration, memory int64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return 0, 0, false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, 0, false
	}
	return parseStat(string(stat))
}

// ticks is how many of the kernel's ticks are a second: for user space always 100.
const ticks = 100

// parseStat reads a line of /proc/PID/stat. The second field, the name, may hold anything; the fields after it are counted
// from 3 (see proc(5)): 14 to 17 are processor times, 24 is resident pages.
func parseStat(line string) (cpu time.Duration, memory int64, ok bool) {
	fields := strings.Fields(line[strings.LastIndexByte(line, ')')+1:])
	if len(fields) < 22 {
		return 0, 0, false
	}
	var sum int64
	for _, f := range fields[11:15] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, 0, false
		}
		sum += n
	}
	pages, err := strconv.ParseInt(fields[21], 10, 64)
	return time.Duration(sum) * time.Second / ticks, pages * int64(os.Getpagesize()), err == nil
}
