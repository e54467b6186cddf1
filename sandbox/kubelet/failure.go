package kubelet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lockstep-delivery/lockstep/sandbox/kubelet/app"
)

// NodeState is how a node is.
type NodeState string

// The states of nodes.
const (
	// NodeRunning is the ordinary state.
	NodeRunning NodeState = "running"
	// NodeUnreachable: nothing comes through to the node or from it. Its processes go on, but nobody gets an answer of
	// theirs; its lease is not renewed, so that the cluster takes it for lost after 50 s.
	NodeUnreachable NodeState = "unreachable"
	// NodeTerminated: its instance is gone for good, with all that ran on it, and so is its object in the API server.
	NodeTerminated NodeState = "terminated"
)

// NodeInfo is what the kubelet knows of a node.
type NodeInfo struct {
	Name, Zone, Instance string
	Addr                 netip.Addr
	State                NodeState
}

// Nodes returns the nodes in order of their names.
func (k *Kubelet) Nodes() []NodeInfo {
	var list []NodeInfo
	for _, n := range k.allNodes() {
		list = append(list, NodeInfo{Name: n.name, Zone: n.zone, Instance: n.instance, Addr: n.addr, State: n.currently()})
	}
	return list
}

// allNodes returns the nodes in order of their names.
func (k *Kubelet) allNodes() []*node {
	k.mu.Lock()
	defer k.mu.Unlock()
	var list []*node
	for _, name := range slices.Sorted(maps.Keys(k.nodes)) {
		list = append(list, k.nodes[name])
	}
	return list
}

func (k *Kubelet) node(name string) *node {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.nodes[name]
}

func (n *node) currently() NodeState {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.state
}

// lost reports whether nothing comes from the node.
func (n *node) lost() bool { return n.currently() != NodeRunning }

func (n *node) become(s NodeState) (was NodeState) {
	n.mu.Lock()
	defer n.mu.Unlock()
	was, n.state = n.state, s
	return was
}

// errNoNode is wrapped by errors about nodes that do not exist.
var errNoNode = errors.New("there is no such node")

func (k *Kubelet) mustNode(name string) (*node, error) {
	if n := k.node(name); n != nil {
		return n, nil
	}
	var names []string
	for _, n := range k.allNodes() {
		names = append(names, n.name)
	}
	return nil, fmt.Errorf("node %s: %w; there are %v", name, errNoNode, names)
}

// FailNode takes a node away: state says in which way. A node that is terminated stays so until RestoreNode.
func (k *Kubelet) FailNode(ctx context.Context, name string, state NodeState) error {
	n, err := k.mustNode(name)
	if err != nil {
		return err
	}
	return k.fail(ctx, n, state)
}

// FailInstance is FailNode for the node that has this instance; one that has been replaced since is left alone.
func (k *Kubelet) FailInstance(ctx context.Context, instance string, state NodeState) error {
	if n := k.nodeOf(instance); n != nil {
		return k.fail(ctx, n, state)
	}
	return nil
}

// RestoreInstance brings the node that has this instance back if it was unreachable.
func (k *Kubelet) RestoreInstance(ctx context.Context, instance string) error {
	if n := k.nodeOf(instance); n != nil && n.currently() == NodeUnreachable {
		return k.reach(ctx, n)
	}
	return nil
}

func (k *Kubelet) nodeOf(instance string) *node {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, n := range k.nodes {
		if n.instance == instance {
			return n
		}
	}
	return nil
}

func (k *Kubelet) fail(ctx context.Context, n *node, state NodeState) error {
	switch state {
	case NodeUnreachable:
		if n.currently() != NodeRunning {
			return nil
		}
		n.become(NodeUnreachable)
		n.closeEndpoint()
		k.freeze(n, true)
		return nil
	case NodeTerminated:
		n.become(NodeTerminated)
		n.ending.Lock()
		defer n.ending.Unlock()
		if n.ended {
			return nil
		}
		err := k.terminate(ctx, n)
		n.ended = err == nil // or the next try goes on
		return err
	default:
		return fmt.Errorf("a node cannot fail by being %q: use %s or %s", state, NodeUnreachable, NodeTerminated)
	}
}

