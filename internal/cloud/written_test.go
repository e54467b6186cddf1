package cloud_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/cloud"
)

// What is written through must be what a reader finds who has seen nothing of the writing. Attributes are
// compared as far as they were written, since the writer does not know AWS's defaults.
func TestWhatIsWrittenThroughIsWhatAWSHas(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	writer := a.connect(t, cloud.Settings{ProvisioningInterval: 20 * time.Millisecond})
	w := create(t, writer)
	check(t, writer.ModifyRule(t.Context(), w.rule, w.split(75, 25), nil))
	check(t, writer.ModifyTargetGroup(t.Context(), w.canary, model.HealthCheck{Path: "/ready", Interval: 10 * time.Second}))
	written := must(writer.Stack(t.Context(), stackID))(t)
	if !written.Complete {
		t.Fatalf("after writing everything %s is missing", written.Missing)
	}
	eventually(t, "the load balancer is seen active", func() bool {
		written = must(writer.Stack(t.Context(), stackID))(t)
		return written.LoadBalancers[0].State == "active"
	})

	reader := a.connect(t, cloud.Settings{})
	go func() { _ = reader.Start(t.Context()) }()
	read := must(reader.Stack(t.Context(), stackID))(t)
	complete := func() bool {
		read = must(reader.Stack(t.Context(), stackID))(t)
		return read.LoadBalancers[0].Attributes != nil && read.LoadBalancers[0].Listeners[0].Rules[1].Tags != nil &&
			read.TargetGroups[0].Attributes != nil && read.TargetGroups[1].Attributes != nil && read.LoadBalancers[0].Listeners[0].Attributes != nil
	}
	eventually(t, "attributes and tags are completed", complete)
	if got := read.LoadBalancers[0].Attributes["idle_timeout.timeout_seconds"]; got != "61" {
		t.Errorf("idle time-out %q, want 61", got)
	}
	for _, group := range read.TargetGroups {
		if got := group.Attributes["deregistration_delay.timeout_seconds"]; got != "5" {
			t.Errorf("deregistration delay %q, want 5", got)
		}
	}
	ignore := []cmp.Option{
		cmpopts.IgnoreFields(model.ObservedLoadBalancer{}, "SeenAt", "Attributes"), cmpopts.IgnoreFields(model.ObservedListener{}, "SeenAt", "Attributes"),
		cmpopts.IgnoreFields(model.ObservedTargetGroup{}, "SeenAt", "Attributes", "Targets", "TargetsSeenAt", "LoadBalancerARNs"),
		cmpopts.IgnoreFields(model.ObservedSecurityGroup{}, "SeenAt"), cmpopts.EquateEmpty(),
	}
	// Attributes are promoted from embedded structs: take them off.
	for _, observed := range []*model.Observed{&written, &read} {
		observed.LoadBalancers[0].Attributes = nil
		observed.LoadBalancers[0].Listeners[0].Attributes = nil
		for i := range observed.TargetGroups {
			observed.TargetGroups[i].Attributes = nil
		}
	}
	if diff := cmp.Diff(read, written, ignore...); diff != "" {
		t.Errorf("written through (+) is not what AWS has (-):\n%s", diff)
	}
}

func TestEverythingCanBeDeletedTwice(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	c := a.connect(t, cloud.Settings{})
	w := create(t, c)
	ctx := t.Context()
	if err := c.DeleteTargetGroup(ctx, w.stable); !errors.Is(err, cloud.ErrConflict) {
		t.Errorf("deleting a used target group gives %v, want ErrConflict", err)
	}
	for range 2 {
		check(t, c.DeleteRule(ctx, w.rule))
		check(t, c.DeleteListener(ctx, w.listener))
		check(t, c.DeleteLoadBalancer(ctx, w.lb))
		check(t, c.DeleteTargetGroup(ctx, w.stable))
		check(t, c.DeleteTargetGroup(ctx, w.canary))
		check(t, c.DeleteSecurityGroup(ctx, w.groupID))
	}
	observed := must(c.Stack(ctx, stackID))(t)
	if diff := cmp.Diff(model.Observed{Complete: true}, observed); diff != "" {
		t.Errorf("after deletion:\n%s", diff)
	}
}
