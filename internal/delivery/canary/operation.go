package canary

import (
	"fmt"
	"strings"
	"time"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/internal/split"
)

// Decision is what a rollout should do next.
type Decision struct {
	// Operations are safe now, and are carried out in this order; after an error the rest is dropped and
	// the status is not published.
	Operations []Operation
	// Status is published after the operations.
	Status v1alpha1.RolloutStatus
	// Events are recorded when the status has been published.
	Events []Event
	Wait   Wait
}

// Wait is what the rollout waits for.
type Wait struct {
	// Reason is one word, Message is for a person. Both empty: nothing is waited for.
	Reason  string
	Message string
	// Evidence: what is missing is an answer from AWS (not health, not a timer, not a person).
	Evidence bool
	// Open: only that answer ends the wait, not a time that is known.
	Open bool
	// Fresh, if set, asks for another look now, with everything read at or after this time.
	Fresh time.Time
	// Confirm names the acts that wait for nothing but that fresh look.
	Confirm []string
	// Again is when to look again at the latest; zero: when something changes.
	Again time.Time
}

// Event is a Kubernetes event.
type Event struct {
	Warning bool
	Reason  string
	Message string
}

// Operation is one effect on Kubernetes.
type Operation interface {
	fmt.Stringer
	// Because says why, and by what evidence.
	Because() string
}

// Reason is the why of an operation.
type Reason string

// Because returns the reason.
func (r Reason) Because() string { return string(r) }

// CreateReplicaSet creates the ReplicaSet of the present template with no pods.
type CreateReplicaSet struct {
	Name            string
	Hash            string
	Revision        int64
	DesiredReplicas int32
	Reason
}

// ScaleReplicaSet changes spec.replicas and the desired-replicas annotation; To 0 drops the deadline.
type ScaleReplicaSet struct {
	Name            string
	Hash            string
	From            int32
	To              int32
	DesiredReplicas int32
	Reason
}

// SyncReplicaSet brings revision, desired-replicas and minReadySeconds up to date.
type SyncReplicaSet struct {
	Name            string
	Revision        int64
	DesiredReplicas int32
	MinReadySeconds int32
	Reason
}

// SetDeadline writes the scale-down deadline of a ReplicaSet, or removes it when At is zero.
type SetDeadline struct {
	Name string
	At   time.Time
	Reason
}

// DeleteReplicaSet removes an old ReplicaSet without pods.
type DeleteReplicaSet struct {
	Name string
	Reason
}

// PointService changes the hash in a Service's selector.
type PointService struct {
	Service string
	From    string
	To      string
	Reason
}

// WriteSplit writes the action annotation and the bookkeeping annotation of an Ingress.
type WriteSplit struct {
	Ingress string
	Split   split.Split
	Reason
}

// MarkPods sets or removes (empty Value) the drain mark of pods.
type MarkPods struct {
	ReplicaSet string
	Pods       []PodName
	Value      string
	Reason
}

// ReleaseService takes the hash and the rollout's mark out of a Service that the spec names no more.
type ReleaseService struct {
	Service string
	Reason
}

// ReleaseIngress gives all traffic of an Ingress that the spec names no more to the stable Service, and takes
// the rollout out of its bookkeeping.
type ReleaseIngress struct {
	Ingress string
	Reason
}

// PodName names one incarnation of a pod.
type PodName struct {
	Name string
	UID  string
}

// SetRevision writes the revision annotation of the Rollout.
type SetRevision struct {
	Revision int64
	Reason
}

// SetReplicas writes spec.replicas of the Rollout, which autoscalers need.
type SetReplicas struct {
	Replicas int32
	Reason
}

func (o CreateReplicaSet) String() string {
	return fmt.Sprintf("create ReplicaSet %s with 0 pods", o.Name)
}

func (o ScaleReplicaSet) String() string {
	return fmt.Sprintf("scale ReplicaSet %s from %d to %d", o.Name, o.From, o.To)
}

func (o SyncReplicaSet) String() string {
	return fmt.Sprintf("update ReplicaSet %s: revision %d, desired %d, minReadySeconds %d", o.Name, o.Revision, o.DesiredReplicas, o.MinReadySeconds)
}

func (o SetDeadline) String() string {
	if o.At.IsZero() {
		return fmt.Sprintf("remove the scale-down deadline of ReplicaSet %s", o.Name)
	}
	return fmt.Sprintf("set the scale-down deadline of ReplicaSet %s to %s", o.Name, o.At.UTC().Format(time.RFC3339))
}

func (o DeleteReplicaSet) String() string { return fmt.Sprintf("delete ReplicaSet %s", o.Name) }

func (o PointService) String() string {
	return fmt.Sprintf("point Service %s from %q to %q", o.Service, o.From, o.To)
}

func (o WriteSplit) String() string {
	var parts []string
	for _, d := range o.Split.Destinations {
		parts = append(parts, fmt.Sprintf("%s %d", d.Service, d.Weight))
	}
	return fmt.Sprintf("write split %s to Ingress %s", strings.Join(parts, ", "), o.Ingress)
}

func (o MarkPods) String() string {
	if o.Value == "" {
		return fmt.Sprintf("keep %d pods of ReplicaSet %s after all", len(o.Pods), o.ReplicaSet)
	}
	return fmt.Sprintf("drain %d pods of ReplicaSet %s", len(o.Pods), o.ReplicaSet)
}

func (o ReleaseService) String() string { return fmt.Sprintf("release Service %s", o.Service) }

func (o ReleaseIngress) String() string { return fmt.Sprintf("release Ingress %s", o.Ingress) }

func (o SetRevision) String() string { return fmt.Sprintf("set the revision to %d", o.Revision) }

func (o SetReplicas) String() string { return fmt.Sprintf("set spec.replicas to %d", o.Replicas) }

// String is the preview of a decision: one line per operation, then what is waited for.
func (d Decision) String() string {
	var b strings.Builder
	for _, o := range d.Operations {
		fmt.Fprintf(&b, "%s (%s)\n", o, o.Because())
	}
	if d.Wait.Message != "" {
		fmt.Fprintf(&b, "wait: %s\n", d.Wait.Message)
	}
	return b.String()
}
