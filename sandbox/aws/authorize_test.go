package aws_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/globalaccelerator"
	gatypes "github.com/aws/aws-sdk-go-v2/service/globalaccelerator/types"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	route53types "github.com/aws/aws-sdk-go-v2/service/route53/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/policy"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/sts"
)

const writerPolicy = `{"Version": "2012-10-17", "Statement": [
	{"Effect": "Allow", "Action": ["ec2:RunInstances", "ec2:AllocateAddress", "ec2:CreateNetworkInterface", "ec2:ReleaseAddress"], "Resource": "*"},
	{"Effect": "Allow", "Action": "ec2:CreateTags", "Resource": ["arn:aws:ec2:*:*:network-interface/*", "arn:aws:ec2:*:*:elastic-ip/*"],
	 "Condition": {"StringEquals": {"ec2:CreateAction": ["CreateNetworkInterface", "AllocateAddress"]}}},
	{"Effect": "Deny", "Action": "ec2:ReleaseAddress", "Resource": "arn:aws:ec2:*:*:elastic-ip/*"},
	{"Effect": "Allow", "Action": "route53:GetChange", "Resource": "arn:aws:route53:::change/*"},
	{"Effect": "Allow", "Action": ["route53:CreateHostedZone"], "Resource": "*"},
	{"Effect": "Allow", "Action": "route53:ChangeResourceRecordSets", "Resource": "arn:aws:route53:::hostedzone/*"},
	{"Effect": "Allow", "Action": "globalaccelerator:CreateAccelerator", "Resource": "*"},
	{"Effect": "Allow", "Action": ["globalaccelerator:CreateListener", "globalaccelerator:DeleteListener"],
	 "Resource": ["arn:aws:globalaccelerator::*:accelerator/*", "arn:aws:globalaccelerator::*:accelerator/*/listener/*"],
	 "Condition": {"StringEquals": {"aws:ResourceTag/cluster": "mine"}}}
]}`

// Policies name resources as AWS does: changes of Route 53, what is tagged while it is made, and what belongs to an accelerator.
func TestPoliciesSeeTheResourcesOfAWS(t *testing.T) {
	t.Parallel()
	writer, err := policy.Parse([]byte(writerPolicy))
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(c *aws.Config) {
		c.Users = []sts.User{{Name: "writer", AccessKeyID: "AKIAWRITER0000000000", SecretAccessKey: "secret", Policy: writer}}
	})
	config := w.config(credentials.NewStaticCredentialsProvider("AKIAWRITER0000000000", "secret", ""))
	net, names, accelerators := ec2.NewFromConfig(config), route53.NewFromConfig(config), globalaccelerator.NewFromConfig(config)
	tags := func(kind ec2types.ResourceType) []ec2types.TagSpecification {
		return []ec2types.TagSpecification{{ResourceType: kind, Tags: []ec2types.Tag{{Key: new("a"), Value: new("b")}}}}
	}

	must(net.CreateNetworkInterface(ctx, &ec2.CreateNetworkInterfaceInput{SubnetId: new(w.subnets()[0]), TagSpecifications: tags(ec2types.ResourceTypeNetworkInterface)}))(w)
	address := must(net.AllocateAddress(ctx, &ec2.AllocateAddressInput{TagSpecifications: tags(ec2types.ResourceTypeElasticIp)}))(w).AllocationId
	must(net.RunInstances(ctx, &ec2.RunInstancesInput{ImageId: new("ami-0123456789abcdef0"), MinCount: new(int32(1)), MaxCount: new(int32(1)), SubnetId: new(w.subnets()[0])}))(w)

	zone := must(names.CreateHostedZone(ctx, &route53.CreateHostedZoneInput{Name: new("shop.test"), CallerReference: new("1")}))(w).HostedZone.Id
	change := must(names.ChangeResourceRecordSets(ctx, &route53.ChangeResourceRecordSetsInput{HostedZoneId: zone, ChangeBatch: &route53types.ChangeBatch{Changes: []route53types.Change{{
		Action: route53types.ChangeActionCreate, ResourceRecordSet: &route53types.ResourceRecordSet{
			Name: new("a.shop.test"), Type: route53types.RRTypeA, TTL: new(int64(5)), ResourceRecords: []route53types.ResourceRecord{{Value: new("192.0.2.1")}},
		},
	}}}}))(w).ChangeInfo.Id
	must(names.GetChange(ctx, &route53.GetChangeInput{Id: change}))(w)

	accelerator := func(cluster string) *string {
		return must(accelerators.CreateAccelerator(ctx, &globalaccelerator.CreateAcceleratorInput{
			Name: &cluster, IdempotencyToken: &cluster, Tags: []gatypes.Tag{{Key: new("cluster"), Value: &cluster}},
		}))(w).Accelerator.AcceleratorArn
	}
	listener := func(of *string) (*globalaccelerator.CreateListenerOutput, error) {
		return accelerators.CreateListener(ctx, &globalaccelerator.CreateListenerInput{
			AcceleratorArn: of, IdempotencyToken: of, Protocol: gatypes.ProtocolTcp, PortRanges: []gatypes.PortRange{{FromPort: new(int32(80)), ToPort: new(int32(80))}},
		})
	}
	mine := must(listener(accelerator("mine")))(w).Listener.ListenerArn
	must(accelerators.DeleteListener(ctx, &globalaccelerator.DeleteListenerInput{ListenerArn: mine}))(w)

	codes(t, map[string]refusal{
		"an instance with tags": {failed(net.RunInstances(ctx, &ec2.RunInstancesInput{
			ImageId: new("ami-0123456789abcdef0"), MinCount: new(int32(1)), MaxCount: new(int32(1)), SubnetId: new(w.subnets()[0]), TagSpecifications: tags(ec2types.ResourceTypeInstance),
		})), "UnauthorizedOperation"},
		"an address that is denied":           {failed(net.ReleaseAddress(ctx, &ec2.ReleaseAddressInput{AllocationId: address})), "UnauthorizedOperation"},
		"a listener of a foreign accelerator": {failed(listener(accelerator("other"))), "AccessDeniedException"},
	})
}
