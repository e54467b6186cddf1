package aws_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/lockstep-delivery/lockstep/sandbox/aws"
)

// What load balancer controllers are given: they make what carries the tag of their cluster, and change that alone.
const controllerPolicy = `{"Version": "2012-10-17", "Statement": [
	{"Effect": "Allow", "Action": ["elasticloadbalancing:Describe*", "ec2:Describe*"], "Resource": "*"},
	{"Effect": "Allow", "Action": ["elasticloadbalancing:CreateLoadBalancer", "elasticloadbalancing:CreateTargetGroup"], "Resource": "*",
	 "Condition": {"Null": {"aws:RequestTag/cluster": "false"}}},
	{"Effect": "Allow", "Action": "elasticloadbalancing:AddTags", "Resource": ["arn:aws:elasticloadbalancing:*:*:targetgroup/*/*"],
	 "Condition": {"StringEquals": {"elasticloadbalancing:CreateAction": ["CreateTargetGroup", "CreateLoadBalancer"]}}},
	{"Effect": "Allow", "Action": ["elasticloadbalancing:DeleteTargetGroup", "elasticloadbalancing:RegisterTargets"], "Resource": "*",
	 "Condition": {"Null": {"aws:ResourceTag/cluster": "false"}}},
	{"Effect": "Allow", "Action": "ec2:CreateSecurityGroup", "Resource": "*"},
	{"Effect": "Allow", "Action": "ec2:CreateTags", "Resource": "arn:aws:ec2:*:*:security-group/*",
	 "Condition": {"StringEquals": {"ec2:CreateAction": "CreateSecurityGroup"}, "Null": {"aws:RequestTag/cluster": "false"}}},
	{"Effect": "Allow", "Action": "ec2:DeleteSecurityGroup", "Resource": "*", "Condition": {"StringEquals": {"aws:ResourceTag/cluster": "mine"}}},
	{"Effect": "Allow", "Action": "iam:CreateServiceLinkedRole", "Resource": "*", "Condition": {"StringEquals": {"iam:AWSServiceName": "elasticloadbalancing.amazonaws.com"}}}
]}`