// FailZone takes all nodes of a zone away. All are tried; the error joins what went wrong.
func (k *Kubelet) FailZone(ctx context.Context, zone string, state NodeState) error {
	return k.eachIn(zone, func(name string) error { return k.FailNode(ctx, name, state) })
}

// RestoreZone brings all nodes of a zone back.
func (k *Kubelet) RestoreZone(ctx context.Context, zone string) error {
	return k.eachIn(zone, func(name string) error { return k.RestoreNode(ctx, name) })
}

func (k *Kubelet) eachIn(zone string, f func(name string) error) error {
	var problems []error
	found := false
	for _, n := range k.allNodes() {
		if n.zone == zone {
			found = true
			problems = append(problems, f(n.name))
		}
	}
	if !found {
		return fmt.Errorf("no node is in zone %s", zone)
	}
	return errors.Join(problems...)
}

// freeze lets the applications of a node go on, or not, with answering.
func (k *Kubelet) freeze(n *node, frozen bool) {
	for _, p := range k.podsOn(n) {
		p.mu.Lock()
		for _, r := range p.processes {
			if application, ok := r.process.(*app.Process); ok {
				application.Freeze(frozen)
			}
		}
		p.mu.Unlock()
	}
}

func (k *Kubelet) podsOn(n *node) []*pod {
	k.mu.Lock()
	defer k.mu.Unlock()
	var list []*pod
	for _, p := range k.pods {
		if p.node == n {
			list = append(list, p)
		}
	}
	return list
}

// terminate ends all that a node has, as the end of its instance does, and takes its object away, as a cloud's
// controller does when it finds no instance behind it. The pods' objects are then others' to clean up.
func (k *Kubelet) terminate(ctx context.Context, n *node) error {
	n.closeEndpoint()
	for _, p := range k.podsOn(n) {
		p.vanish()
		k.forget(p.uid)
	}
	var unended error
	if t, ok := k.cfg.Addresses.(Terminator); ok {
		unended = t.RemoveInstance(n.instance)
	}
	err := k.client.CoreV1().Nodes().Delete(ctx, n.name, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return errors.Join(unended, fmt.Errorf("cannot delete the object of node %s: %w", n.name, err))
	}
	return unended
}

// Terminator is what Addresses may implement, too: the end of an instance with its interfaces and all of their addresses. One that has ended already
// is no error.
type Terminator interface {
	RemoveInstance(id string) error
}

// vanish ends the pod without a word to the API server.
func (p *pod) vanish() {
	p.mu.Lock()
	for _, r := range p.processes {
		p.cut += r.process.Traffic().InFlight
	}
	addr := p.addr
	p.mu.Unlock()
	p.close()
	p.notify(PodStopped)
	if addr.IsValid() && addr != p.node.addr {
		if err := p.k.cfg.Addresses.ReleasePodAddress(addr); err != nil {
			p.k.cfg.Log.Warn("cannot give a pod's address back", "pod", p.name, "address", addr, "error", err)
		}
	}
	p.mu.Lock()
	p.removeFiles()
	p.mu.Unlock()
}

// RestoreNode brings a node back. One that was unreachable goes on where it was, and learns what it has missed; in the
// place of one that was terminated comes a new instance, empty.
func (k *Kubelet) RestoreNode(ctx context.Context, name string) error {
	n, err := k.mustNode(name)
	if err != nil {
		return err
	}
	switch n.currently() {
	case NodeUnreachable:
		return k.reach(ctx, n)
	case NodeTerminated:
		if err := k.clear(ctx, n.name); err != nil {
			return err
		}
		if n, err = k.addNode(ctx, n.name, n.zone); err != nil {
			return err
		}
		k.welcome(ctx, n)
	}
	return nil
}

// reach lets everything through again to a node that was unreachable, and from it.
func (k *Kubelet) reach(ctx context.Context, n *node) error {
	k.freeze(n, false)
	if err := k.openEndpoint(n); err != nil {
		return err
	}
	n.become(NodeRunning)
	k.welcome(ctx, n)
	return nil
}

// welcome brings a node that is there again up to date.
func (k *Kubelet) welcome(ctx context.Context, n *node) {
	k.beat(ctx, n)
	k.catchUp(n)
}

