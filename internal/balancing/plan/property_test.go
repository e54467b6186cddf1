package plan_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/lockstep-delivery/lockstep/internal/balancing/apply"
	"github.com/lockstep-delivery/lockstep/internal/balancing/apply/applytest"
	"github.com/lockstep-delivery/lockstep/internal/balancing/ingress"
	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/balancing/plan"
)

var (
	somePaths    = []string{"/a", "/a/deep", "/b", "/"}
	someServices = []string{"s0", "s1", "s2", "s3"}
)

// drawIngress draws an Ingress over a few paths and Services, with plain backends and weighted actions.
func drawIngress(t *rapid.T, label string) ingress.Objects {
	o := ingress.Objects{Services: map[string]*corev1.Service{}, Classes: []networkingv1.IngressClass{{
		ObjectMeta: metav1.ObjectMeta{Name: "alb"}, Spec: networkingv1.IngressClassSpec{Controller: ingress.ClassController},
	}}}
	for _, name := range someServices {
		o.Services[name] = &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop", UID: types.UID("uid-" + name)}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
	}
	annotations := map[string]string{
		ingress.Prefix + "target-type":      "ip",
		ingress.Prefix + "backend-protocol": rapid.SampledFrom([]string{"HTTP", "HTTP", "HTTPS"}).Draw(t, label+" protocol"),
	}
	var paths []networkingv1.HTTPIngressPath
	for _, p := range rapid.SliceOfNDistinct(rapid.SampledFrom(somePaths), 1, 4, rapid.ID).Draw(t, label+" paths") {
		backend := &networkingv1.IngressServiceBackend{Name: rapid.SampledFrom(someServices).Draw(t, label+" service"), Port: networkingv1.ServiceBackendPort{Number: 80}}
		if rapid.Bool().Draw(t, label+" weighted") {
			backend.Name, backend.Port = "action"+strings.ReplaceAll(p, "/", "-"), networkingv1.ServiceBackendPort{Name: "use-annotation"}
			var groups []string
			for _, s := range rapid.SliceOfNDistinct(rapid.SampledFrom(someServices), 1, 3, rapid.ID).Draw(t, label+" split") {
				groups = append(groups, fmt.Sprintf(`{"serviceName":%q,"servicePort":80,"weight":%d}`, s, rapid.Int32Range(0, 999).Draw(t, label+" weight")))
			}
			annotations[ingress.Prefix+"actions."+backend.Name] = fmt.Sprintf(`{"type":"forward","forwardConfig":{"targetGroups":[%s]}}`, strings.Join(groups, ","))
		}
		paths = append(paths, networkingv1.HTTPIngressPath{Path: p, PathType: new(networkingv1.PathTypePrefix), Backend: networkingv1.IngressBackend{Service: backend}})
	}
	o.Ingress = &networkingv1.Ingress{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop", Annotations: annotations, Finalizers: []string{ingress.Finalizer}},
		Spec: networkingv1.IngressSpec{IngressClassName: new("alb"), Rules: []networkingv1.IngressRule{{IngressRuleValue: networkingv1.IngressRuleValue{
			HTTP: &networkingv1.HTTPIngressRuleValue{Paths: paths},
		}}}},
	}
	return o
}

func translate(t *rapid.T, o ingress.Objects) model.Stack {
	stack, _, err := ingress.Translate(ingress.Settings{Cluster: "test"}, o, resolved())
	if err != nil {
		t.Fatal(err)
	}
	return stack
}

// step makes one plan and lets at most calls of its AWS calls through, as if the process died there.
func step(t *rapid.T, w *applytest.World, stack model.Stack, calls int) plan.Plan {
	state := plan.State{Now: w.Now, Cluster: "test", Settle: 150 * time.Second, Bindings: w.Bindings(), BackendGroupID: w.BackendGroupID(),
		FirewallSettle: 30 * time.Second, OverlapSince: map[string]time.Time{"sg-0002": w.Now.Add(-time.Minute)}}
	p := plan.Make(stack, w.Observed(stack.ID), state)
	w.Refuse = func(string) error {
		if calls--; calls < 0 {
			return busyError(w.Now)
		}
		return nil
	}
	if result := (apply.Round{Cloud: w, Objects: w, BackendGroupID: w.BackendGroupID(), Now: w.Now}).Do(context.Background(), p.Operations); result.Err != nil {
		t.Fatalf("%v in\n%s", result.Err, p)
	}
	return p
}

// settle goes on with everybody healthy until nothing is left to do and nothing to wait for.
func settle(t *rapid.T, w *applytest.World, stack model.Stack) {
	for range 60 {
		w.SetTargets("", 2, 0)
		p := step(t, w, stack, 100)
		if len(p.Operations) == 0 && len(p.Waits) == 0 {
			if len(p.Blocked) > 0 {
				t.Fatalf("blocked: %s", p)
			}
			return
		}
		w.Now = w.Now.Add(time.Minute)
	}
	t.Fatalf("does not come to rest:\n%s", step(t, w, stack, 0))
}

// served is where a request to the path goes: the resource ids of the groups with a share, or the answer.
func served(rules []model.Rule, path string, resourceID func(model.WeightedTargetGroup) string) []string {
	rules = slices.SortedFunc(slices.Values(rules), func(a, b model.Rule) int { return int(a.Priority - b.Priority) })
	for _, r := range rules {
		for _, pattern := range r.Conditions[0].Values {
			if prefix, wild := strings.CutSuffix(pattern, "*"); pattern != path && !(wild && strings.HasPrefix(path, prefix)) {
				continue
			}
			var to []string
			for _, g := range r.Actions[0].Forward.TargetGroups {
				to = append(to, resourceID(g))
			}
			return to
		}
	}
	return nil
}

