// Command controlplane is a whole Kubernetes control plane in one process: etcd, kube-apiserver, and those
// controllers of kube-controller-manager that a sandbox needs. It is the real code of the k8s.io/kubernetes
// module, so what the sandbox accepts, rejects, defaults and garbage-collects is what a cluster would.
//
// It has no scheduler and no kubelet (the sandbox brings its own nodes and pods), it never syncs to disk, and
// it listens on one TCP address: that of the API server. etcd is reached through a unix socket in the state
// directory, the controller manager serves nothing.
//
//	controlplane --dir /tmp/cp
//	{"ready":true,"endpoint":"https://127.0.0.1:41235","kubeconfig":"/tmp/cp/kubeconfig"}
//
// The line on standard output says that the API server answers, that the controllers run, and that pods may
// be created in namespace default. Before that, any error ends the process with a one-line message as the last
// line of standard error. Afterwards SIGTERM, SIGINT or (with --until-stdin-closes) the death of the parent end
// all three parts together.
//
// It is a Go module of its own, since kube-apiserver pins hundreds of dependencies that the controller must not
// inherit. Start reading at [run]; the flags of the parts are in apiserver.go, controllers.go and etcd.go.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/klog/v2"
	netutils "k8s.io/utils/net"

	"github.com/lockstep-delivery/lockstep/sandbox/controlplane/credentials"
)

// endsWithin bounds an orderly end, which takes about a second. Whatever is still open then is cut off: a client
// that waits for a slow webhook would otherwise keep the API server for a minute.
const endsWithin = 4 * time.Second

// settings are the flags of the command.
type settings struct {
	dir              string // absolute
	securePort       int
	serviceRange     string
	untilStdinCloses bool
}

// ready is the one line on standard output.
type ready struct {
	Ready      bool   `json:"ready"`
	Endpoint   string `json:"endpoint"`
	Kubeconfig string `json:"kubeconfig"`
}

func main() {
	s, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "controlplane:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if s.untilStdinCloses {
		ctx = untilClosed(ctx, os.Stdin)
	}
	err = run(ctx, s)
	klog.Flush()
	if err != nil {
		fmt.Fprintln(os.Stderr, "controlplane:", err)
		os.Exit(1)
	}
}

func parse(args []string) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("controlplane", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // a wrong flag is one line, written by main
	flags.StringVar(&s.dir, "dir", "", "state `directory`: credentials, kubeconfig and etcd's data are kept there and found again (required)")
	flags.IntVar(&s.securePort, "secure-port", 0, "`port` of the API server on 127.0.0.1; 0 takes a free one")
	flags.StringVar(&s.serviceRange, "service-cluster-ip-range", "172.20.0.0/16", "`CIDR` from which Services get their cluster IPs")
	flags.BoolVar(&s.untilStdinCloses, "until-stdin-closes", false, "end when standard input is closed, as it is when the parent dies")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			flags.SetOutput(os.Stdout)
			flags.Usage()
		}
		return settings{}, err
	}
	if flags.NArg() > 0 {
		return settings{}, fmt.Errorf("unexpected argument %q; all settings are flags, see --help", flags.Arg(0))
	}
	if s.dir == "" {
		return settings{}, errors.New("--dir is missing: name a directory for the control plane's state")
	}
	dir, err := filepath.Abs(s.dir)
	s.dir = dir
	return s, err
}

// run starts the three parts, each when the one below it is ready, and ends them in the opposite order when ctx
// ends or one of them does.
func run(ctx context.Context, s settings) error {
	unlock, err := enter(s.dir)
	if err != nil {
		return err
	}
	defer unlock()
	_, serviceRange, err := netutils.ParseCIDRSloppy(s.serviceRange)
	if err != nil {
		return fmt.Errorf("--service-cluster-ip-range: %w", err)
	}
	serviceIP, err := netutils.GetIndexedIP(serviceRange, 1)
	if err != nil {
		return fmt.Errorf("--service-cluster-ip-range %s is too small: %w", s.serviceRange, err)
	}
	creds, err := credentials.Ensure(filepath.Join(s.dir, "credentials"), serviceIP)
	if err != nil {
		return err
	}
	// The socket is opened before anything else is started: a busy port is the likeliest mistake.
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(s.securePort))
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("cannot listen on %s for the API server: %w; choose another --secure-port, or 0 for a free one", address, err)
	}
	defer listener.Close()
	kubeconfig, err := writeKubeconfigs(s.dir, listener.Addr(), creds)
	if err != nil {
		return err
	}
	// Both components would apply the process-wide logging settings from their own flags, so it is done once here.
	logsapi.ReapplyHandling = logsapi.ReapplyHandlingIgnoreUnchanged
	if err := logsapi.ValidateAndApply(logsapi.NewLoggingConfiguration(), nil); err != nil {
		return fmt.Errorf("cannot set up logging: %w", err)
	}
	rest.SetDefaultWarningHandler(rest.NoWarnings{})

	var parts parts
	err = parts.start(ctx, s, listener, creds, kubeconfig)
	if err == nil {
		err = announce(os.Stdout, ready{true, "https://" + listener.Addr().String(), kubeconfig.admin})
	}
	if err == nil {
		err = parts.wait(ctx)
	}
	parts.end()
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // asked to end
	}
	return err
}

// start brings the parts up from below: etcd, API server, controllers.
func (p *parts) start(ctx context.Context, s settings, listener net.Listener, creds credentials.Credentials, k kubeconfigs) error {
	etcd, err := startEtcd(ctx)
	if err != nil {
		return err
	}
	p.add("etcd", etcd)

	// Options of both components are made before the feature gates that they share are fixed.
	api, err := newAPIServer(listener, s.serviceRange, creds)
	if err != nil {
		return err
	}
	manager, err := newControllers(k.manager, creds)
	if err != nil {
		return err
	}
	if err := api.options.GenericServerRunOptions.ComponentGlobalsRegistry.Set(); err != nil {
		return fmt.Errorf("cannot fix the feature gates: %w", err)
	}
	p.run("kube-apiserver", api.run)
	client, err := clientFrom(k.admin)
	if err != nil {
		return err
	}
	if err := p.await(ctx, "the API server to be ready", apiServerReady(client)); err != nil {
		return err
	}
	p.run("kube-controller-manager", manager.run)
	return p.await(ctx, "the controllers to work", controllersWork(client))
}

// enter makes dir the working directory, which keeps the paths of etcd's sockets short (the limit is 108 bytes),
// and locks it against a second control plane.
func enter(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the state directory: %w", err)
	}
	if err := os.Chdir(dir); err != nil {
		return nil, fmt.Errorf("cannot use the state directory: %w", err)
	}
	lock, err := os.OpenFile("lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock the state directory: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("another control plane is running in %s; stop it or choose another --dir", dir)
	}
	return func() { _ = lock.Close() }, nil
}

// untilClosed returns a context that ends when in does. The parent holds the other end of the pipe, so this
// holds for every death of the parent, SIGKILL included.
func untilClosed(ctx context.Context, in io.Reader) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, in)
		cancel()
	}()
	return ctx
}

func announce(out io.Writer, r ready) error {
	if err := json.NewEncoder(out).Encode(r); err != nil {
		return fmt.Errorf("cannot tell that the control plane is ready: %w", err)
	}
	return nil
}

func clientFrom(kubeconfig string) (kubernetes.Interface, error) {
	config, err := restConfig(kubeconfig)
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("cannot make a client for the API server: %w", err)
	}
	return client, nil
}
