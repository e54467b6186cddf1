package kubelet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// A kubelet's own rhythm: it renews its lease every 10 s, which holds for 40 s.
const (
	leaseRenewal  = 10 * time.Second
	leaseDuration = 40
	leaseHome     = corev1.NamespaceNodeLease
	apiRetry      = 500 * time.Millisecond
)

// node is one node of the cluster and the instance behind it.
type node struct {
	name, zone, instance string
	addr                 netip.Addr

	// ending is held while the node is terminated; ended says that nothing of it is left in the cluster and the account.
	ending sync.Mutex
	ended  bool

	mu    sync.Mutex
	state NodeState
	// unready says that the API server holds the node for something other than ready.
	unready bool
	// endpoint is where the API server reaches the node; nil if it has none.
	endpoint *endpoint
	// images holds when the pull of each image was, or will be, done.
	images map[string]time.Time
}

// pull returns how long a pull begun now takes, and whether the image was on the node already. Pods that
// want the same image wait for the same pull.
func (n *node) pull(image string, now time.Time, takes time.Duration) (wait time.Duration, present bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	done, known := n.images[image]
	if !known {
		n.images[image] = now.Add(takes)
		return takes, false
	}
	return max(done.Sub(now), 0), !done.After(now)
}

// registerNodes makes the instances and their nodes and does not give up while the API server is busy starting.
func (k *Kubelet) registerNodes(ctx context.Context) error {
	for _, zone := range k.cfg.Zones {
		for i := range k.cfg.NodesPerZone {
			if _, err := k.addNode(ctx, fmt.Sprintf("%s-%s-%d", k.cfg.NodePrefix, zone, i+1), zone); err != nil {
				return err
			}
		}
	}
	return nil
}

// addNode makes an instance and its node.
func (k *Kubelet) addNode(ctx context.Context, name, zone string) (*node, error) {
	n := &node{name: name, zone: zone, state: NodeRunning, images: map[string]time.Time{}}
	var err error
	if n.instance, n.addr, err = k.cfg.Addresses.AddInstance(zone, name); err != nil {
		return nil, fmt.Errorf("cannot add an instance in zone %s for node %s: %w", zone, name, err)
	}
	k.mu.Lock()
	k.nodes[name] = n
	k.mu.Unlock()
	if err := k.openEndpoint(n); err != nil {
		return nil, err
	}
	return n, k.registerNode(ctx, n)
}

