package kube

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The leases of the two controllers that Lockstep takes the place of. Holding them keeps those from
// running beside it unnoticed.
const (
	LeaseLoadBalancer = "aws-load-balancer-controller-leader"
	LeaseRollouts     = "argo-rollouts-controller-lock"
)

// FindLeases says in which namespace each of the named leases is: where one exists, so that its present
// holder is respected, else in the controller's own namespace.
func FindLeases(ctx context.Context, reader client.Reader, namespace string, names ...string) ([]types.NamespacedName, error) {
	var leases []types.NamespacedName
	for _, name := range names {
		var list coordinationv1.LeaseList
		if err := reader.List(ctx, &list, client.MatchingFields{"metadata.name": name}); err != nil {
			return nil, fmt.Errorf("cannot look for the lease %s of another controller (needs list on leases.coordination.k8s.io): %w", name, err)
		}
		found := types.NamespacedName{Namespace: namespace, Name: name}
		var newest time.Time
		for _, lease := range list.Items {
			renewed := lease.CreationTimestamp.Time
			if lease.Spec.RenewTime != nil {
				renewed = lease.Spec.RenewTime.Time
			}
			if renewed.After(newest) {
				newest, found.Namespace = renewed, lease.Namespace
			}
		}
		leases = append(leases, found)
	}
	return leases, nil
}

// newLock makes one lock of several leases: it is held when all of them are.
func newLock(config *rest.Config, leases []types.NamespacedName) (resourcelock.Interface, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("cannot name this replica for leader election: %w", err)
	}
	// A request that hangs must not cost the leadership.
	config = rest.AddUserAgent(config, "leader-election")
	config.Timeout = renewDeadline / 2
	core, err := corev1client.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("cannot make a client for leader election: %w", err)
	}
	coordination, err := coordinationclient.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("cannot make a client for leader election: %w", err)
	}
	identity := resourcelock.ResourceLockConfig{Identity: host + "_" + string(uuid.NewUUID())}
	lock := &everyLease{}
	for _, lease := range leases {
		one, err := resourcelock.New(resourcelock.LeasesResourceLock, lease.Namespace, lease.Name, core, coordination, identity)
		if err != nil {
			return nil, fmt.Errorf("cannot use the lease %s: %w", lease, err)
		}
		lock.leases = append(lock.leases, one)
	}
	return lock, nil
}

// everyLease is one lock of several leases: it is held when all of them are, and free when none is held by
// somebody else. (The client library's MultiLock judges expiry by the first lease's duration alone, and so
// could take the second from a holder that renews it.)
type everyLease struct {
	leases []resourcelock.Interface
	// known are the leases that existed when they were last read or written. Only the elector's goroutine
	// uses it.
	known map[resourcelock.Interface]bool
}

// Get returns the record of a lease that somebody else holds, with the longest duration of all such, else
// our own; a lease that does not exist counts as free. The raw form changes when any lease changes.
func (l *everyLease) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	var foreign, own *resourcelock.LeaderElectionRecord
	var raw [][]byte
	var missing error
	l.known = make(map[resourcelock.Interface]bool, len(l.leases))
	for _, lease := range l.leases {
		record, content, err := lease.Get(ctx)
		switch {
		case apierrors.IsNotFound(err):
			missing = err
			continue
		case err != nil:
			return nil, nil, err
		}
		l.known[lease] = true
		raw = append(raw, content)
		switch {
		case record.HolderIdentity != "" && record.HolderIdentity != l.Identity():
			if foreign == nil || record.LeaseDurationSeconds > foreign.LeaseDurationSeconds {
				foreign = record
			}
		case own == nil || record.HolderIdentity == "":
			own = record
		}
	}
	all := bytes.Join(raw, []byte(","))
	switch {
	case foreign != nil:
		return foreign, all, nil
	case own == nil:
		return nil, nil, missing
	case missing != nil:
		own.HolderIdentity = ""
	}
	return own, all, nil
}

// Create creates the leases; one that exists already is an error, after which Get tells whose it is.
func (l *everyLease) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	for _, lease := range l.leases {
		if err := lease.Create(ctx, record); err != nil {
			return err
		}
		l.known[lease] = true
	}
	return nil
}

// Update writes every lease, and creates those that do not exist. It is only called after a Get that found
// no other holder; a lease that changed since is a conflict.
func (l *everyLease) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	for _, lease := range l.leases {
		err := error(nil)
		if l.known[lease] {
			err = lease.Update(ctx, record)
		}
		if !l.known[lease] || apierrors.IsNotFound(err) {
			err = lease.Create(ctx, record)
		}
		if err != nil {
			return err
		}
		l.known[lease] = true
	}
	return nil
}

func (l *everyLease) RecordEvent(message string) {
	for _, lease := range l.leases {
		lease.RecordEvent(message)
	}
}

func (l *everyLease) Identity() string { return l.leases[0].Identity() }

func (l *everyLease) Describe() string {
	var names []string
	for _, lease := range l.leases {
		names = append(names, lease.Describe())
	}
	return strings.Join(names, " and ")
}
