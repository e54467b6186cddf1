package kube

import (
	"context"
	"sync"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// adoptWithin bounds the wait of the controllers for the webhooks: where they cannot be taken over, moving traffic
// and pods safely still goes before gates for new pods.
const adoptWithin = 10 * time.Second

// ordered is a manager whose controllers decide nothing before the webhooks are taken over. The library starts
// the controllers of a leader before it says who leads, and pods that the first decisions make while the former
// controller's webhooks still point to where nobody answers would stay without their gates.
type ordered struct {
	manager.Manager
	webhooks takeover
}

// Add has controllers wait; everything else starts as ever.
func (o *ordered) Add(r manager.Runnable) error {
	if _, decides := r.(reconcile.Reconciler); decides {
		r = second{r, &o.webhooks}
	}
	return o.Manager.Add(r)
}

// takeover is what the controllers wait for, if it has been announced.
type takeover struct {
	mu   sync.Mutex
	done chan struct{}
}

// announce says that done will be called. Without it nobody waits.
func (t *takeover) announce() (done func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done = make(chan struct{})
	return sync.OnceFunc(func() { close(t.done) })
}

func (t *takeover) wait(ctx context.Context) {
	t.mu.Lock()
	done := t.done
	t.mu.Unlock()
	if done == nil {
		return
	}
	timer := time.NewTimer(adoptWithin)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-done:
	case <-timer.C:
	}
}

// second is a controller that waits for a takeover.
type second struct {
	manager.Runnable
	after *takeover
}

// Start waits, then starts the controller.
func (s second) Start(ctx context.Context) error {
	if s.after.wait(ctx); ctx.Err() != nil {
		return nil
	}
	return s.Runnable.Start(ctx)
}

// NeedLeaderElection is the controller's own.
func (s second) NeedLeaderElection() bool {
	r, says := s.Runnable.(manager.LeaderElectionRunnable)
	return !says || r.NeedLeaderElection()
}
