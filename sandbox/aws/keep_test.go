package aws_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-delivery/lockstep/sandbox/address"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/snapshot"
)

// everything is what the API tells of an account, without the times at which things were made.
func (w *world) everything() (all []string) {
	w.Helper()
	note := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	for _, lb := range must(w.elb.DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{}))(w).LoadBalancers {
		note("%s %s %s %v", *lb.LoadBalancerArn, *lb.DNSName, lb.State.Code, lb.SecurityGroups)
		for _, l := range must(w.elb.DescribeListeners(ctx, &elb.DescribeListenersInput{LoadBalancerArn: lb.LoadBalancerArn}))(w).Listeners {
			note("%s %d", *l.ListenerArn, *l.Port)
			for _, r := range must(w.elb.DescribeRules(ctx, &elb.DescribeRulesInput{ListenerArn: l.ListenerArn}))(w).Rules {
				note("%s %s %s", *r.RuleArn, *r.Priority, r.Actions[0].Type)
			}
		}
	}
	for _, g := range must(w.elb.DescribeTargetGroups(ctx, &elb.DescribeTargetGroupsInput{}))(w).TargetGroups {
		note("%s %v", *g.TargetGroupArn, g.LoadBalancerArns)
		for id := range w.health(*g.TargetGroupArn) {
			note("target %s", id)
		}
		for _, tag := range must(w.elb.DescribeTags(ctx, &elb.DescribeTagsInput{ResourceArns: []string{*g.TargetGroupArn}}))(w).TagDescriptions[0].Tags {
			note("tag %s=%s", *tag.Key, *tag.Value)
		}
	}
	for _, g := range must(w.ec2.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{}))(w).SecurityGroups {
		note("%s %s %d", *g.GroupId, *g.GroupName, len(g.IpPermissions))
	}
	for _, i := range must(w.ec2.DescribeNetworkInterfaces(ctx, &ec2.DescribeNetworkInterfacesInput{}))(w).NetworkInterfaces {
		note("%s %s", *i.NetworkInterfaceId, *i.PrivateIpAddress)
	}
	for _, h := range w.emulator.Hosts() {
		note("%+v", h)
	}
	slices.Sort(all)
	return all
}

// kept is a world whose account is kept in a folder.
func kept(t *testing.T, dir string, change ...func(*aws.Config)) *world {
	t.Helper()
	typical, err := profile.Load("typical")
	if err != nil {
		t.Fatal(err)
	}
	return newWorld(t, append([]func(*aws.Config){func(c *aws.Config) {
		c.DataDir, c.Profile, c.Scale = dir, typical, 0.001
	}}, change...)...)
}

func TestAnAccountOutlivesItsProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := kept(t, dir)
	lb := *w.loadBalancer("web").LoadBalancerArn
	w.eventually("the load balancer is active", func() bool { return w.emulator.LoadBalancers()[0].Active })
	host, err := w.emulator.AddHost(aws.Host{Name: "shop", Zone: "eu-west-1b", Ports: map[uint16]netip.AddrPort{8080: netip.MustParseAddrPort("127.0.0.1:3000")}})
	if err != nil {
		t.Fatal(err)
	}
	blue, green := w.targetGroup("blue"), w.targetGroup("green")
	w.register(blue, host.Address.String())
	must(w.elb.AddTags(ctx, &elb.AddTagsInput{ResourceArns: []string{blue}, Tags: []types.Tag{{Key: new("team"), Value: new("shop")}}}))(w)
	rule := w.rule(w.listener(lb, 80, fixed("404")), 7, forward(blue))
	must(w.elb.ModifyRule(ctx, &elb.ModifyRuleInput{RuleArn: &rule, Actions: forward(green)}))(w)
	w.letIn(lb)
	// The second load balancer and its interfaces are gone when its security group is deleted.
	group := must(w.ec2.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{GroupName: new("short"), Description: new("lived"), VpcId: new(w.vpc())}))(w).GroupId
	other := must(w.elb.CreateLoadBalancer(ctx, &elb.CreateLoadBalancerInput{Name: new("other"), Subnets: w.subnets(), SecurityGroups: []string{*group}}))(w).LoadBalancers[0]
	must(w.elb.DeleteLoadBalancer(ctx, &elb.DeleteLoadBalancerInput{LoadBalancerArn: other.LoadBalancerArn}))(w)
	w.eventually("the group can be deleted", func() bool {
		_, err := w.ec2.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: group})
		return err == nil
	})
	want := w.everything()
	if err := w.emulator.Close(); err != nil {
		t.Fatal(err)
	}

	again := kept(t, dir)
	again.eventually("the account is what it was", func() bool { return cmp.Equal(again.everything(), want) })
	// What comes now has other ids than what was there.
	if _, err := again.elb.CreateTargetGroup(ctx, &elb.CreateTargetGroupInput{Name: new("blue")}); err == nil {
		t.Error("the name is free")
	}
	must(again.elb.DeleteTargetGroup(ctx, &elb.DeleteTargetGroupInput{TargetGroupArn: &blue}))(again)
	fresh := again.targetGroup("blue")
	if fresh == blue {
		t.Error("a new target group has the ARN of an old one")
	}
	if err := again.emulator.Close(); err != nil {
		t.Fatal(err)
	}
	third := kept(t, dir)
	third.eventually("the new group is there", func() bool { return strings.Contains(strings.Join(third.everything(), "\n"), fresh) })
}

