package kubelet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"

	"github.com/lockstep-delivery/lockstep/sandbox/kubelet/local"
	"github.com/lockstep-delivery/lockstep/sandbox/kubelet/logs"
)

// kubeletPort is where a kubelet listens for the API server.
const kubeletPort = 10250

// A kubelet's own limits for streams.
const (
	streamIdle     = 4 * time.Hour
	streamCreation = 30 * time.Second
)

// handler answers what the API server asks of a node for kubectl logs, exec, attach and port-forward.
func (k *Kubelet) handler(n *node) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", k.on(n, (*pod).serveLogs))
	for _, method := range []string{"GET ", "POST "} {
		mux.HandleFunc(method+"/exec/{namespace}/{pod}/{container}", k.on(n, (*pod).serveExec))
		mux.HandleFunc(method+"/attach/{namespace}/{pod}/{container}", k.on(n, (*pod).serveAttach))
		mux.HandleFunc(method+"/portForward/{namespace}/{pod}", k.on(n, (*pod).servePortForward))
	}
	return mux
}

// on calls f with the pod that a request names, if it is on the node.
func (k *Kubelet) on(n *node, f func(*pod, http.ResponseWriter, *http.Request)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p := k.podNamed(r.PathValue("namespace"), r.PathValue("pod"))
		if p == nil || p.node != n {
			http.Error(w, fmt.Sprintf("pod %q not found on node %s", r.PathValue("pod"), n.name), http.StatusNotFound)
			return
		}
		f(p, w, r)
	}
}

// podNamed returns the newest pod of a name; nil if there is none.
func (k *Kubelet) podNamed(namespace, name string) *pod {
	k.mu.Lock()
	defer k.mu.Unlock()
	var found *pod
	for _, p := range k.pods {
		if p.name.Name != name || p.name.Namespace != namespace {
			continue
		}
		if found == nil || !p.begun.Before(found.begun) {
			found = p
		}
	}
	return found
}

// run returns the present run of a container; ok is false if none has begun.
func (p *pod) run(container string) (r running, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r, ok = p.processes[container]
	return r, ok
}

