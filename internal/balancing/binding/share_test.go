package binding

import (
	"context"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

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

// onlyGroups is a Cloud that is asked for nothing but a target group.
type onlyGroups struct {
	Cloud
	oneGroup
}

func (g onlyGroups) TargetGroup(ctx context.Context, arn string) (model.ObservedTargetGroup, error) {
	return g.oneGroup.TargetGroup(ctx, arn)
}

func (g onlyGroups) Subscribe(changed func(cloud.Change)) func() { return g.Cloud.Subscribe(changed) }
