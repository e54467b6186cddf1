package kubelet

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func boardOf(zones, perZone int, change func(*corev1.Node)) *board {
	b := newBoard()
	for z := range zones {
		for i := range perZone {
			n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
				Name:   fmt.Sprintf("n-%c-%d", 'a'+z, i),
				Labels: map[string]string{corev1.LabelTopologyZone: fmt.Sprintf("zone-%c", 'a'+z)},
			}}
			n.Status.Allocatable = corev1.ResourceList{corev1.ResourcePods: resource.MustParse("4")}
			if change != nil {
				change(n)
			}
			b.nodes[n.Name] = n
		}
	}
	return b
}

func podOf(uid, owner string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid), Name: uid}}
	if owner != "" {
		p.OwnerReferences = []metav1.OwnerReference{{UID: types.UID(owner), Controller: new(true)}}
	}
	return p
}

// Two ReplicaSets whose pods come in turns are each spread over all zones, although a simple round would give
// each of them every other zone only.
func TestOwnersAreSpreadEach(t *testing.T) {
	b := boardOf(2, 2, nil)
	zones := map[string]map[string]int{"old": {}, "new": {}}
	for i := range 8 {
		owner := []string{"old", "new"}[i%2]
		pod := podOf(fmt.Sprint(i), owner)
		node, why := b.choose(pod)
		if node == "" {
			t.Fatal(why)
		}
		b.take(pod, node)
		zones[owner][b.placed[pod.UID].zone]++
	}
	for owner, perZone := range zones {
		if perZone["zone-a"] != 2 || perZone["zone-b"] != 2 {
			t.Errorf("%s: %v", owner, perZone)
		}
	}
	for node, n := range b.onNode {
		if n != 2 {
			t.Errorf("node %s has %d pods, want 2", node, n)
		}
	}
}

func TestFreeMakesRoom(t *testing.T) {
	b := boardOf(1, 1, nil)
	for i := range 4 {
		b.take(podOf(fmt.Sprint(i), "web"), "n-a-0")
		b.take(podOf(fmt.Sprint(i), "web"), "n-a-0") // twice is once
	}
	if node, why := b.choose(podOf("x", "web")); node != "" || why != "0/1 nodes are available: 1 Too many pods." {
		t.Fatalf("a full node: %q, %q", node, why)
	}
	if !b.free("2") || b.free("2") {
		t.Error("a pod must be freed exactly once")
	}
	if node, why := b.choose(podOf("x", "web")); node != "n-a-0" {
		t.Errorf("after one has gone: %q, %q", node, why)
	}
	for i := range 4 {
		b.free(types.UID(fmt.Sprint(i)))
	}
	if len(b.ofOwner) != 0 || b.onNode["n-a-0"] != 0 {
		t.Errorf("counts remain: %v %v", b.ofOwner, b.onNode)
	}
}

func TestUnfitNodes(t *testing.T) {
	affinity := func(op corev1.NodeSelectorOperator, values ...string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelTopologyZone, Operator: op, Values: values}}}},
			}}}
		}
	}
	const affinityMiss = "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector."
	for _, c := range []struct {
		name string
		node func(*corev1.Node)
		pod  func(*corev1.Pod)
		want string // node, or why not
	}{
		{"any", nil, nil, "n-a-0"},
		{"selector", nil, func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{corev1.LabelTopologyZone: "zone-b"} }, "n-b-0"},
		{"selector of nothing", nil, func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "fast"} }, affinityMiss},
		{"affinity in", nil, affinity(corev1.NodeSelectorOpIn, "zone-b", "zone-c"), "n-b-0"},
		{"affinity not in", nil, affinity(corev1.NodeSelectorOpNotIn, "zone-a"), "n-b-0"},
		{"affinity does not exist", nil, affinity(corev1.NodeSelectorOpDoesNotExist), affinityMiss},
		{"cordoned", func(n *corev1.Node) { n.Spec.Unschedulable = n.Name == "n-a-0" }, nil, "n-b-0"},
		{"tainted", func(n *corev1.Node) {
			n.Spec.Taints = []corev1.Taint{{Key: "gpu", Effect: corev1.TaintEffectNoSchedule}}
		}, nil, "0/2 nodes are available: 2 node(s) had untolerated taint(s)."},
		{
			"tolerated", func(n *corev1.Node) {
				n.Spec.Taints = []corev1.Taint{{Key: "gpu", Effect: corev1.TaintEffectNoSchedule}}
			},
			func(p *corev1.Pod) {
				p.Spec.Tolerations = []corev1.Toleration{{Key: "gpu", Operator: corev1.TolerationOpExists}}
			}, "n-a-0",
		},
		{"preferably not", func(n *corev1.Node) {
			n.Spec.Taints = []corev1.Taint{{Key: "gpu", Effect: corev1.TaintEffectPreferNoSchedule}}
		}, nil, "n-a-0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			pod := podOf("x", "web")
			if c.pod != nil {
				c.pod(pod)
			}
			node, why := boardOf(2, 1, c.node).choose(pod)
			if node+why != c.want {
				t.Errorf("node %q, why not %q; want %q", node, why, c.want)
			}
		})
	}
}
