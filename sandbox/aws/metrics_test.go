package aws_test

import (
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/address"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/elbv2"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
)

// counting is a node that serves nothing, but counts.
type counting struct {
	config dataplane.Config
	fixed  *atomic.Uint64
}

func (counting) Apply(dataplane.NodeConfig) error         { return nil }
func (counting) ApplyGroup(dataplane.Group)               {}
func (counting) ApplyTargets(string, dataplane.TargetSet) {}
func (counting) RemoveGroup(string)                       {}
func (counting) Close()                                   {}
func (c counting) Stats() dataplane.Stats {
	return dataplane.Stats{LoadBalancer: c.config.LoadBalancer, Zone: c.config.Zone, Fixed: c.fixed.Load()}
}

// What the nodes count is asked for by the minute, from the end of that minute on.
func TestTrafficBecomesMetrics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var fixed atomic.Uint64
		emulator, err := aws.New(aws.Config{
			VPC: address.Mapping{Octet: 77}, Seed: 1, Log: slog.New(slog.DiscardHandler),
			NewNode: func(c dataplane.Config) elbv2.Node { return counting{c, &fixed} },
		})
		if err != nil {
			t.Fatal(err)
		}
		defer emulator.Close()
		var who eventual.Reader
		subnets, err := emulator.EC2().DescribeSubnets(who, &ec2.DescribeSubnetsInput{})
		if err != nil {
			t.Fatal(err)
		}
		in := &elb.CreateLoadBalancerInput{Name: new("web"), Scheme: types.LoadBalancerSchemeEnumInternal}
		zones := map[string]bool{}
		for _, s := range subnets.Subnets {
			if !zones[*s.AvailabilityZone] {
				zones[*s.AvailabilityZone] = true
				in.Subnets = append(in.Subnets, *s.SubnetId)
			}
		}
		made, err := emulator.ELBv2().CreateLoadBalancer(who, in)
		if err != nil {
			t.Fatal(err)
		}
		minute := time.Now().Truncate(time.Minute).Add(time.Minute)
		time.Sleep(time.Until(minute.Add(time.Second))) // not at the moment of a report
		fixed.Store(5)                                  // on each of three nodes
		arn := *made.LoadBalancers[0].LoadBalancerArn
		ask := func() []cwtypes.Datapoint {
			out, err := emulator.CloudWatch().GetMetricStatistics(who, &cloudwatch.GetMetricStatisticsInput{
				Namespace: new("AWS/ApplicationELB"), MetricName: new("HTTP_Fixed_Response_Count"), StartTime: &minute, EndTime: new(minute.Add(time.Minute)),
				Period: new(int32(60)), Statistics: []cwtypes.Statistic{cwtypes.StatisticSum},
				Dimensions: []cwtypes.Dimension{{Name: new("LoadBalancer"), Value: new(arn[len(arn)-len("app/web/0123456789abcdef"):])}},
			})
			if err != nil {
				t.Fatal(err)
			}
			return out.Datapoints
		}
		time.Sleep(50 * time.Second) // 51 s into the minute
		if early := ask(); len(early) > 0 {
			t.Errorf("told before the minute is over: %+v", early)
		}
		time.Sleep(11 * time.Second)
		if told := ask(); len(told) != 1 || *told[0].Sum != 15 {
			t.Errorf("told %+v, want one sum of 15", told)
		}
	})
}
