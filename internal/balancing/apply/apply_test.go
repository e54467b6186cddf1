package apply_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-delivery/lockstep/internal/balancing/apply"
	"github.com/lockstep-delivery/lockstep/internal/balancing/apply/applytest"
	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/balancing/plan"
	"github.com/lockstep-delivery/lockstep/internal/cloud"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

const stackID = "shop/web"

func tags(resourceID string) map[string]string {
	return model.TrackingTags("test", stackID, resourceID)
}

func path(p string) []model.Condition {
	return []model.Condition{{Field: "path-pattern", Values: []string{p}}}
}

func answer(code string) []model.Action {
	return []model.Action{{Type: model.ActionFixedResponse, FixedResponse: &model.FixedResponse{StatusCode: code}}}
}

// stack answers a fixed response on each path.
func stack(paths ...string) model.Stack {
	s := model.Stack{ID: stackID, LoadBalancer: &model.LoadBalancer{ResourceID: "LoadBalancer", Name: "web", Tags: tags("LoadBalancer")}}
	l := model.Listener{ResourceID: "80", Port: 80, Protocol: "HTTP", DefaultActions: answer("404")}
	for i, p := range paths {
		l.Rules = append(l.Rules, model.Rule{ResourceID: p, Priority: int32(i + 1), Conditions: path(p), Actions: answer("200")})
	}
	s.Listeners = []model.Listener{l}
	s.SecurityGroups = []model.SecurityGroup{{ResourceID: "sg", Name: "web", Tags: tags("sg"), Ingress: []model.Permission{
		{Protocol: "tcp", FromPort: 80, ToPort: 80, CIDR: "10.0.0.0/8"}, {Protocol: "tcp", FromPort: 80, ToPort: 80, CIDR: "172.16.0.0/12"},
	}}}
	s.LoadBalancer.SecurityGroups = []model.SecurityGroupRef{{ResourceID: "sg"}}
	return s
}

func round(w *applytest.World, s model.Stack) (plan.Plan, apply.Result) {
	p := plan.Make(s, w.Observed(stackID), plan.State{Now: noon, Cluster: "test", Bindings: w.Bindings()})
	return p, apply.Round{Cloud: w, Objects: w, Now: noon}.Do(context.Background(), p.Operations)
}

func paths(w *applytest.World) []string {
	var out []string
	for _, r := range w.Observed(stackID).LoadBalancers[0].Listeners[0].Rules {
		out = append(out, r.Conditions[0].Values[0])
	}
	slices.Sort(out)
	return out
}

func TestBusyEndsTheRoundAndSaysWhen(t *testing.T) {
	w := &applytest.World{Now: noon}
	w.Refuse = func(operation string) error {
		if operation == "CreateListener" {
			return &cloud.BusyError{Until: time.Now().Add(time.Hour), Operation: operation}
		}
		return nil
	}
	_, result := round(w, stack("/a"))
	if result.Err != nil || result.Again.Sub(noon) < 59*time.Minute {
		t.Errorf("again at %s, error %v", result.Again, result.Err)
	}
	if calls := w.Calls(); calls[len(calls)-1] != "CreateListener" {
		t.Errorf("the round went on: %v", calls)
	}
	w.Refuse = nil
	if _, result = round(w, stack("/a")); result.Err != nil {
		t.Fatal(result.Err)
	}
	if diff := cmp.Diff([]string{"CreateListener", "CreateRule"}, w.Calls()); diff != "" {
		t.Errorf("the next round: -want +got\n%s", diff)
	}
}

