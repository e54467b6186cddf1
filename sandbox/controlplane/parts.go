package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"
)

// pollInterval is how often readiness is asked for: the price of asking is small, and each wait lengthens
// every start by half of it.
const pollInterval = 20 * time.Millisecond

// part is one of the three components, seen as something that ends.
type part struct {
	name string
	// stop asks the part to end, and may block while it does.
	stop func()
	// done is closed when it has ended; err says why, and is read only after that.
	done chan struct{}
	err  error
}

// parts are the started components, lowest first.
type parts struct {
	list []*part
	// ended receives the name of each part that ends; it has room for all.
	ended chan *part
}

// add takes over a part that has been started.
func (p *parts) add(name string, running *part) {
	if p.ended == nil {
		p.ended = make(chan *part, 3)
	}
	running.name = name
	p.list = append(p.list, running)
	go func() {
		<-running.done
		p.ended <- running
	}()
}

// run starts a part that lives as long as the call of f.
func (p *parts) run(name string, f func(context.Context) error) {
	// Not derived from the context of the process: parts end one after the other, in the order of end.
	ctx, cancel := context.WithCancel(context.Background())
	running := &part{stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(running.done)
		running.err = f(ctx)
	}()
	p.add(name, running)
}

// await returns when condition holds, when ctx ends, or with an error when a part ends first.
func (p *parts) await(ctx context.Context, what string, condition func(context.Context) error) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		err := condition(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("stopped while waiting for %s (%w); last seen: %w", what, context.Cause(ctx), err)
		case ended := <-p.ended:
			return ended.unexpected()
		case <-tick.C:
		}
	}
}

// wait returns when ctx ends or a part does, which none should.
func (p *parts) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Canceled
	case ended := <-p.ended:
		return ended.unexpected()
	}
}

func (p *part) unexpected() error {
	if p.err == nil {
		return fmt.Errorf("%s ended on its own", p.name)
	}
	return fmt.Errorf("%s: %w", p.name, p.err)
}

// end stops the parts from above, each when the one above it is gone, for at most endsWithin in all. What is
// left then dies with the process: nothing of it lives elsewhere.
func (p *parts) end() {
	deadline := time.After(endsWithin)
	for i := len(p.list) - 1; i >= 0; i-- {
		part := p.list[i]
		go part.stop()
		select {
		case <-part.done:
			klog.InfoS("ended", "part", part.name)
		case <-deadline:
			klog.InfoS("cut off", "part", part.name, "after", endsWithin)
			return
		}
	}
}

// apiServerReady holds when the API server says so of itself: storage reached, roles bootstrapped, default
// priority classes and namespaces made.
func apiServerReady(client kubernetes.Interface) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		return client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	}
}

// controllersWork holds when the service account controller has done its first duty. Without that account the
// admission of service accounts refuses every pod of the namespace.
func controllersWork(client kubernetes.Interface) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		_, err := client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return errors.New("namespace default has no service account default yet")
		}
		return err
	}
}