func TestAnAccountOfAnotherSeedOrVersionIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := kept(t, dir).emulator.Close(); err != nil {
		t.Fatal(err)
	}
	config := aws.Config{VPC: address.Mapping{Octet: 77}, WithoutTraffic: true, Seed: 2, DataDir: dir}
	if _, err := aws.New(config); err == nil || !strings.Contains(err.Error(), "its seed is 1, not 2") {
		t.Errorf("another seed: %v", err)
	}
	const who = `"accountId": "123456789012", "region": "eu-west-1", "cluster": "lockstep",
		"zones": ["eu-west-1a", "eu-west-1b", "eu-west-1c"], "seed": 2, "octet": 77`
	for says, text := range map[string]string{
		"version 9, this program knows version 2: use the newer lockstep": `{"version": 9}`,
		"version 1, this program":                     `{"version": 1, "writes": []}`,
		"line 2, byte":                                "{\"version\": 2,\n \"services\": [}",
		"account.json: line 1":                        "{\"version\": 2, \"services\": {\"ec2\"",
		`unknown field "servicse"`:                    `{"version": 2, "servicse": {}}`,
		"move the file away":                          "",
		`services, ec2: json: unknown field "gruops"`: `{"version": 2, ` + who + `, "services": {"ec2": {"gruops": []}}}`,
		`a service "sqs", which this`:                 `{"version": 2, ` + who + `, "services": {"sqs": {}}}`,
		"of the account is missing":                   `{"version": 2, ` + who + `, "services": {"ec2": {"interfaces": [{"id": "eni-1", "subnet": "subnet-1"}]}}}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, snapshot.File), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := aws.New(config); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
}

const shopFixture = `
hosts:
- {name: shop, zone: eu-west-1a, ports: {"8080": "127.0.0.1:3000"}}
calls:
- as: blue
  service: elbv2
  operation: CreateTargetGroup
  input: {Name: blue, Protocol: HTTP, Port: 8080, VpcId: "${vpc}", TargetType: ip}
- as: web
  service: elbv2
  operation: CreateLoadBalancer
  input: {Name: web, Subnets: ["${subnet.public.a}", "${subnet.public.b}"], SecurityGroups: ["${group.nodes}"]}
- service: elbv2
  operation: CreateListener
  input:
    LoadBalancerArn: ${web.LoadBalancers[0].LoadBalancerArn}
    Protocol: HTTP
    Port: 80
    DefaultActions: [{Type: forward, TargetGroupArn: "${blue.TargetGroups[0].TargetGroupArn}"}]
- service: elbv2
  operation: RegisterTargets
  input: {TargetGroupArn: "${blue.TargetGroups[0].TargetGroupArn}", Targets: [{Id: "${host.shop}", Port: 8080}]}
`

func TestAResetLeavesTheAccountEmptyOrAsTheFixtureSays(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := kept(t, dir)
	instance, err := w.emulator.EC2().AddInstance("eu-west-1a", "node")
	if err != nil {
		t.Fatal(err)
	}
	empty := w.everything()
	lb := *w.loadBalancer("web").LoadBalancerArn
	w.letIn(lb)
	w.rule(w.listener(lb, 80, fixed("404")), 7, forward(w.targetGroup("blue")))
	must(w.ec2.CreateTags(ctx, &ec2.CreateTagsInput{Resources: []string{w.vpc()}, Tags: []ec2types.Tag{{Key: new("mine"), Value: new("yes")}}}))(w)
	w.outside("shop", "")
	reset := func(fixture string) error {
		response, err := http.Post(w.endpoint+"/_lockstep/reset", "", strings.NewReader(fixture))
		if err != nil {
			return err
		}
		defer response.Body.Close()
		text := make([]byte, 4096)
		n, _ := response.Body.Read(text)
		if response.StatusCode != http.StatusNoContent {
			return fmt.Errorf("%s", text[:n])
		}
		return nil
	}
	if err := reset(""); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(empty, w.everything()); diff != "" {
		t.Errorf("left over: %s", diff)
	}
	if tags := must(w.ec2.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{}))(w).Vpcs[0].Tags; slices.ContainsFunc(tags, func(t ec2types.Tag) bool { return *t.Key == "mine" }) {
		t.Errorf("a tag is left over: %v", tags)
	}
	if _, ok := w.emulator.EC2().InstanceByID(instance.ID); !ok {
		t.Error("the instance that a cluster runs is gone")
	}
	for says, fixture := range map[string]string{
		"cannot read the fixture":   "calls: 3",
		"unknown field":             "call: []",
		"needs a service":           "calls: [{operation: X}]",
		`no service "ec3"`:          "calls: [{service: ec3, operation: X}]",
		`unknown field "Nmae"`:      "calls: [{service: elbv2, operation: CreateTargetGroup, input: {Nmae: x}}]",
		"`as: web`":                 `calls: [{service: elbv2, operation: DeleteRule, input: {RuleArn: "${web.Rules[0].RuleArn}"}}]`,
		"no such subnet":            `calls: [{service: elbv2, operation: CreateLoadBalancer, input: {Subnets: ["${subnet.private.z}"]}}]`,
		`there is no host "nosuch"`: `calls: [{service: elbv2, operation: CreateLoadBalancer, input: {Name: "${host.nosuch}"}}]`,
	} {
		if err := reset(shopFixture + strings.TrimPrefix(fixture, "calls: ")); err == nil {
			t.Errorf("%s: a broken fixture was taken", says)
		}
		if err := reset(fixture); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
		if diff := cmp.Diff(empty, w.everything()); diff != "" {
			t.Errorf("%s: left over: %s", says, diff)
		}
	}
	if err := reset(shopFixture); err != nil {
		t.Fatal(err)
	}
	w.eventually("the load balancer is active", func() bool { return w.emulator.LoadBalancers()[0].Active })
	if err := reset(shopFixture); err != nil {
		t.Fatalf("a second time: %v", err)
	}
	w.eventually("the load balancer is active", func() bool { return w.emulator.LoadBalancers()[0].Active })
	made := w.everything()
	if text := strings.Join(made, "\n"); !strings.Contains(text, "loadbalancer/app/web") || !strings.Contains(text, "target "+w.emulator.Hosts()[0].Address.String()) {
		t.Errorf("the fixture has made\n%s", text)
	}
	if err := w.emulator.Close(); err != nil {
		t.Fatal(err)
	}
	balancer := func(all []string) string {
		i := slices.IndexFunc(all, func(one string) bool { return strings.Contains(one, ":loadbalancer/app/web") })
		return all[max(i, 0)]
	}
	if again := kept(t, dir); balancer(again.everything()) != balancer(made) {
		t.Errorf("after a restart there is\n%s\nnot\n%s", balancer(again.everything()), balancer(made))
	}
}
