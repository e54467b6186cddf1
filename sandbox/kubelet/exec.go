package kubelet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"

	"github.com/lockstep-delivery/lockstep/sandbox/kubelet/app"
	"github.com/lockstep-delivery/lockstep/sandbox/kubelet/local"
	"github.com/lockstep-delivery/lockstep/sandbox/kubelet/shell"
)

// streams are what a command in a container reads and writes; each may be nil.
type streams struct {
	in       io.Reader
	out, err io.Writer
	// terminal says that in and out are a person's; resize tells the size of the screen.
	terminal bool
	resize   <-chan local.Size
}

// errNotRunning is what there is to say of a container without a process.
var errNotRunning = errors.New("the container is not running")

// exec runs a command in a running container and returns its exit code: as a process of this machine where the container
// is one, otherwise by the simulated shell. unknown says what programs come to that an application would have and the
// shell has not; nil: they are not found.
func (v view) exec(ctx context.Context, r running, argv []string, s streams, unknown func([]string) uint8) (int32, error) {
	env, _ := v.processEnvironment(r)
	switch process := r.process.(type) {
	case command:
		argv, _ = r.relocated(argv)
		return v.execProcess(ctx, r, argv, env, s)
	case *app.Process:
		return shell.Run(ctx, shell.Config{
			Command: argv, Env: env, Stdin: s.in, Stdout: s.out, Stderr: s.err, Terminal: s.terminal,
			Hostname: v.pod.Name, Files: r.files, Dial: v.dial, Signal: signalTo(process), Unknown: unknown,
		})
	default:
		return 0, errNotRunning
	}
}

// execProcess runs a command beside that of the container. It is killed when ctx ends, and with that of the container.
func (v view) execProcess(ctx context.Context, r running, argv, env []string, s streams) (int32, error) {
	finish, ok := v.k.track()
	if !ok {
		return 0, errNotRunning
	}
	done := make(chan int32, 1)
	p, err := local.Start(local.Config{
		Command: argv, Env: env, Dir: r.dir, Stdin: s.in, Stdout: s.out, Stderr: s.err,
		Terminal: s.terminal, Resize: s.resize,
		Exited: func(code int32) { done <- code; finish() },
	})
	var start *local.StartError
	if errors.As(err, &start) {
		finish()
		if s.err != nil {
			fmt.Fprintln(s.err, start)
		}
		return start.Code, nil
	}
	select {
	case code := <-done:
		return code, nil
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-r.console.ended:
		err = errNotRunning
	case <-v.k.life.Done():
		err = errNotRunning
	}
	p.Kill()
	<-done
	return 0, fmt.Errorf("the command was killed: %w", err)
}

func signalTo(p *app.Process) func(string) {
	return func(name string) {
		switch name {
		case "TERM", "15", "INT", "2", "QUIT", "3":
			p.Terminate()
		case "KILL", "9": // which the first process of a container never gets from within
		}
	}
}

// dial connects from within the pod: to itself by any of its names, or to another address of the VPC.
func (v view) dial(ctx context.Context, host, port string) (net.Conn, error) {
	addr, err := netip.ParseAddr(host)
	if host == "localhost" || host == v.pod.Name || err == nil && (addr.IsLoopback() || addr.IsUnspecified()) {
		addr, err = v.addr, nil
	}
	if err != nil {
		return nil, fmt.Errorf("bad address %q: simulated applications know localhost and addresses of the VPC", host)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("%q is no port", port)
	}
	at := v.k.cfg.VPC.Real(netip.AddrPortFrom(addr, uint16(n)))
	if !at.IsValid() {
		return nil, fmt.Errorf("%s:%d is not in the sandbox's VPC %s", addr, n, v.k.cfg.VPC.CIDR())
	}
	return probeDialer.DialContext(ctx, "tcp4", at.String())
}