func TestUsersMayDoWhatTheirPoliciesSay(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	file := filepath.Join(folder, "identities.yaml")
	for path, text := range map[string]string{
		filepath.Join(folder, "controller.json"): controllerPolicy,
		file: `
users:
- {name: controller, accessKeyId: AKIACONTROLLER000000, secretAccessKey: secret, policies: [controller.json]}
- {name: nobody, accessKeyId: AKIANOBODY0000000000, secretAccessKey: secret, policies: []}
- {name: root, accessKeyId: AKIAROOT000000000000, secretAccessKey: secret}
roles:
- name: team/reader
  maxSessionDuration: 1h
  policies:
  - Statement: {Effect: Allow, Action: "elasticloadbalancing:Describe*", Resource: "*"}
`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	known, err := aws.LoadIdentities(file)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(c *aws.Config) { c.Users, c.Roles = known.Users, known.Roles })
	as := func(key string) (*elb.Client, *ec2.Client, *sts.Client) {
		config := w.config(credentials.NewStaticCredentialsProvider(key, "secret", ""))
		return elb.NewFromConfig(config), ec2.NewFromConfig(config), sts.NewFromConfig(config)
	}
	lb, net, _ := as("AKIACONTROLLER000000")
	mine := []types.Tag{{Key: new("cluster"), Value: new("mine")}}
	group := func(name string, tags []types.Tag) *elb.CreateTargetGroupInput {
		return &elb.CreateTargetGroupInput{Name: &name, Protocol: types.ProtocolEnumHttp, Port: new(int32(80)), VpcId: new(w.vpc()), TargetType: types.TargetTypeEnumIp, Tags: tags}
	}
	foreign := w.targetGroup("foreign")
	made := must(lb.CreateTargetGroup(ctx, group("made", mine)))(w).TargetGroups[0].TargetGroupArn
	specification := func(key string) []ec2types.TagSpecification {
		return []ec2types.TagSpecification{{ResourceType: ec2types.ResourceTypeSecurityGroup, Tags: []ec2types.Tag{{Key: &key, Value: new("mine")}}}}
	}
	sg := must(net.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{GroupName: new("a"), Description: new("a"), VpcId: new(w.vpc()), TagSpecifications: specification("cluster")}))(w).GroupId
	other := must(w.ec2.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{GroupName: new("b"), Description: new("b"), VpcId: new(w.vpc())}))(w).GroupId
	nobody, _, who := as("AKIANOBODY0000000000")
	codes(t, map[string]refusal{
		"without the tag":                     {failed(lb.CreateTargetGroup(ctx, group("untagged", nil))), "AccessDenied"},
		"tags of what is there":               {failed(lb.AddTags(ctx, &elb.AddTagsInput{ResourceArns: []string{foreign}, Tags: mine})), "AccessDenied"},
		"tags of a kind that is not meant":    {failed(lb.CreateLoadBalancer(ctx, &elb.CreateLoadBalancerInput{Name: new("x"), Subnets: w.subnets(), Tags: mine})), "AccessDenied"},
		"what has not the tag":                {failed(lb.DeleteTargetGroup(ctx, &elb.DeleteTargetGroupInput{TargetGroupArn: &foreign})), "AccessDenied"},
		"a group with another tag":            {failed(net.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{GroupName: new("c"), Description: new("c"), TagSpecifications: specification("x")})), "UnauthorizedOperation"},
		"tags of a group that is there":       {failed(net.CreateTags(ctx, &ec2.CreateTagsInput{Resources: []string{*sg}, Tags: []ec2types.Tag{{Key: new("cluster"), Value: new("x")}}})), "UnauthorizedOperation"},
		"a group without the tag":             {failed(net.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: other})), "UnauthorizedOperation"},
		"who has no policies may do nothing":  {failed(nobody.DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{})), "AccessDenied"},
		"a role that is not there":            {failed(w.sts.AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: role("other"), RoleSessionName: new("test")})), "AccessDenied"},
		"a session longer than the role's":    {failed(w.sts.AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: role("team/reader"), RoleSessionName: new("test"), DurationSeconds: new(int32(7200))})), "ValidationError"},
		"assuming a role without being let":   {failed(who.AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: role("team/reader"), RoleSessionName: new("test")})), "AccessDenied"},
		"a call for another region":           {failed(elb.NewFromConfig(w.config(owner), func(o *elb.Options) { o.Region = "us-east-1" }).DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{})), "SignatureDoesNotMatch"},
		"a call to EC2 of another region":     {failed(ec2.NewFromConfig(w.config(owner), func(o *ec2.Options) { o.Region = "us-east-1" }).DescribeVpcs(ctx, &ec2.DescribeVpcsInput{})), "AuthFailure"},
		"a global service in another, though": {failed(sts.NewFromConfig(w.config(owner), func(o *sts.Options) { o.Region = "us-east-1" }).AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: role("x"), RoleSessionName: new("test")})), "AccessDenied"},
	})
	_, err = lb.DeleteTargetGroup(ctx, &elb.DeleteTargetGroupInput{TargetGroupArn: &foreign})
	if err == nil || !strings.Contains(err.Error(), "on resource: "+foreign) {
		t.Errorf("the denial does not say of what: %v", err)
	}
	must(lb.DeleteTargetGroup(ctx, &elb.DeleteTargetGroupInput{TargetGroupArn: made}))(w)
	must(net.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: sg}))(w)
	if arn := *must(who.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{}))(w).Arn; !strings.HasSuffix(arn, ":user/nobody") {
		t.Errorf("the caller is %s", arn)
	}
	root, _, _ := as("AKIAROOT000000000000")
	must(root.DeleteTargetGroup(ctx, &elb.DeleteTargetGroupInput{TargetGroupArn: &foreign}))(w)

	// Users change while the account runs; with profile ideal they count at once.
	put := func(text string) int {
		request, err := http.NewRequestWithContext(ctx, http.MethodPut, w.endpoint+"/_lockstep/identities", strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		return response.StatusCode
	}
	if status := put("users: [{name: nobody, accessKeyId: AKIANOBODY0000000000, secretAccessKey: secret}]"); status != http.StatusNoContent {
		t.Errorf("new identities: %d", status)
	}
	must(nobody.DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{}))(w)
	(&world{T: t}).wantCode(failed(root.DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{})), "InvalidClientTokenId")
	if status := put("users: [{name: a, accessKeyId: AKIANOBODY0000000000, secretAccessKey: s, policies: [/etc/passwd]}]"); status != http.StatusBadRequest {
		t.Errorf("a policy in a file, over the admin API: %d", status)
	}
}

func TestIdentitiesThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	for text, says := range map[string]string{
		"user: []":           "unknown field",
		"users: [{name: a}]": "user 1 (\"a\"): accessKeyId",
		"users: [{name: a b, accessKeyId: AKIANOBODY0000000000}]": "a name has",
		"users: [{name: a, accessKeyId: AKIANOBODY0000000000}]":   "needs a secretAccessKey",
		"users: [{name: a, accessKeyId: AKIANOBODY0000000000, secretAccessKey: s}, {name: a, accessKeyId: AKIANOBODY0000000001, secretAccessKey: s}]": "another user",
		"roles: [{name: a, maxSessionDuration: 5m}]":                     "use 1h to 12h",
		"roles: [{name: a, policies: [nosuch.json]}]":                    "no such file",
		"roles: [{name: a, policies: [{Statement: {Effect: Perhaps}}]}]": "policy 1: cannot use statement 1",
	} {
		if _, err := aws.ParseIdentities([]byte(text), t.TempDir()); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", text, err, says)
		}
	}
}
