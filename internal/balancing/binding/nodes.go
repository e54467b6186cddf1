package binding

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	elbv2 "github.com/lockstep-delivery/lockstep/api/elbv2/v1beta1"
	"github.com/lockstep-delivery/lockstep/internal/balancing/binding/plan"
)

// Nodes with one of these labels are never targets, nor are those with one of these taints.
var (
	excludingLabels = []string{
		"node-role.kubernetes.io/master", "node.kubernetes.io/exclude-from-external-load-balancers",
		"alpha.service-controller.kubernetes.io/exclude-balancer",
	}
	excludingTaints = []corev1.Taint{
		{Key: "ToBeDeletedByClusterAutoscaler"},
		{Key: "karpenter.sh/disrupted", Effect: corev1.TaintEffectNoSchedule},
	}
)

// ofInstances says that a binding's targets are nodes.
func ofInstances(b *elbv2.TargetGroupBinding) bool {
	return b.Spec.TargetType != nil && *b.Spec.TargetType == elbv2.TargetTypeInstance
}

// instanceOf is a node's EC2 instance id, empty when the node is no instance.
func instanceOf(node *corev1.Node) string {
	id := node.Spec.ProviderID[strings.LastIndex(node.Spec.ProviderID, "/")+1:]
	if !strings.HasPrefix(id, "i-") {
		return ""
	}
	return id
}

// usable says that a node may carry traffic from load balancers at all.
func usable(node *corev1.Node) bool {
	if slices.ContainsFunc(excludingLabels, func(key string) bool { _, has := node.Labels[key]; return has }) ||
		node.Labels["eks.amazonaws.com/compute-type"] == "fargate" {
		return false
	}
	return !slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool {
		return slices.ContainsFunc(excludingTaints, func(x corev1.Taint) bool { return x.Key == t.Key && (x.Effect == "" || x.Effect == t.Effect) })
	})
}

// nodeAsPod is a node in the words of the plan: its address is its instance id, its port the node port.
// A node that the selector has ceased to choose leaves once others stand in; one that is not usable any
// more leaves at once.
func nodeAsPod(node *corev1.Node, nodePort int32, selector labels.Selector) plan.Pod {
	p := plan.Pod{Name: node.Name, UID: string(node.UID), IP: instanceOf(node), Port: nodePort}
	p.Owned = usable(node)
	p.Selected = p.Owned && selector.Matches(labels.Set(node.Labels))
	switch ready := nodeReady(node); {
	case node.DeletionTimestamp != nil:
		p.Life = plan.Dying
	case ready == corev1.ConditionTrue:
		p.Life = plan.Ready
	case ready == corev1.ConditionUnknown:
		p.Life = plan.Lost
	}
	return p
}

func nodeReady(node *corev1.Node) corev1.ConditionStatus {
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status
		}
	}
	return ""
}

// nodeSelector is what chooses a binding's nodes.
func nodeSelector(b *elbv2.TargetGroupBinding) (labels.Selector, error) {
	if b.Spec.NodeSelector == nil {
		return labels.Everything(), nil
	}
	selector, err := metav1.LabelSelectorAsSelector(b.Spec.NodeSelector)
	if err != nil {
		return nil, &problem{"FailedReconcile", fmt.Sprintf("spec.nodeSelector cannot be read: %v", err)}
	}
	return selector, nil
}

// findNodes gathers the nodes as the pods of a snapshot, and says which targets' nodes are gone.
func (c *Controller) findNodes(ctx context.Context, r *round, o *observation) error {
	selector, err := nodeSelector(r.binding)
	if err != nil {
		return err
	}
	reader := client.Reader(c.Client)
	if o.Fresh {
		reader = c.Live
	}
	var nodes corev1.NodeList
	if err := reader.List(ctx, &nodes, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("cannot list nodes: %w", err)
	}
	known := map[string]bool{}
	for i := range nodes.Items {
		p := nodeAsPod(&nodes.Items[i], o.members.port.NodePort, selector)
		if p.IP == "" {
			continue
		}
		known[p.IP] = true
		o.Pods = append(o.Pods, p)
	}
	for i := range o.Targets {
		t := &o.Targets[i]
		t.Gone = t.RegisteredUID != "" && !known[t.ID]
	}
	return nil
}

// nodeEndpoints are the addresses of the nodes that traffic must reach.
func (c *Controller) nodeEndpoints(ctx context.Context, b *elbv2.TargetGroupBinding) ([]Endpoint, error) {
	selector, err := nodeSelector(b)
	if err != nil {
		return nil, err
	}
	var nodes corev1.NodeList
	if err := c.Client.List(ctx, &nodes, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("cannot list nodes: %w", err)
	}
	var endpoints []Endpoint
	for i := range nodes.Items {
		node := &nodes.Items[i]
		if instanceOf(node) == "" || !usable(node) || !selector.Matches(labels.Set(node.Labels)) {
			continue
		}
		at := slices.IndexFunc(node.Status.Addresses, func(a corev1.NodeAddress) bool { return a.Type == corev1.NodeInternalIP })
		if at >= 0 {
			endpoints = append(endpoints, Endpoint{IP: node.Status.Addresses[at].Address})
		}
	}
	return endpoints, nil
}

// nodeMatters lets pass what changes a node's place among targets.
var nodeMatters = predicate.Funcs{
	CreateFunc: func(e event.CreateEvent) bool { return !e.IsInInitialList },
	UpdateFunc: func(e event.UpdateEvent) bool {
		before, after := e.ObjectOld.(*corev1.Node), e.ObjectNew.(*corev1.Node)
		selector := labels.Everything()
		return nodeAsPod(before, 0, selector) != nodeAsPod(after, 0, selector) || !labels.Equals(before.Labels, after.Labels)
	},
}

// ofNode are all bindings whose targets are nodes.
func (c *Controller) ofNode(ctx context.Context, _ client.Object) []reconcile.Request {
	var list elbv2.TargetGroupBindingList
	if err := c.Client.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		c.Logger.Error("cannot list bindings", "error", err)
	}
	var requests []reconcile.Request
	for i := range list.Items {
		if b := &list.Items[i]; ofInstances(b) {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(b)})
		}
	}
	return requests
}