func (p *pod) serveLogs(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("container")
	options, previous, err := logOptions(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	current, begun := p.run(name)
	log := current.log
	if previous {
		log = current.previous
	}
	switch {
	case log == nil && previous:
		http.Error(w, fmt.Sprintf("previous terminated container %q in pod %q not found", name, p.name.Name), http.StatusBadRequest)
		return
	case !begun:
		http.Error(w, fmt.Sprintf("container %q in pod %q is waiting to start: %s", name, p.name.Name, p.waitingFor(name)), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	flush := func() { _ = http.NewResponseController(w).Flush() }
	flush()
	_ = log.Copy(r.Context(), w, flush, options) // an error is a client that has gone
}

// waitingFor says why a container has not started.
func (p *pod) waitingFor(name string) string {
	status := p.report().status
	for _, list := range [][]corev1.ContainerStatus{status.InitContainerStatuses, status.ContainerStatuses} {
		for _, c := range list {
			if c.Name == name && c.State.Waiting != nil {
				return c.State.Waiting.Reason
			}
		}
	}
	return "ContainerCreating"
}

// logOptions reads what part of a log is asked for.
func logOptions(q url.Values) (o logs.Options, previous bool, err error) {
	number := func(name string) *int64 {
		text := q.Get(name)
		if text == "" {
			return nil
		}
		n, parseErr := strconv.ParseInt(text, 10, 64)
		if parseErr != nil || n < 0 {
			err = errors.Join(err, fmt.Errorf("%s=%q is not a number from 0", name, text))
		}
		return &n
	}
	flag := func(name string) bool {
		on, _ := strconv.ParseBool(q.Get(name))
		return on
	}
	o = logs.Options{Follow: flag("follow"), Timestamps: flag("timestamps"), Tail: number("tailLines"), Limit: number("limitBytes")}
	if seconds := number("sinceSeconds"); seconds != nil {
		o.Since = time.Now().Add(-time.Duration(*seconds) * time.Second)
	}
	if since := q.Get("sinceTime"); since != "" {
		t, parseErr := time.Parse(time.RFC3339, since)
		err = errors.Join(err, parseErr)
		o.Since = t
	}
	switch q.Get("stream") {
	case corev1.LogStreamStdout:
		o.Only = new(logs.Stdout)
	case corev1.LogStreamStderr:
		o.Only = new(logs.Stderr)
	}
	return o, flag("previous"), err
}

func (p *pod) serveExec(w http.ResponseWriter, r *http.Request) {
	options, err := remotecommand.NewOptions(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if _, running := p.run(r.PathValue("container")); !running {
		http.Error(w, fmt.Sprintf("container not found (%q)", r.PathValue("container")), http.StatusNotFound)
		return
	}
	remotecommand.ServeExec(w, r, executor{p}, p.name.Name, string(p.uid), r.PathValue("container"),
		r.Form["command"], options, streamIdle, streamCreation, remotecommand.SupportedStreamingProtocols)
}

func (p *pod) serveAttach(w http.ResponseWriter, r *http.Request) {
	options, err := remotecommand.NewOptions(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	current, begun := p.run(r.PathValue("container"))
	if !begun || current.console != nil && current.console.over() {
		http.Error(w, fmt.Sprintf("container %s is not running", r.PathValue("container")), http.StatusBadRequest)
		return
	}
	remotecommand.ServeAttach(w, r, executor{p}, p.name.Name, string(p.uid), r.PathValue("container"),
		options, streamIdle, streamCreation, remotecommand.SupportedStreamingProtocols)
}

func (p *pod) servePortForward(w http.ResponseWriter, r *http.Request) {
	options, err := portforward.NewV4Options(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	portforward.ServePortForward(w, r, executor{p}, p.name.Name, string(p.uid), options, streamIdle, streamCreation, portforward.SupportedProtocols)
}

// executor does in a pod what the streams of a request carry.
type executor struct{ p *pod }

// ExecInContainer implements remotecommand.Executor.
func (e executor) ExecInContainer(ctx context.Context, _, _, container string, argv []string, in io.Reader, out, errs io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize, _ time.Duration) error {
	r, ok := e.p.run(container)
	if !ok {
		return errNotRunning
	}
	s := streams{in: in, terminal: tty && in != nil && out != nil}
	if s.terminal {
		sizes := make(chan local.Size)
		s.resize = sizes
		go func() { // ends with the connection
			defer close(sizes)
			for size := range resize {
				select {
				case sizes <- local.Size{Rows: size.Height, Columns: size.Width}:
				case <-ctx.Done():
				}
			}
		}()
	}
	if out != nil {
		s.out, s.err = out, out // a terminal has one stream for both
	}
	if errs != nil {
		s.err = errs
	}
	code, err := e.p.now().exec(ctx, r, argv, s, nil)
	if err == nil && code != 0 {
		err = utilexec.CodeExitError{Err: fmt.Errorf("command terminated with exit code %d", code), Code: int(code)}
	}
	return err
}

// AttachContainer implements remotecommand.Attacher: it shows what the container writes from now on. Simulated
// applications read nothing.
func (e executor) AttachContainer(ctx context.Context, _, _, container string, in io.Reader, out, errs io.WriteCloser, _ bool, resize <-chan remotecommand.TerminalSize) error {
	r, ok := e.p.run(container)
	if !ok {
		return errNotRunning
	}
	if r.console != nil {
		r.console.attach(ctx, in, orNil(out), orNil(errs), resize)
		return nil
	}
	if out == nil {
		return nil
	}
	return r.log.Copy(ctx, out, func() {}, logs.Options{Follow: true, Tail: new(int64(0))})
}

// orNil keeps a stream that is not there from becoming an interface that is not nil.
func orNil(w io.WriteCloser) io.Writer {
	if w == nil {
		return nil
	}
	return w
}

// PortForward implements portforward.PortForwarder.
func (e executor) PortForward(ctx context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	conn, err := e.p.now().dial(ctx, "localhost", strconv.Itoa(int(port)))
	if err != nil {
		return fmt.Errorf("cannot forward to port %d of pod %s: %w", port, e.p.name, err)
	}
	defer conn.Close()
	back := make(chan struct{})
	go func() {
		defer close(back)
		_, _ = io.Copy(stream, conn)
		_ = stream.Close()
	}()
	_, _ = io.Copy(conn, stream)
	if half, ok := conn.(*net.TCPConn); ok {
		_ = half.CloseWrite()
	}
	<-back
	return nil
}