func TestAnErrorEndsTheRoundUnlessNothingReliesOnIt(t *testing.T) {
	w := &applytest.World{Now: noon}
	denied := &cloud.APIError{Operation: "CreateLoadBalancer", Kind: cloud.KindDenied, Permission: "elasticloadbalancing:CreateLoadBalancer", Resource: "web"}
	w.Refuse = func(operation string) error {
		if operation == "CreateLoadBalancer" {
			return denied
		}
		return nil
	}
	_, result := round(w, stack("/a"))
	if result.Err == nil || !result.Again.IsZero() {
		t.Fatalf("result %+v", result)
	}
	if last := result.Outcomes[len(result.Outcomes)-1]; last.Err != denied {
		t.Errorf("went on to %s", last.Operation)
	}

	w.Refuse = nil
	round(w, stack("/a"))
	s := stack("/a")
	s.LoadBalancer.Tags = map[string]string{model.TagCluster: "test", model.TagStack: stackID, model.TagResource: "LoadBalancer", "team": "shop"}
	s.LoadBalancer.Attributes = map[string]string{"idle_timeout.timeout_seconds": "30"}
	w.Refuse = func(operation string) error {
		if operation == "ModifyLoadBalancerAttributes" {
			return denied
		}
		return nil
	}
	w.Calls()
	if _, result = round(w, s); result.Err == nil {
		t.Error("no error")
	}
	if diff := cmp.Diff([]string{"ModifyLoadBalancerAttributes", "AddTags"}, w.Calls()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// matched is what each path is answered, one after the other, by the rules as they are.
func matched(w *applytest.World, paths ...string) []string {
	var out []string
	rules := w.Observed(stackID).LoadBalancers[0].Listeners[0].Rules
	slices.SortFunc(rules, func(a, b model.ObservedRule) int { return int(a.Priority - b.Priority) })
	for _, p := range paths {
		got := "404"
		for _, r := range rules {
			if pattern := r.Conditions[0].Values[0]; pattern == p || strings.HasSuffix(pattern, "*") && strings.HasPrefix(p, strings.TrimSuffix(pattern, "*")) {
				got = r.Actions[0].FixedResponse.StatusCode
				break
			}
		}
		out = append(out, got)
	}
	return out
}

// With as many rules as AWS allows, those that go become those that come: nothing is deleted first.
func TestTooManyRulesAreTurnedIntoOthers(t *testing.T) {
	w := &applytest.World{Now: noon, RuleLimit: 3}
	round(w, stack("/a", "/b", "/c"))
	w.Calls()
	if _, result := round(w, stack("/x", "/y", "/c")); result.Err != nil {
		t.Fatal(result.Err)
	}
	if diff := cmp.Diff([]string{"/c", "/x", "/y"}, paths(w)); diff != "" {
		t.Error(diff)
	}
	want := []string{"SetRulePriorities", "CreateRule", "ModifyRule", "SetRulePriorities", "CreateRule", "ModifyRule", "SetRulePriorities"}
	if diff := cmp.Diff(want, w.Calls()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if p, result := round(w, stack("/x", "/y", "/c")); len(p.Operations) > 0 || result.Err != nil {
		t.Errorf("afterwards: %s, %v", p, result.Err)
	}
	w2 := &applytest.World{Now: noon, RuleLimit: 2}
	round(w2, stack("/a"))
	if _, result := round(w2, stack("/a", "/b", "/c")); !errors.Is(result.Err, cloud.ErrLimit) {
		t.Errorf("without anything to make room with: %v", result.Err)
	}
}

// /shop/* is served by two new rules from now on. It must not become one of them before the other is there; the
// rule for /old, which nobody takes over, makes room for that one, though its turn comes later.
func TestALiveRuleGoesOnlyWhenItsHeirsAreThere(t *testing.T) {
	after := stack("/shop/cart/*", "/shop/x")
	for calls, done := 0, false; !done; calls++ { // the process may die between any two calls
		w := &applytest.World{Now: noon, RuleLimit: 2}
		round(w, stack("/shop/*", "/old"))
		left := calls
		w.Refuse = func(operation string) error {
			if left--; left < 0 {
				return &cloud.BusyError{Until: time.Now(), Operation: operation}
			}
			return nil
		}
		_, result := round(w, after)
		if result.Err != nil {
			t.Fatal(result.Err)
		}
		if got := matched(w, "/shop/cart/1", "/shop/x"); !slices.Equal(got, []string{"200", "200"}) {
			t.Errorf("after %d calls the paths are answered %v", calls, got)
		}
		if done = result.Again.IsZero(); done {
			if diff := cmp.Diff([]string{"/shop/cart/*", "/shop/x"}, paths(w)); diff != "" {
				t.Error(diff)
			}
		}
		w.Refuse = nil
		if _, result = round(w, after); result.Err != nil || !slices.Equal(paths(w), []string{"/shop/cart/*", "/shop/x"}) {
			t.Errorf("who takes over after %d calls ends with %v, %v", calls, paths(w), result.Err)
		}
	}
}

// Two heirs, and nothing else to make room with: it is said, and nothing is taken away.
func TestARuleWithTwoHeirsStaysWhenThereIsNoRoom(t *testing.T) {
	w := &applytest.World{Now: noon, RuleLimit: 2}
	round(w, stack("/shop/*", "/shop/cart/*"))
	w.Calls()
	_, result := round(w, stack("/shop/*x", "/*/cart/*"))
	if !errors.Is(result.Err, cloud.ErrLimit) || !strings.Contains(result.Err.Error(), "raise the quota of rules per load balancer") {
		t.Errorf("the error is %v", result.Err)
	}
	if diff := cmp.Diff([]string{"/shop/*", "/shop/cart/*"}, paths(w)); diff != "" {
		t.Error(diff)
	}
}

// AWS refuses a whole call for one source that is there already: then they are sent one by one.
func TestSourcesThatAreThereAlready(t *testing.T) {
	w := &applytest.World{Now: noon}
	s := stack()
	one := s
	one.SecurityGroups = []model.SecurityGroup{s.SecurityGroups[0]}
	one.SecurityGroups[0].Ingress = s.SecurityGroups[0].Ingress[:1]
	round(w, one)
	group := w.Observed(stackID).SecurityGroups[0]
	operation := plan.AuthorizeIngress{Group: plan.Ref{ResourceID: "sg", ARN: group.GroupID}, Permissions: s.SecurityGroups[0].Ingress}
	for range 2 { // the second time all of them are there
		if result := (apply.Round{Cloud: w, Objects: w, Now: noon}).Do(context.Background(), []plan.Operation{operation}); result.Err != nil {
			t.Fatal(result.Err)
		}
	}
	if got := len(w.Observed(stackID).SecurityGroups[0].Ingress); got != 2 {
		t.Errorf("%d sources", got)
	}
	revoke := plan.RevokeIngress{Group: operation.Group, Permissions: append(slices.Clone(operation.Permissions), model.Permission{Protocol: "tcp", CIDR: "1.2.3.4/32"})}
	if result := (apply.Round{Cloud: w, Objects: w, Now: noon}).Do(context.Background(), []plan.Operation{revoke}); result.Err != nil {
		t.Fatal(result.Err)
	}
	if got := w.Observed(stackID).SecurityGroups[0].Ingress; len(got) != 0 {
		t.Errorf("left: %v", got)
	}
}

// Law 1: between a plan and its call the targets that it relied on may have begun to leave.
func TestAShareDoesNotRiseOverTargetsThatHaveLeft(t *testing.T) {
	forward := func(canary, stable int32) []model.Action {
		return []model.Action{{Type: model.ActionForward, Forward: &model.Forward{TargetGroups: []model.WeightedTargetGroup{
			{ResourceID: "canary", Weight: canary}, {ResourceID: "stable", Weight: stable},
		}}}}
	}
	split := func(canary, stable int32) model.Stack {
		s := stack("/a")
		for _, id := range []string{"canary", "stable"} {
			s.TargetGroups = append(s.TargetGroups, model.TargetGroup{ResourceID: id, Name: id, Tags: tags(id)})
		}
		s.Listeners[0].Rules[0].Actions, s.Listeners[0].DefaultActions = forward(canary, stable), forward(canary, stable)
		return s
	}
	w := &applytest.World{Now: noon}
	for range 2 {
		round(w, split(0, 100))
	}
	w.SetTargets("canary", 1, 0)
	w.SetTargets("stable", 1, 0)
	p := plan.Make(split(10, 90), w.Observed(stackID), plan.State{Now: noon, Cluster: "test", Bindings: w.Bindings()})
	w.SetTargets("canary", 0, 1)
	w.Calls()
	result := apply.Round{Cloud: w, Objects: w, Now: noon}.Do(t.Context(), p.Operations)
	if calls := w.Calls(); len(p.Operations) == 0 || len(calls) > 0 {
		t.Errorf("of %v these are called: %v", p.Operations, calls)
	}
	if result.Err != nil || !result.Again.Equal(noon) {
		t.Errorf("it ends with %v and comes again at %s, want a new plan at once", result.Err, result.Again)
	}
	for _, op := range p.Operations { // each of them by itself
		if result := (apply.Round{Cloud: w, Objects: w, Now: noon}).Do(t.Context(), []plan.Operation{op}); result.Again.IsZero() {
			t.Errorf("%s is sent", op)
		}
	}
	p, _ = round(w, split(10, 90))
	if len(p.Operations) > 0 || len(p.Waits) == 0 {
		t.Errorf("the new plan does not wait: %v", p)
	}
	w.SetTargets("canary", 1, 0)
	if p, result := round(w, split(10, 90)); len(p.Operations) != 2 || result.Err != nil || !result.Again.IsZero() {
		t.Errorf("with healthy targets again it does not rise: %v, %+v", p, result)
	}
}

func TestDeletingWhatIsGoneSucceeds(t *testing.T) {
	w := &applytest.World{Now: noon}
	gone := plan.Ref{ResourceID: "x", ARN: "arn:gone"}
	result := apply.Round{Cloud: w, Objects: w, Now: noon}.Do(context.Background(), []plan.Operation{
		plan.DeleteRule{Rule: gone}, plan.DeleteListener{Listener: gone}, plan.DeleteLoadBalancer{LoadBalancer: gone},
		plan.DeleteTargetGroup{Group: gone}, plan.DeleteSecurityGroup{Group: gone}, plan.DeleteBinding{Namespace: "shop", Name: "gone"},
	})
	if result.Err != nil || len(result.Outcomes) != 6 {
		t.Errorf("%+v", result)
	}
}

func TestASecurityGroupInUseIsTriedAgain(t *testing.T) {
	w := &applytest.World{Now: noon}
	round(w, stack())
	group := plan.Ref{ARN: w.Observed(stackID).SecurityGroups[0].GroupID}
	do := func(op plan.Operation) apply.Result {
		return apply.Round{Cloud: w, Objects: w, Now: noon}.Do(context.Background(), []plan.Operation{op})
	}
	if result := do(plan.DeleteSecurityGroup{Group: group}); result.Err != nil || result.Again.IsZero() {
		t.Errorf("own: %+v", result)
	}
	if result := do(plan.DeleteSecurityGroup{Group: group, Shared: true}); result.Err != nil || result.Again.IsZero() {
		t.Errorf("shared, used by others: %+v", result)
	}
}

// Law 5: what the default action says goes before certificates, and whether those are refused or not.
func TestWeightsOfAListenerDoNotWaitForItsCertificates(t *testing.T) {
	secure := func(code string, certificates ...string) model.Stack {
		s := stack("/a")
		l := &s.Listeners[0]
		l.ResourceID, l.Port, l.Protocol, l.SSLPolicy, l.Certificates, l.DefaultActions = "443", 443, "HTTPS", "policy", certificates, answer(code)
		l.Rules[0].Actions = answer(code)
		return s
	}
	w := &applytest.World{Now: noon}
	round(w, secure("200", "old"))
	w.RefuseCertificate = "broken"
	s := secure("503", "new", "broken")
	s.LoadBalancer.Attributes = map[string]string{"idle_timeout.timeout_seconds": "30"}
	_, result := round(w, s)
	if result.Err == nil || !strings.Contains(result.Err.Error(), "broken") {
		t.Errorf("the refused certificate is not told: %v", result.Err)
	}
	have := w.Observed(stackID).LoadBalancers[0]
	listener := have.Listeners[0]
	if diff := cmp.Diff(answer("503"), listener.DefaultActions); diff != "" {
		t.Errorf("the default action: -want +got\n%s", diff)
	}
	if diff := cmp.Diff(answer("503"), listener.Rules[0].Actions); diff != "" {
		t.Errorf("the rule: -want +got\n%s", diff)
	}
	if have.Attributes["idle_timeout.timeout_seconds"] != "30" {
		t.Error("the rest of the round waits for the certificate")
	}
	w.RefuseCertificate = ""
	if _, result := round(w, s); result.Err != nil || !slices.Equal(w.Observed(stackID).LoadBalancers[0].Listeners[0].Certificates, []string{"new", "broken"}) {
		t.Errorf("the certificates do not follow: %v, %v", w.Observed(stackID).LoadBalancers[0].Listeners[0].Certificates, result.Err)
	}
}
