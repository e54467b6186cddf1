// Package apiserver runs the sandbox's Kubernetes control plane as a child process: etcd, kube-apiserver and the
// controllers of sandbox/controlplane in one executable, on a free port of 127.0.0.1.
//
// It never builds the executable (see package binary) and never outlives its caller: the child ends with
// [ControlPlane.Stop], and by itself when the process that started it dies in any way. Several control planes can
// run side by side, each in its own directory.
//
//	cp, err := apiserver.Start(ctx, apiserver.Config{Dir: dir})
//	if err != nil {
//		return err
//	}
//	defer cp.Stop()
//	config, err := cp.RESTConfig()
//
// Start reading at [Start].
package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/lockstep-delivery/lockstep/sandbox/apiserver/binary"
)

// Config says what to start. Only Dir is required.
type Config struct {
	// Dir holds the state: etcd's data, credentials, the kubeconfig and the log. It is made if it is missing. A
	// directory that was used before continues where it was left.
	Dir string
	// Binary is the executable; empty means what [binary.Find] finds.
	Binary string
	// Port is the API server's port on 127.0.0.1; 0 takes a free one.
	Port int
	// ServiceRange is the CIDR of Services' cluster IPs; empty means 172.20.0.0/16.
	ServiceRange string
}

// ControlPlane is a running control plane. Its methods may be called from several goroutines.
type ControlPlane struct {
	endpoint   string
	kubeconfig string
	child      *child
	stopping   atomic.Bool
}

// grace is how long a child may take to end after SIGTERM. It gives itself four seconds.
const grace = 8 * time.Second

// Start starts a control plane and returns when it serves: the API server is ready, the controllers work, and
// pods may be created in namespace default. When ctx ends before that, the child is ended and the error says so;
// afterwards ctx means nothing.
//
// Errors are [binary.ErrNotBuilt] when there is no executable, and otherwise what the child said last: that the
// port is busy, that the directory is in use.
func Start(ctx context.Context, c Config) (*ControlPlane, error) {
	if c.Dir == "" {
		return nil, errors.New("cannot start the control plane: no directory is given for its state")
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("cannot start the control plane: %w", err)
	}
	path := c.Binary
	if path == "" {
		if path, err = binary.Find(); err != nil {
			return nil, fmt.Errorf("cannot start the control plane: %w", err)
		}
	}
	child, err := spawn(path, dir, c)
	if err != nil {
		return nil, fmt.Errorf("cannot start the control plane: %w", err)
	}
	select {
	case r := <-child.ready:
		return &ControlPlane{endpoint: r.Endpoint, kubeconfig: r.Kubeconfig, child: child}, nil
	case <-child.done:
		return nil, fmt.Errorf("cannot start the control plane: %s; its log is at %s", child.lastWords(), child.log)
	case <-ctx.Done():
		err := fmt.Errorf("the control plane was not ready in time: %w; its log is at %s", context.Cause(ctx), child.log)
		return nil, errors.Join(err, child.end(grace))
	}
}

// Endpoint returns the API server's URL, https://127.0.0.1:PORT.
func (p *ControlPlane) Endpoint() string { return p.endpoint }

// Kubeconfig returns the path of a kubeconfig whose user may do everything. It is valid as long as the control
// plane runs; its token and authority stay the same when one is started again in the same directory.
func (p *ControlPlane) Kubeconfig() string { return p.kubeconfig }

// Log returns the path of the file that holds what the control plane logs.
func (p *ControlPlane) Log() string { return p.child.log }

// PID returns the process id of the child.
func (p *ControlPlane) PID() int { return p.child.pid }

// RESTConfig returns a fresh client configuration for the administrator, without a limit on the client's side:
// the server's own flow control is what a sandbox is meant to show.
func (p *ControlPlane) RESTConfig() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", p.kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("cannot read the control plane's kubeconfig: %w", err)
	}
	config.QPS = -1
	return config, nil
}

// Done is closed when the child is gone, whatever the reason.
func (p *ControlPlane) Done() <-chan struct{} { return p.child.done }

// Err returns nil while the control plane runs and after a Stop, and otherwise why it ended.
func (p *ControlPlane) Err() error {
	select {
	case <-p.child.done:
	default:
		return nil
	}
	if p.stopping.Load() {
		return nil
	}
	return fmt.Errorf("the control plane exited: %s; its log is at %s", p.child.lastWords(), p.child.log)
}

// Stop ends the control plane and returns when nothing of it is left: no process and no listener. It asks first,
// and kills after a grace of eight seconds. Stopping twice, or after the child has died, is no error.
func (p *ControlPlane) Stop() error {
	select {
	case <-p.child.done: // it died before; Err keeps saying so
	default:
		p.stopping.Store(true)
	}
	return errors.Join(p.child.end(grace), p.silent())
}

// silent checks that nobody answers at the endpoint any more.
func (p *ControlPlane) silent() error {
	u, err := url.Parse(p.endpoint)
	if err != nil {
		return fmt.Errorf("cannot check that %s is closed: %w", p.endpoint, err)
	}
	conn, err := net.DialTimeout("tcp", u.Host, time.Second)
	if err == nil {
		_ = conn.Close()
		return fmt.Errorf("the control plane is stopped, but somebody still listens on %s", u.Host)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("cannot check that %s is closed: %w", u.Host, err)
	}
	return nil
}