// clear takes away what the API server still has of pods on a node that is gone, as the garbage collector of pods does in
// time: a new instance of the same name must not run them.
func (k *Kubelet) clear(ctx context.Context, name string) error {
	for {
		left := 0
		for _, obj := range k.podStore() {
			if obj.Spec.NodeName != name {
				continue
			}
			left++
			err := k.client.CoreV1().Pods(obj.Namespace).Delete(ctx, obj.Name, metav1.DeleteOptions{
				GracePeriodSeconds: new(int64(0)), Preconditions: metav1.NewUIDPreconditions(string(obj.UID)),
			})
			if err != nil && !gone(err) {
				return fmt.Errorf("cannot delete pod %s/%s of the lost node %s: %w", obj.Namespace, obj.Name, name, err)
			}
		}
		if left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d pods of the lost node %s are still there: %w", left, name, context.Cause(ctx))
		case <-time.After(storeLag):
		}
	}
}

// storeLag is how soon a change that was written can be expected to be seen.
const storeLag = 50 * time.Millisecond

// catchUp tells a node what it has missed, and the API server what it has not heard.
func (k *Kubelet) catchUp(n *node) {
	there := map[types.UID]bool{}
	for _, obj := range k.podStore() {
		if obj.Spec.NodeName == n.name {
			there[obj.UID] = true
			k.podSeen(obj)
		}
	}
	for _, p := range k.podsOn(n) {
		if !there[p.uid] {
			p.objectGone()
			continue
		}
		k.statuses.add(p.uid)
	}
}

// podStore returns the pods that the API server has told of.
func (k *Kubelet) podStore() []*corev1.Pod {
	k.mu.Lock()
	store := k.store
	k.mu.Unlock()
	if store == nil {
		return nil
	}
	var list []*corev1.Pod
	for _, obj := range store.List() {
		if p, ok := obj.(*corev1.Pod); ok {
			list = append(list, p)
		}
	}
	return list
}

// evictionRetry is how long a drain waits after a refused eviction: what kubectl drain does.
const evictionRetry = 5 * time.Second

// DrainNode cordons a node and evicts its pods, as kubectl drain does: an eviction that a PodDisruptionBudget refuses is
// tried again until ctx ends. It returns when all are gone but those of DaemonSets.
func (k *Kubelet) DrainNode(ctx context.Context, name string) error {
	if err := k.cordon(ctx, name, true); err != nil {
		return err
	}
	for {
		pods, err := k.client.CoreV1().Pods(corev1.NamespaceAll).List(ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("spec.nodeName", name).String()})
		if err != nil {
			return fmt.Errorf("cannot list the pods of node %s: %w", name, err)
		}
		left := 0
		var refused error
		for i := range pods.Items {
			p := &pods.Items[i]
			if owner := metav1.GetControllerOf(p); owner != nil && owner.Kind == "DaemonSet" || terminal(p) {
				continue
			}
			left++
			if err := k.evict(ctx, p); err != nil {
				refused = err
			}
		}
		if left == 0 {
			return nil
		}
		wait := apiRetry
		if refused != nil {
			wait = evictionRetry
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("node %s is not drained, %d pods are left: %w", name, left, errors.Join(context.Cause(ctx), refused))
		case <-time.After(wait):
		}
	}
}

// evict asks for a pod's eviction. A pod that is on its way out already is left alone.
func (k *Kubelet) evict(ctx context.Context, p *corev1.Pod) error {
	if p.DeletionTimestamp != nil {
		return nil
	}
	err := k.client.CoreV1().Pods(p.Namespace).EvictV1(ctx, &policyv1.Eviction{
		ObjectMeta:    metav1.ObjectMeta{Name: p.Name, Namespace: p.Namespace},
		DeleteOptions: &metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(p.UID))},
	})
	if gone(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot evict pod %s/%s: %w", p.Namespace, p.Name, err)
	}
	return nil
}

// UncordonNode lets pods be placed on a node again.
func (k *Kubelet) UncordonNode(ctx context.Context, name string) error {
	return k.cordon(ctx, name, false)
}

func (k *Kubelet) cordon(ctx context.Context, name string, on bool) error {
	if _, err := k.mustNode(name); err != nil {
		return err
	}
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"unschedulable": on}})
	if err != nil {
		return err
	}
	if _, err := k.client.CoreV1().Nodes().Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("cannot cordon or uncordon node %s: %w", name, err)
	}
	return nil
}
