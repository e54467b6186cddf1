package ingressgroup

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/balancing/plan"
)

// mirrored is a Cloud that answers with what it has read, unless something newer is asked for.
type mirrored struct {
	Cloud
	now    func() time.Time
	readAt time.Time
	reads  []string
	// taking passes the time that a read takes.
	taking func()
}

func (m *mirrored) TargetHealth(_ context.Context, arn string, notBefore time.Time) ([]model.TargetHealth, time.Time, error) {
	if m.readAt.Before(notBefore) {
		m.reads = append(m.reads, arn)
		begun := m.now()
		m.taking()
		return nil, begun, nil
	}
	return nil, m.readAt, nil
}

// Law 1 is put aside where nobody serves; that nobody does is read when it is needed, and not remembered.
func TestThatNobodyServesIsReadAfresh(t *testing.T) {
	for what, took := range map[string]time.Duration{
		"AWS answers at once":                                0,
		"AWS is slow, and the answers will never be younger": 3 * time.Second,
	} {
		now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
		aws := &mirrored{now: func() time.Time { return now }, readAt: now.Add(-10 * time.Second), taking: func() { now = now.Add(took) }}
		c := &Controller{Options: Options{Cloud: aws, HealthAge: 30 * time.Second, Now: aws.now, Logger: slog.New(slog.DiscardHandler)}, overlaps: map[types.NamespacedName]map[string]time.Time{}}
		r := shifting(now, aws.readAt)
		r.state.HealthAge = c.HealthAge
		c.decide(t.Context(), r)
		if slices.Sort(aws.reads); !slices.Equal(aws.reads, []string{"arn:canary", "arn:stable"}) {
			t.Errorf("%s: read are %v, want both groups", what, aws.reads)
		}
		if len(r.plan.Operations) != 1 || len(r.plan.Reads) > 0 {
			t.Errorf("%s: then the rule is to be modified at once:\n%s", what, r.plan)
		}
	}
}

// shifting is a round whose only rule is to go from 0/100 to 50/50, with targets as they were seen at a time: none.
func shifting(now, seenAt time.Time) *round {
	forward := func(canary, stable int32) []model.Action {
		return []model.Action{{Type: model.ActionForward, Forward: &model.Forward{TargetGroups: []model.WeightedTargetGroup{
			{ARN: "arn:canary", Weight: canary}, {ARN: "arn:stable", Weight: stable},
		}}}}
	}
	rule := model.Rule{ResourceID: "80:1", Priority: 1, Conditions: []model.Condition{{Field: "path-pattern", Values: []string{"/*"}}}}
	lb := model.LoadBalancer{ResourceID: "LoadBalancer", Name: "web"}
	listener := model.Listener{ResourceID: "80", Port: 80, Protocol: "HTTP"}
	wanted, have := listener, model.ObservedListener{Listener: listener, ARN: "arn:listener"}
	live := model.ObservedRule{Rule: rule, ARN: "arn:rule"}
	rule.Actions, live.Actions = forward(50, 50), forward(0, 100)
	wanted.Rules, have.Rules = []model.Rule{rule}, []model.ObservedRule{live}

	r := &round{stack: model.Stack{ID: "shop/web", LoadBalancer: &lb, Listeners: []model.Listener{wanted}}, state: plan.State{Now: now}}
	r.observed = model.Observed{Missing: "tags", LoadBalancers: []model.ObservedLoadBalancer{{LoadBalancer: lb, ARN: "arn:lb", Listeners: []model.ObservedListener{have}}}}
	for _, arn := range []string{"arn:canary", "arn:stable"} {
		r.observed.TargetGroups = append(r.observed.TargetGroups, model.ObservedTargetGroup{
			TargetGroup: model.TargetGroup{ResourceID: arn}, ARN: arn, TargetsSeenAt: seenAt})
	}
	return r
}
