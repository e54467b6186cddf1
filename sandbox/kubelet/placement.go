package kubelet

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
)

// board is which pods are on which nodes. It decides where the next pod goes; it knows no API server.
type board struct {
	nodes  map[string]*corev1.Node
	placed map[types.UID]place
	// onNode counts the pods of a node; ofOwner those of one owner, per zone and per node.
	onNode  map[string]int
	ofOwner map[ownerAt]int
}

type place struct {
	node, zone string
	owner      types.UID
}

// ownerAt is an owner's pods in a zone or, with node set, on a node.
type ownerAt struct {
	owner      types.UID
	zone, node string
}

func newBoard() *board {
	return &board{nodes: map[string]*corev1.Node{}, placed: map[types.UID]place{}, onNode: map[string]int{}, ofOwner: map[ownerAt]int{}}
}

// choose returns the node for a pod: of those that it can run on, one in the zone with the fewest pods of the
// same owner, there the one with the fewest of the same owner, then with the fewest of all. If there is none,
// why says so in the words of the scheduler.
func (b *board) choose(pod *corev1.Pod) (node, why string) {
	var best *corev1.Node
	reasons := map[string]int{}
	for _, name := range slices.Sorted(maps.Keys(b.nodes)) {
		n := b.nodes[name]
		if why := b.unfit(pod, n); why != "" {
			reasons[why]++
			continue
		}
		if best == nil || b.compare(pod, n, best) < 0 {
			best = n
		}
	}
	if best != nil {
		return best.Name, ""
	}
	var counted []string
	for _, reason := range slices.Sorted(maps.Keys(reasons)) {
		counted = append(counted, fmt.Sprintf("%d %s", reasons[reason], reason))
	}
	return "", fmt.Sprintf("0/%d nodes are available: %s.", len(b.nodes), strings.Join(counted, ", "))
}

func (b *board) compare(pod *corev1.Pod, x, y *corev1.Node) int {
	owner := ownerOf(pod)
	return cmp.Or(
		cmp.Compare(b.ofOwner[ownerAt{owner: owner, zone: zoneOf(x)}], b.ofOwner[ownerAt{owner: owner, zone: zoneOf(y)}]),
		cmp.Compare(b.ofOwner[ownerAt{owner: owner, node: x.Name}], b.ofOwner[ownerAt{owner: owner, node: y.Name}]),
		cmp.Compare(b.onNode[x.Name], b.onNode[y.Name]),
	)
}

// unfit says why a pod cannot run on a node; empty if it can.
func (b *board) unfit(pod *corev1.Pod, n *corev1.Node) string {
	switch {
	case n.Spec.Unschedulable:
		return "node(s) were unschedulable"
	case !labels.SelectorFromSet(pod.Spec.NodeSelector).Matches(labels.Set(n.Labels)) || !affine(pod, n):
		return "node(s) didn't match Pod's node affinity/selector"
	case int64(b.onNode[n.Name]) >= n.Status.Allocatable.Pods().Value():
		return "Too many pods"
	}
	for _, taint := range n.Spec.Taints {
		if taint.Effect != corev1.TaintEffectPreferNoSchedule && !tolerated(pod, &taint) {
			return "node(s) had untolerated taint(s)"
		}
	}
	return ""
}

func tolerated(pod *corev1.Pod, taint *corev1.Taint) bool {
	return slices.ContainsFunc(pod.Spec.Tolerations, func(t corev1.Toleration) bool {
		return t.ToleratesTaint(klog.Background(), taint, false)
	})
}

// affine reports whether a node meets the pod's required node affinity: one of its terms.
func affine(pod *corev1.Pod, n *corev1.Node) bool {
	a := pod.Spec.Affinity
	if a == nil || a.NodeAffinity == nil || a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return true
	}
	fields := labels.Set{metav1.ObjectNameField: n.Name}
	return slices.ContainsFunc(a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms, func(t corev1.NodeSelectorTerm) bool {
		return len(t.MatchExpressions)+len(t.MatchFields) > 0 && meets(t.MatchExpressions, labels.Set(n.Labels)) && meets(t.MatchFields, fields)
	})
}

func meets(requirements []corev1.NodeSelectorRequirement, set labels.Set) bool {
	for _, r := range requirements {
		op := selection.Operator(strings.ToLower(string(r.Operator)))
		switch r.Operator {
		case corev1.NodeSelectorOpDoesNotExist:
			op = selection.DoesNotExist
		case corev1.NodeSelectorOpGt:
			op = selection.GreaterThan
		case corev1.NodeSelectorOpLt:
			op = selection.LessThan
		}
		requirement, err := labels.NewRequirement(r.Key, op, r.Values)
		if err != nil || !requirement.Matches(set) {
			return false
		}
	}
	return true
}

// take notes that a pod is on a node. Taking it twice counts once.
func (b *board) take(pod *corev1.Pod, node string) {
	if old, known := b.placed[pod.UID]; known {
		if old.node == node {
			return
		}
		b.free(pod.UID)
	}
	p := place{node: node, owner: ownerOf(pod)}
	if n := b.nodes[node]; n != nil {
		p.zone = zoneOf(n)
	}
	b.placed[pod.UID] = p
	b.count(p, 1)
}

// free notes that a pod is gone; it reports whether it was there.
func (b *board) free(uid types.UID) bool {
	p, known := b.placed[uid]
	if known {
		delete(b.placed, uid)
		b.count(p, -1)
	}
	return known
}

func (b *board) count(p place, by int) {
	b.onNode[p.node] += by
	for _, at := range []ownerAt{{owner: p.owner, zone: p.zone}, {owner: p.owner, node: p.node}} {
		if b.ofOwner[at] += by; b.ofOwner[at] == 0 {
			delete(b.ofOwner, at)
		}
	}
}

func ownerOf(pod *corev1.Pod) types.UID {
	if ref := metav1.GetControllerOf(pod); ref != nil {
		return ref.UID
	}
	return ""
}

func zoneOf(n *corev1.Node) string { return n.Labels[corev1.LabelTopologyZone] }