// matching are the groups of all rules that match the path. While rules come and go, a request may be
// served by one that matches it less closely than the one to come or the one that went.
func matching(rules []model.Rule, path string) []string {
	var out []string
	for _, r := range rules {
		out = append(out, served([]model.Rule{r}, path, func(g model.WeightedTargetGroup) string { return g.ResourceID })...)
	}
	return out
}

func liveRules(o model.Observed) []model.Rule {
	var rules []model.Rule
	for _, lb := range o.LoadBalancers {
		for _, l := range lb.Listeners {
			for _, r := range l.Rules {
				rules = append(rules, r.Rule)
			}
		}
	}
	return rules
}

// TestGoingFromOneIngressToAnother goes from any Ingress to any other, ending each round after a few calls
// and changing health in between, and checks every state on the way:
//
//   - a path that both serve is served all the time, by groups that a rule for it names in one of the two
//   - no share of a rule rises to a group without healthy targets while another of its groups has some
//   - in the end nothing is left to do, and nothing of the old
func TestGoingFromOneIngressToAnother(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &applytest.World{Now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
		from, to := translate(t, drawIngress(t, "from")), translate(t, drawIngress(t, "to"))
		if rapid.Bool().Draw(t, "crowded") { // no room for a rule beside those of the larger of the two
			w.RuleLimit = max(len(from.Listeners[0].Rules), len(to.Listeners[0].Rules))
		}
		settle(t, w, from)
		for range rapid.IntRange(1, 25).Draw(t, "rounds") {
			before := w.Observed(to.ID)
			p := step(t, w, to, rapid.IntRange(0, 2).Draw(t, "calls"))
			after := w.Observed(to.ID)
			checkRoutes(t, from, to, after, p)
			checkShares(t, before, after, p)
			for _, s := range someServices {
				if rapid.IntRange(0, 3).Draw(t, "changes") == 0 {
					w.SetTargets("-"+s+":80", rapid.IntRange(0, 2).Draw(t, "healthy"), 1)
				}
			}
			w.Now = w.Now.Add(time.Duration(rapid.IntRange(0, 200).Draw(t, "seconds")) * time.Second)
		}
		settle(t, w, to)
		if got := len(w.Observed(to.ID).TargetGroups); got != len(to.TargetGroups) {
			t.Fatalf("%d target groups are left, %d are wanted", got, len(to.TargetGroups))
		}
		if got := len(w.Bindings()); got != len(to.Bindings) {
			t.Fatalf("%d bindings are left, %d are wanted", got, len(to.Bindings))
		}
		w.Calls()
		step(t, w, to, 100)
		if calls := w.Calls(); len(calls) > 0 {
			t.Fatalf("planning again calls %v", calls)
		}
	})
}

func checkRoutes(t *rapid.T, from, to model.Stack, now model.Observed, p plan.Plan) {
	names := map[string]string{}
	for _, g := range now.TargetGroups {
		names[g.ARN] = g.ResourceID
	}
	wanted := func(g model.WeightedTargetGroup) string { return g.ResourceID }
	for _, path := range somePaths {
		old, next := served(from.Listeners[0].Rules, path, wanted), served(to.Listeners[0].Rules, path, wanted)
		if old == nil || next == nil {
			continue
		}
		old, next = matching(from.Listeners[0].Rules, path), matching(to.Listeners[0].Rules, path)
		live := served(liveRules(now), path, func(g model.WeightedTargetGroup) string { return names[g.ARN] })
		if live == nil {
			t.Fatalf("%s is served before and after, but not now; after\n%s", path, p)
		}
		for _, id := range live {
			if !slices.Contains(old, id) && !slices.Contains(next, id) {
				t.Fatalf("%s goes to %s, which neither %v nor %v name; after\n%s", path, id, old, next, p)
			}
		}
	}
}

func checkShares(t *rapid.T, before, after model.Observed, p plan.Plan) {
	healthy := map[string]int{}
	for _, g := range after.TargetGroups {
		healthy[g.ARN] = plan.HealthOf(g.Targets, g.TargetsSeenAt).Healthy
	}
	shares := func(r model.Rule) map[string]float64 {
		out, total := map[string]float64{}, 0.0
		groups := r.Actions[0].Forward.TargetGroups
		for _, g := range groups {
			weight := float64(g.Weight)
			if len(groups) == 1 {
				weight = 1
			}
			out[g.ARN] += weight
			total += weight
		}
		for arn := range out {
			out[arn] /= max(total, 1e-9)
		}
		return out
	}
	for _, was := range liveRules(before) {
		for _, is := range liveRules(after) {
			if was.Conditions[0].Values[0] != is.Conditions[0].Values[0] {
				continue
			}
			old := shares(was)
			somebody := false
			for arn := range old {
				somebody = somebody || healthy[arn] > 0
			}
			for arn, share := range shares(is) {
				if _, had := old[arn]; share > old[arn]+0.006 && healthy[arn] == 0 && somebody { // 0.006: rounding to whole weights
					t.Fatalf("the share of %s (in the rule before: %t) rises from %.3f to %.3f without a healthy target; after\n%s", arn, had, old[arn], share, p)
				}
			}
		}
	}
}

// TestPlanIsTheSameEachTime: two maps with the same content give the same plan text.
func TestPlanIsTheSameEachTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := drawIngress(t, "one")
		first := plan.Make(translate(t, o), model.Observed{Complete: true}, plan.State{Cluster: "test"}).String()
		for range 5 {
			if again := plan.Make(translate(t, o), model.Observed{Complete: true}, plan.State{Cluster: "test"}).String(); again != first {
				t.Fatalf("once\n%s\nthen\n%s", first, again)
			}
		}
	})
}
