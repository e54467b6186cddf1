package aws_test

import (
	"testing"
	"time"

	ga "github.com/aws/aws-sdk-go-v2/service/globalaccelerator"
	"github.com/aws/aws-sdk-go-v2/service/globalaccelerator/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
)

func TestAccelerators(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	config := w.config(owner)
	config.Region = "us-west-2" // the one that answers for it
	client := ga.NewFromConfig(config)
	made := must(client.CreateAccelerator(ctx, &ga.CreateAcceleratorInput{
		Name: new("web"), IdempotencyToken: new("once"), Tags: []types.Tag{{Key: new("team"), Value: new("shop")}},
	}))(w).Accelerator
	again := must(client.CreateAccelerator(ctx, &ga.CreateAcceleratorInput{Name: new("web"), IdempotencyToken: new("once")}))(w).Accelerator
	if *again.AcceleratorArn != *made.AcceleratorArn || len(made.IpSets[0].IpAddresses) != 2 {
		t.Errorf("made %+v, then %+v", made, again)
	}
	ports := func(from, to int32) []types.PortRange { return []types.PortRange{{FromPort: &from, ToPort: &to}} }
	listener := must(client.CreateListener(ctx, &ga.CreateListenerInput{AcceleratorArn: made.AcceleratorArn, IdempotencyToken: new("l"), Protocol: types.ProtocolTcp, PortRanges: ports(80, 80)}))(w).Listener
	group := must(client.CreateEndpointGroup(ctx, &ga.CreateEndpointGroupInput{
		ListenerArn: listener.ListenerArn, IdempotencyToken: new("g"), EndpointGroupRegion: new("eu-west-1"),
		EndpointConfigurations: []types.EndpointConfiguration{{EndpointId: new("a")}},
	}))(w).EndpointGroup
	must(client.AddEndpoints(ctx, &ga.AddEndpointsInput{
		EndpointGroupArn: group.EndpointGroupArn, EndpointConfigurations: []types.EndpointConfiguration{{EndpointId: new("a"), Weight: new(int32(7))}, {EndpointId: new("b")}},
	}))(w)
	must(client.RemoveEndpoints(ctx, &ga.RemoveEndpointsInput{EndpointGroupArn: group.EndpointGroupArn, EndpointIdentifiers: []types.EndpointIdentifier{{EndpointId: new("b")}}}))(w)
	must(client.UpdateEndpointGroup(ctx, &ga.UpdateEndpointGroupInput{EndpointGroupArn: group.EndpointGroupArn, TrafficDialPercentage: new(float32(40))}))(w)
	group = must(client.DescribeEndpointGroup(ctx, &ga.DescribeEndpointGroupInput{EndpointGroupArn: group.EndpointGroupArn}))(w).EndpointGroup
	if e := group.EndpointDescriptions; len(e) != 1 || *e[0].EndpointId != "a" || *e[0].Weight != 7 || *group.TrafficDialPercentage != 40 || *group.HealthCheckPort != 80 {
		t.Errorf("group %+v with %+v", group, e)
	}
	if tags := must(client.ListTagsForResource(ctx, &ga.ListTagsForResourceInput{ResourceArn: made.AcceleratorArn}))(w).Tags; len(tags) != 1 || *tags[0].Value != "shop" {
		t.Errorf("tags %+v", tags)
	}
	must(client.CreateAccelerator(ctx, &ga.CreateAcceleratorInput{Name: new("other"), IdempotencyToken: new("twice")}))(w)
	listed := 0
	for pages := ga.NewListAcceleratorsPaginator(client, &ga.ListAcceleratorsInput{MaxResults: new(int32(1))}); pages.HasMorePages(); {
		listed += len(must(pages.NextPage(ctx))(w).Accelerators)
	}
	if listed != 2 {
		t.Errorf("listed %d accelerators", listed)
	}
	remove := func() error {
		return failed(client.DeleteAccelerator(ctx, &ga.DeleteAcceleratorInput{AcceleratorArn: made.AcceleratorArn}))
	}
	w.wantCode(remove(), "AcceleratorNotDisabledException")
	must(client.UpdateAccelerator(ctx, &ga.UpdateAcceleratorInput{AcceleratorArn: made.AcceleratorArn, Enabled: new(false)}))(w)
	codes(t, map[string]refusal{
		"with listeners": {remove(), "AssociatedListenerFoundException"},
		"with groups":    {failed(client.DeleteListener(ctx, &ga.DeleteListenerInput{ListenerArn: listener.ListenerArn})), "AssociatedEndpointGroupFoundException"},
		"no accelerator": {failed(client.DescribeAccelerator(ctx, &ga.DescribeAcceleratorInput{AcceleratorArn: new("x")})), "AcceleratorNotFoundException"},
		"no listener":    {failed(client.DescribeListener(ctx, &ga.DescribeListenerInput{ListenerArn: new("x")})), "ListenerNotFoundException"},
		"no group":       {failed(client.DeleteEndpointGroup(ctx, &ga.DeleteEndpointGroupInput{EndpointGroupArn: new("x")})), "EndpointGroupNotFoundException"},
		"two groups":     {failed(client.CreateEndpointGroup(ctx, &ga.CreateEndpointGroupInput{ListenerArn: listener.ListenerArn, IdempotencyToken: new("h"), EndpointGroupRegion: new("eu-west-1")})), "EndpointGroupAlreadyExistsException"},
		"ports":          {failed(client.UpdateListener(ctx, &ga.UpdateListenerInput{ListenerArn: listener.ListenerArn, PortRanges: ports(90, 80)})), "InvalidPortRangeException"},
		"no name":        {failed(client.CreateAccelerator(ctx, &ga.CreateAcceleratorInput{Name: new(""), IdempotencyToken: new("n")})), "InvalidArgumentException"},
	})
	must(client.DeleteEndpointGroup(ctx, &ga.DeleteEndpointGroupInput{EndpointGroupArn: group.EndpointGroupArn}))(w)
	must(client.DeleteListener(ctx, &ga.DeleteListenerInput{ListenerArn: listener.ListenerArn}))(w)
	if err := remove(); err != nil {
		t.Error(err)
	}
}

func TestAcceleratorsNeedTime(t *testing.T) {
	t.Parallel()
	slow, err := profile.Load("typical")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(c *aws.Config) { c.Profile, c.Scale = slow, 0.001 })
	client := ga.NewFromConfig(w.config(owner))
	made := must(client.CreateAccelerator(ctx, &ga.CreateAcceleratorInput{Name: new("web"), IdempotencyToken: new("once"), Enabled: new(false)}))(w).Accelerator
	if made.Status != types.AcceleratorStatusInProgress {
		t.Errorf("a new accelerator is %s", made.Status)
	}
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for late := time.After(10 * time.Second); made.Status != types.AcceleratorStatusDeployed; {
		select {
		case <-look.C:
			made = must(client.DescribeAccelerator(ctx, &ga.DescribeAcceleratorInput{AcceleratorArn: made.AcceleratorArn}))(w).Accelerator
		case <-late:
			t.Fatalf("the accelerator is still %s", made.Status)
		}
	}
}
