package cloud_test

import (
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/cloud"
	"github.com/lockstep-delivery/lockstep/internal/cloud/budget"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/fault"
)

// The budget is a little below AWS's own: whoever spends what it gives is not throttled.
func TestTheBudgetKeepsBelowAWS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := virtualAccount(t, func(config *aws.Config) { config.Unthrottled = false })
		c := a.connect(t, cloud.Settings{CallMargin: 0.9})
		group := must(c.CreateTargetGroup(t.Context(), model.TargetGroup{Name: "spend", TargetType: model.TargetIP, Port: 80, Protocol: "HTTP"}))(t)
		spent, busy := 0, 0
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
			err := c.AddTags(t.Context(), group.ARN, map[string]string{"n": strconv.Itoa(spent)})
			again, isBusy := cloud.RetryAfter(err)
			switch {
			case err == nil:
				spent++
			case errors.Is(err, cloud.ErrBusy) && isBusy:
				busy++
				time.Sleep(again)
			default:
				t.Fatal(err)
			}
		}
		if spent < 15+60 || busy == 0 {
			t.Errorf("%d calls were made and %d refused, want the burst and a minute's, and refusals", spent, busy)
		}
		for operation, count := range a.Journal().Counts() {
			if len(count.Errors) > 0 {
				t.Errorf("%s was refused: %v", operation, count.Errors)
			}
		}
	})
}

func TestErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	c := a.connect(t, cloud.Settings{ReadAttempts: 1})
	w := create(t, c)
	ctx := t.Context()
	for _, row := range []struct {
		fault fault.Fault
		is    error
		says  string
	}{
		{fault.Fault{Kind: fault.Deny}, cloud.ErrDenied, "denied elasticloadbalancing:ModifyRule on " + w.rule + ": grant it in the controller's IAM policy"},
		{fault.Fault{Kind: fault.Error}, cloud.ErrUnavailable, "InternalFailure"},
		{fault.Fault{Kind: fault.Error, Status: 400, Code: "TooManyTargetGroups"}, cloud.ErrLimit, "the limit TooManyTargetGroups"},
		{fault.Fault{Kind: fault.Error, Status: 400, Code: "RuleNotFound"}, cloud.ErrNotFound, "RuleNotFound"},
		{fault.Fault{Kind: fault.Error, Status: 400, Code: "ValidationError"}, cloud.ErrInvalid, "ValidationError"},
		{fault.Fault{Kind: fault.Error, Status: 403, Code: "ExpiredToken"}, cloud.ErrDenied, "refuses the credentials"},
		{fault.Fault{Kind: fault.Throttle}, cloud.ErrThrottled, "throttles"}, // the last one: it empties the budget
	} {
		row.fault.Operations = []string{"elasticloadbalancing:ModifyRule"}
		before := a.calls("ModifyRule")
		id := must(a.Faults().Add(row.fault))(t)
		err := c.ModifyRule(ctx, w.rule, w.split(1, 2), nil)
		a.Faults().Remove(id)
		if !errors.Is(err, row.is) || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s %s: %v, want %v and %q", row.fault.Kind, row.fault.Code, err, row.is, row.says)
		}
		if n := a.calls("ModifyRule") - before; n != 1 {
			t.Errorf("%s %s: %d attempts of a mutation, want 1", row.fault.Kind, row.fault.Code, n)
		}
		again, ok := cloud.RetryAfter(err)
		if ok != errors.Is(err, cloud.ErrThrottled) || ok && again < time.Second {
			t.Errorf("%s %s: come again in %s, %v", row.fault.Kind, row.fault.Code, again, ok)
		}
	}
	if _, err := c.TargetGroup(ctx, w.stable+"0"); !errors.Is(err, cloud.ErrNotFound) {
		t.Errorf("an unknown target group gives %v", err)
	}
	if _, err := c.TargetGroupByName(ctx, "absent"); !errors.Is(err, cloud.ErrNotFound) {
		t.Errorf("an unknown name gives %v", err)
	}
	if _, err := c.SecurityGroup(ctx, "sg-00000000000000000"); !errors.Is(err, cloud.ErrNotFound) {
		t.Errorf("an unknown security group gives %v", err)
	}
	err := c.AuthorizeIngress(ctx, w.groupID, []model.Permission{{Protocol: "tcp", FromPort: 80, ToPort: 80, CIDR: "0.0.0.0/0"}})
	if !errors.Is(err, cloud.ErrConflict) {
		t.Errorf("a duplicate permission gives %v", err)
	}
	err = c.RevokeIngress(ctx, w.groupID, []model.Permission{{Protocol: "tcp", FromPort: 81, ToPort: 81, CIDR: "0.0.0.0/0"}})
	if !errors.Is(err, cloud.ErrNotFound) {
		t.Errorf("an absent permission gives %v", err)
	}
}

func TestCallsAreCounted(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	registry := prometheus.NewPedanticRegistry()
	c, err := cloud.New(t.Context(), cloud.Config{
		ClusterName: "test", VPCID: a.EC2().VPC(), Region: "eu-west-1", Metrics: registry, Logger: slog.New(slog.DiscardHandler),
		Endpoints:   map[string]string{budget.ELBv2: a.endpoint, budget.EC2: a.endpoint},
		Credentials: credentials.NewStaticCredentialsProvider(aws.DefaultAccessKeyID, aws.DefaultSecretAccessKey, ""),
	})
	check(t, err)
	defer c.Close()
	must(c.Stack(t.Context(), stackID))(t)
	if err := c.ModifyRule(t.Context(), ruleARN, split(1, 2), nil); !errors.Is(err, cloud.ErrNotFound) {
		t.Errorf("a rule that does not exist: %v", err)
	}
	must(a.Faults().Add(fault.Fault{Kind: fault.Error, Operations: []string{"ec2:DescribeSubnets"}}))(t)
	if _, err := c.Subnets(t.Context()); err == nil {
		t.Error("AWS's internal failure is not an error")
	}
	got := map[string]float64{}
	for _, family := range must(registry.Gather())(t) {
		for _, metric := range family.Metric {
			name := family.GetName()
			for _, label := range metric.Label {
				name += " " + label.GetValue()
			}
			got[name] = metric.GetCounter().GetValue() + float64(metric.GetHistogram().GetSampleCount())
			got["sum of "+name] = metric.GetHistogram().GetSampleSum()
		}
	}
	for name, want := range map[string]float64{
		"lockstep_aws_calls_total configuration DescribeTargetGroups ok":               1,
		"lockstep_aws_calls_total traffic ModifyRule NotFound":                         1,
		"aws_api_requests_total RuleNotFound ModifyRule Elastic Load Balancing v2 400": 1,
		"aws_api_requests_total  DescribeVpcs EC2 200":                                 1,
		"aws_api_calls_total RuleNotFound ModifyRule Elastic Load Balancing v2 400":    1,
		"aws_api_calls_total  DescribeVpcs EC2 200":                                    1,
		"aws_api_call_duration_seconds ModifyRule Elastic Load Balancing v2":           1,
		"aws_api_call_retries DescribeVpcs EC2":                                        1,
		"sum of aws_api_call_retries DescribeVpcs EC2":                                 0,
		"aws_api_requests_total InternalFailure DescribeSubnets EC2 500":               3,
		"aws_api_calls_total InternalFailure DescribeSubnets EC2 500":                  1,
		"sum of aws_api_call_retries DescribeSubnets EC2":                              2,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	if t.Failed() {
		t.Log(slices.Sorted(maps.Keys(got)))
	}
}
