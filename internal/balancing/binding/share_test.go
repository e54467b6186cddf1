package binding

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/tools/events"

	elbv2 "github.com/lockstep-delivery/lockstep/api/elbv2/v1beta1"
	"github.com/lockstep-delivery/lockstep/internal/balancing/binding/plan"
	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/cloud"
	"github.com/lockstep-delivery/lockstep/internal/evidence"
)

// oneGroup is a target group, "arn:web", of Service web, that no rule gives any weight.
type oneGroup struct {
	Settle *time.Duration
	since  time.Time
}

func (oneGroup) TargetGroup(context.Context, string) (model.ObservedTargetGroup, error) {
	return model.ObservedTargetGroup{ARN: "arn:web", TargetGroup: model.TargetGroup{Tags: map[string]string{model.TagResource: "shop/web-web:80"}}}, nil
}

func (g oneGroup) Observe(context.Context, evidence.Query, time.Time) (evidence.Snapshot, error) {
	return evidence.Snapshot{SeenAt: g.since.Add(time.Minute), LoadBalancer: evidence.LoadBalancer{ARN: "arn:lb"},
		Placements: []evidence.Placement{{ARN: "arn:rule", Weights: map[string]int32{"web": 0}}},
		Groups:     []evidence.Group{{Service: "web", ARN: "arn:web"}}}, nil
}

func (oneGroup) Subscribe(func(string, string)) func() { return func() {} }

func (g oneGroup) Since(context.Context, string, string) (TrafficRecord, bool) {
	return TrafficRecord{Since: g.since, Settle: g.Settle}, true
}

// A rollout that asks for no settle time has its pods deregistered without one, as it goes on without one.
func TestTheSettleTimeThatIsAskedForCounts(t *testing.T) {
	for _, row := range []struct{ asked, want time.Duration }{{-1, 150 * time.Second}, {20 * time.Second, 20 * time.Second}, {0, 0}} {
		group := oneGroup{since: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)}
		if row.asked >= 0 {
			group.Settle = &row.asked
		}
		b := &elbv2.TargetGroupBinding{}
		b.Labels = map[string]string{labelStackNamespace: "shop", labelStackName: "web"}
		b.Spec = elbv2.TargetGroupBindingSpec{TargetGroupARN: "arn:web", ServiceRef: elbv2.ServiceReference{Name: "web", Port: intstr.FromInt32(80)}}
		c := &Controller{Cloud: onlyGroups{oneGroup: group}, Evidence: group, Traffic: group, Settings: Settings{Settings: plan.Settings{Settle: 150 * time.Second}}}
		share, settle, err := c.share(t.Context(), &round{binding: b, key: types.NamespacedName{Namespace: "shop", Name: "web"}, memory: &memory{}}, time.Time{})
		if err != nil || !share.Known || settle != row.want || !share.Since.Equal(group.since) {
			t.Errorf("asked for %s: settle time %s, want %s; share %+v, %v", row.asked, settle, row.want, share, err)
		}
	}
}

// aShare shows a group that has a share by now, or does not show it at all.
type aShare struct {
	oneGroup
	weight int32
	err    error
}

func (a aShare) Observe(ctx context.Context, query evidence.Query, notBefore time.Time) (evidence.Snapshot, error) {
	seen, _ := a.oneGroup.Observe(ctx, query, notBefore)
	seen.Placements[0].Weights["web"] = a.weight
	return seen, a.err
}

// Law 3: between a plan and its call, somebody's weights may have been carried out by the other half of the process.
func TestLiveTargetsDoNotLeaveAGroupThatHasGotAShare(t *testing.T) {
	leave := []plan.Deregistration{
		{Target: model.Target{ID: "10.0.0.1", Port: 80}, Reason: "its pod is gone"},
		{Target: model.Target{ID: "10.0.0.2", Port: 80}, Reason: "the group has had weight 0", Unserved: true},
	}
	for _, row := range []struct {
		what string
		seen aShare
		want int
	}{
		{"no share", aShare{}, 2},
		{"a share", aShare{weight: 10}, 1},
		{"a share that cannot be seen", aShare{err: errors.New("throttled")}, 1},
	} {
		b := &elbv2.TargetGroupBinding{}
		b.Labels = map[string]string{labelStackNamespace: "shop", labelStackName: "web"}
		b.Spec = elbv2.TargetGroupBindingSpec{TargetGroupARN: "arn:web", ServiceRef: elbv2.ServiceReference{Name: "web", Port: intstr.FromInt32(80)}}
		calls := &deregistered{onlyGroups: onlyGroups{oneGroup: row.seen.oneGroup}}
		c := &Controller{Cloud: calls, Evidence: row.seen, Events: events.NewFakeRecorder(1), Logger: slog.New(slog.DiscardHandler)}
		err := c.deregister(t.Context(), &round{binding: b, key: types.NamespacedName{Namespace: "shop", Name: "web"}, memory: &memory{}}, leave)
		if len(calls.targets) != row.want || calls.targets[0] != leave[0].Target || !errors.Is(err, row.seen.err) {
			t.Errorf("%s: %v leave, want %d; %v", row.what, calls.targets, row.want, err)
		}
	}
}

// deregistered takes down which targets leave.
type deregistered struct {
	onlyGroups
	targets []model.Target
}

func (d *deregistered) DeregisterTargets(_ context.Context, _ string, targets []model.Target) error {
	d.targets = append(d.targets, targets...)
	return nil
}

// onlyGroups is a Cloud that is asked for nothing but a target group.
type onlyGroups struct {
	Cloud
	oneGroup
}

func (g onlyGroups) TargetGroup(ctx context.Context, arn string) (model.ObservedTargetGroup, error) {
	return g.oneGroup.TargetGroup(ctx, arn)
}

func (g onlyGroups) Subscribe(changed func(cloud.Change)) func() { return g.Cloud.Subscribe(changed) }
