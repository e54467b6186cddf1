package kubelet

import (
	"context"
	"io"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"

	"github.com/lockstep-delivery/lockstep/sandbox/kubelet/local"
)

// console is what connects a running command with those who attach to it.
type console struct {
	out, errs tap
	// in is nil if the container has no input. It ends with the first who attaches if the manifest says so.
	in     *io.PipeWriter
	once   bool
	resize chan local.Size
	ended  chan struct{}
}

// newConsole makes the console of a container, and what its command reads; nil if that is nothing.
func newConsole(spec *corev1.Container) (*console, *io.PipeReader) {
	c := &console{once: spec.StdinOnce, ended: make(chan struct{})}
	if !spec.Stdin {
		return c, nil
	}
	r, w := io.Pipe()
	c.in = w
	if spec.TTY {
		c.resize = make(chan local.Size)
	}
	return c, r
}

// attach shows what the command writes from now on, and gives it what is typed, until it ends or ctx does.
func (c *console) attach(ctx context.Context, in io.Reader, out, errs io.Writer, sizes <-chan remotecommand.TerminalSize) {
	defer c.out.add(out)()
	defer c.errs.add(errs)()
	if in != nil && c.in != nil {
		go func() { // ends with the connection or with the command
			_, _ = io.Copy(c.in, in)
			if c.once {
				_ = c.in.Close()
			}
		}()
	}
	if c.resize != nil && sizes != nil {
		go c.forward(ctx, sizes)
	}
	select {
	case <-ctx.Done():
	case <-c.ended:
	}
}

// over reports whether the command has ended.
func (c *console) over() bool {
	select {
	case <-c.ended:
		return true
	default:
		return false
	}
}

func (c *console) forward(ctx context.Context, sizes <-chan remotecommand.TerminalSize) {
	for size := range sizes {
		select {
		case c.resize <- local.Size{Rows: size.Height, Columns: size.Width}:
		case <-c.ended:
			return
		case <-ctx.Done():
			return
		}
	}
}

// tap copies what is written to whoever listens. Who cannot be written to is dropped.
type tap struct {
	mu        sync.Mutex
	listeners []io.Writer
}

// add adds a listener, or none for nil, until remove is called.
func (t *tap) add(w io.Writer) (remove func()) {
	if w == nil {
		return func() {}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.listeners = append(t.listeners, w)
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.drop(w)
	}
}

func (t *tap) drop(w io.Writer) {
	var left []io.Writer
	for _, l := range t.listeners {
		if l != w {
			left = append(left, l)
		}
	}
	t.listeners = left
}

// Write implements io.Writer. It never fails.
func (t *tap) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, w := range t.listeners {
		if _, err := w.Write(b); err != nil {
			t.drop(w)
		}
	}
	return len(b), nil
}
