package cloud_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/cloud"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/fault"
)

// What is only found in lists is told too: otherwise what somebody changed by hand would stay until the next
// change of the Ingress.
func TestDriftInListsIsTold(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	other := a.connect(t, cloud.Settings{})
	w := create(t, other)
	c := a.connect(t, cloud.Settings{AuditInterval: 20 * time.Millisecond})
	stopped := make(chan struct{})
	go func() { defer close(stopped); _ = c.Start(t.Context()) }()
	t.Cleanup(func() { <-stopped })
	must(c.Stack(t.Context(), stackID))(t)
	var told atomic.Int64
	defer c.Subscribe(func(change cloud.Change) {
		if change.StackID == stackID && change.Kind == cloud.ChangeConfiguration {
			told.Add(1)
		}
	})()
	// quiet waits until two audits in a row had nothing to tell.
	quiet := func() {
		before, audits := told.Load(), a.calls("DescribeSecurityGroups")
		eventually(t, "audits find nothing new", func() bool {
			if now := told.Load(); now != before {
				before, audits = now, a.calls("DescribeSecurityGroups")
			}
			return a.calls("DescribeSecurityGroups") >= audits+3
		})
	}
	for _, change := range []struct {
		name string
		make func() error
	}{
		{"a source in a security group", func() error {
			return other.AuthorizeIngress(t.Context(), w.groupID, []model.Permission{{Protocol: "tcp", FromPort: 22, ToPort: 22, CIDR: "0.0.0.0/0"}})
		}},
		{"a health check", func() error { return other.ModifyTargetGroup(t.Context(), w.canary, model.HealthCheck{Path: "/other"}) }},
		{"a tag of a security group", func() error { return other.AddTags(t.Context(), w.groupID, map[string]string{"by": "hand"}) }},
	} {
		quiet()
		before := told.Load()
		check(t, change.make())
		eventually(t, change.name+" is told", func() bool { return told.Load() > before })
	}
}

// A process that starts while AWS throttles the account waits: ending would only add calls when it is started again.
func TestAStartOutlastsThrottling(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	id := must(a.Faults().Add(fault.Fault{Kind: fault.Throttle, Operations: []string{"ec2:DescribeVpcs"}}))(t)
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		for a.calls("DescribeVpcs") < 3 && t.Context().Err() == nil {
			<-time.After(time.Millisecond)
		}
		a.Faults().Remove(id)
	}()
	c := a.connect(t, cloud.Settings{ReadAttempts: 1, ThrottleBackoff: 10 * time.Millisecond})
	<-heard
	if c.VPC().ID != a.EC2().VPC() {
		t.Errorf("the VPC is %+v", c.VPC())
	}
}

// AWS's reads may not show a security group that was just made: it is not taken for gone then.
func TestANewSecurityGroupIsNotForgotten(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	c := a.connect(t, cloud.Settings{ReadAttempts: 1})
	must(c.Stack(t.Context(), stackID))(t)
	id := must(c.CreateSecurityGroup(t.Context(), model.SecurityGroup{Name: "k8s-shop-web", Description: "web", Tags: owned("ManagedLBSecurityGroup")}))(t)
	unseen := must(a.Faults().Add(fault.Fault{Kind: fault.Error, Status: 400, Code: "InvalidGroup.NotFound", Operations: []string{"ec2:*"}}))(t)
	web := []model.Permission{{Protocol: "tcp", FromPort: 80, ToPort: 80, CIDR: "0.0.0.0/0"}}
	if err := c.AuthorizeIngress(t.Context(), id, web); !errors.Is(err, cloud.ErrNotFound) {
		t.Fatal(err)
	}
	if observed, err := c.Stack(t.Context(), stackID); err == nil || observed.Complete {
		t.Errorf("taken for gone: %+v %v", observed, err)
	}
	a.Faults().Remove(unseen)
	if observed := must(c.Stack(t.Context(), stackID))(t); len(observed.SecurityGroups) != 1 {
		t.Errorf("security groups %+v", observed.SecurityGroups)
	}
	check(t, c.AuthorizeIngress(t.Context(), id, web))
}