// openEndpoint lets the API server reach a node.
func (k *Kubelet) openEndpoint(n *node) error {
	if k.identity == nil {
		return nil
	}
	e, err := serve(k.life, k.cfg.VPC.Real(netip.AddrPortFrom(n.addr, kubeletPort)), k.identity, k.handler(n))
	if err != nil {
		return fmt.Errorf("cannot serve node %s: %w", n.name, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.endpoint = e
	return nil
}

func (n *node) closeEndpoint() {
	n.mu.Lock()
	e := n.endpoint
	n.endpoint = nil
	n.mu.Unlock()
	if e != nil {
		e.close()
	}
}

func (k *Kubelet) closeEndpoints() {
	for _, n := range k.allNodes() {
		n.closeEndpoint()
	}
}

func (k *Kubelet) registerNode(ctx context.Context, n *node) error {
	object := k.nodeObject(n)
	nodes := k.client.CoreV1().Nodes()
	err := k.retry(ctx, func() error {
		_, err := nodes.Create(ctx, object, metav1.CreateOptions{})
		if !apierrors.IsAlreadyExists(err) {
			return err
		}
		if err := nodes.Delete(ctx, n.name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		_, err = nodes.Create(ctx, object, metav1.CreateOptions{})
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot register node %s: %w", n.name, err)
	}
	// Admission taints every new node as not ready until somebody sees that it is.
	patch := []byte(`{"spec":{"taints":null}}`)
	err = k.retry(ctx, func() error {
		_, err := nodes.Patch(ctx, n.name, types.MergePatchType, patch, metav1.PatchOptions{})
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot take the first taint from node %s: %w", n.name, err)
	}
	return nil
}

// retry repeats a call until it succeeds or ctx ends, while the API server is not reachable or not yet
// complete. Other errors are final.
func (k *Kubelet) retry(ctx context.Context, call func() error) error {
	for {
		err := call()
		if err == nil || apierrors.IsInvalid(err) || apierrors.IsUnauthorized(err) || apierrors.IsBadRequest(err) {
			return err
		}
		k.cfg.Log.Debug("the API server did not take a call; trying again", "error", err)
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-time.After(apiRetry):
		}
	}
}

func (k *Kubelet) nodeObject(n *node) *corev1.Node {
	region := strings.TrimRight(n.zone, "abcdef")
	labels := map[string]string{
		corev1.LabelHostname: n.name, corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64",
		corev1.LabelTopologyZone: n.zone, corev1.LabelTopologyRegion: region, corev1.LabelInstanceTypeStable: k.cfg.InstanceType,
	}
	capacity := corev1.ResourceList{
		corev1.ResourceCPU:    resource.MustParse("1000"),
		corev1.ResourceMemory: resource.MustParse("4Ti"),
		corev1.ResourcePods:   *resource.NewQuantity(int64(k.cfg.PodsPerNode), resource.DecimalSI),
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.name, Labels: labels},
		Spec:       corev1.NodeSpec{ProviderID: "aws:///" + n.zone + "/" + n.instance},
		Status: corev1.NodeStatus{
			Capacity: capacity, Allocatable: capacity, Phase: corev1.NodeRunning,
			Conditions: nodeConditions(metav1.Now()),
			Addresses: []corev1.NodeAddress{
				{Type: corev1.NodeInternalIP, Address: n.addr.String()},
				{Type: corev1.NodeHostName, Address: n.name},
				// As seen from this machine, which is outside of the VPC.
				{Type: corev1.NodeExternalIP, Address: k.cfg.VPC.RealAddr(n.addr).String()},
			},
			DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: kubeletPort}},
			NodeInfo: corev1.NodeSystemInfo{
				OperatingSystem: "linux", Architecture: "amd64", KubeletVersion: "v1.36.3-lockstep-sandbox",
				ContainerRuntimeVersion: "sandbox://1", OSImage: "Lockstep sandbox", MachineID: n.instance, SystemUUID: n.instance, BootID: n.instance,
			},
		},
	}
}

func nodeConditions(now metav1.Time) []corev1.NodeCondition {
	condition := func(kind corev1.NodeConditionType, status corev1.ConditionStatus, reason string) corev1.NodeCondition {
		return corev1.NodeCondition{Type: kind, Status: status, Reason: reason, LastHeartbeatTime: now, LastTransitionTime: now}
	}
	return []corev1.NodeCondition{
		condition(corev1.NodeMemoryPressure, corev1.ConditionFalse, "KubeletHasSufficientMemory"),
		condition(corev1.NodeDiskPressure, corev1.ConditionFalse, "KubeletHasNoDiskPressure"),
		condition(corev1.NodePIDPressure, corev1.ConditionFalse, "KubeletHasSufficientPID"),
		condition(corev1.NodeReady, corev1.ConditionTrue, "KubeletReady"),
	}
}

// heartbeat shows that all nodes live, as long as they do.
func (k *Kubelet) heartbeat(ctx context.Context) {
	tick := time.NewTicker(leaseRenewal)
	defer tick.Stop()
	for {
		for _, n := range k.allNodes() {
			k.beat(ctx, n)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// beat renews the lease of a node, and says that it is ready where the API server holds it for lost.
func (k *Kubelet) beat(ctx context.Context, n *node) {
	if n.lost() {
		return
	}
	err := k.renewLease(ctx, n.name)
	n.mu.Lock()
	unready := n.unready
	n.mu.Unlock()
	if unready {
		err = errors.Join(err, k.sayReady(ctx, n))
	}
	if err != nil && ctx.Err() == nil {
		k.cfg.Log.Warn("cannot show that a node lives", "node", n.name, "error", err)
	}
}

func (k *Kubelet) sayReady(ctx context.Context, n *node) error {
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": nodeConditions(metav1.Now())}})
	if err != nil {
		return err
	}
	_, err = k.client.CoreV1().Nodes().Patch(ctx, n.name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}

// nodeSeen takes note of how the API server sees a node. When it sees it ready again, it may have changed the
// statuses of its pods meanwhile.
func (k *Kubelet) nodeSeen(obj *corev1.Node) {
	n := k.node(obj.Name)
	if n == nil {
		return
	}
	unready := !slices.ContainsFunc(obj.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
	n.mu.Lock()
	was := n.unready
	n.unready = unready
	n.mu.Unlock()
	if was && !unready {
		for _, p := range k.podsOn(n) {
			k.statuses.add(p.uid)
		}
	}
	k.scheduler.nodeSeen(obj)
}

func (k *Kubelet) renewLease(ctx context.Context, name string) error {
	spec := coordinationv1.LeaseSpec{
		HolderIdentity: new(name), LeaseDurationSeconds: new(int32(leaseDuration)), RenewTime: new(metav1.NowMicro()),
	}
	patch, err := json.Marshal(map[string]any{"spec": spec})
	if err != nil {
		return err
	}
	leases := k.client.CoordinationV1().Leases(leaseHome)
	_, err = leases.Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
	if apierrors.IsNotFound(err) {
		_, err = leases.Create(ctx, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}, metav1.CreateOptions{})
	}
	return err
}
