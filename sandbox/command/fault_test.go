package command_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox"
)

// Each kind of fault that hits calls does what it says to the calls that its filter means, and to no others.
func TestFaultsOfCallsByCommand(t *testing.T) {
	s, run := account(t)
	client := clientOf(s)
	vpcs := func() error {
		_, err := client.DescribeVpcs(t.Context(), &ec2.DescribeVpcsInput{VpcIds: []string{s.State().VPCID}})
		return err
	}
	for _, tt := range []struct{ command, says string }{
		{"throttle --operation ec2:Describe*", "RequestLimitExceeded"},
		{"deny --operation ec2:DescribeVpcs", "UnauthorizedOperation"},
		{"error --status 503 --code Unavailable --message later", "StatusCode: 503"},
		{"error --caller aws-sdk-go", "InternalFailure"},
		{"error --caller " + s.State().AccessKey, "InternalFailure"},
		{"error --resource " + s.State().VPCID, "InternalFailure"},
		{"throttle --operation acm:*", ""},
		{"throttle --caller boto3", ""},
		{"throttle --resource vpc-0", ""},
		{"throttle --after 1h --for 1m", ""},
		{"throttle --for 1ns", ""},
	} {
		id := strings.TrimSpace(want(t, run, "fault add "+tt.command))
		if err := vpcs(); (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %q", tt.command, err, tt.says)
		}
		want(t, run, "fault remove "+id)
		if err := vpcs(); err != nil {
			t.Errorf("after %s: %v", tt.command, err)
		}
	}
	want(t, run, "fault add error --every 3")
	var failed []int
	for i := range 6 {
		if vpcs() != nil {
			failed = append(failed, i)
		}
	}
	if len(failed) != 2 || failed[1]-failed[0] != 3 {
		t.Errorf("of six calls every third is to fail, not %v", failed)
	}
	want(t, run, "fault remove --all")

	want(t, run, "fault add delay --delay 300ms")
	if began := time.Now(); vpcs() != nil || time.Since(began) < 300*time.Millisecond {
		t.Errorf("a call that is to be late takes %s", time.Since(began))
	}
	want(t, run, "fault remove --all")

	want(t, run, "fault add stale --delay 1h --operation ec2:DescribeSecurityGroups")
	group, err := client.CreateSecurityGroup(t.Context(), &ec2.CreateSecurityGroupInput{GroupName: new("new"), Description: new("new"), VpcId: new(s.State().VPCID)})
	if err != nil {
		t.Fatal(err)
	}
	groups := func() int {
		out, err := client.DescribeSecurityGroups(t.Context(), &ec2.DescribeSecurityGroupsInput{Filters: []types.Filter{{Name: new("group-id"), Values: []string{*group.GroupId}}}})
		if err != nil {
			t.Fatal(err)
		}
		return len(out.SecurityGroups)
	}
	if groups() != 0 {
		t.Error("a stale read shows what has just been made")
	}
	want(t, run, "fault remove --all")
	if groups() != 1 {
		t.Error("the group is not there")
	}
}

// Users and roles stand in a file, with which an account starts and which can be replaced.
func TestIdentitiesByCommand(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "identities.yaml")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const user = "users: [{name: a, accessKeyId: AKIAUSER000000000000, secretAccessKey: s, policies: [p.json]}]\n"
	write(file, "owner: {accessKeyId: AKIAOWNER00000000000, secretAccessKey: mine}\n"+user)
	write(filepath.Join(folder, "p.json"), `{"Statement": {"Effect": "Allow", "Action": "ec2:DescribeVpcs", "Resource": "*"}}`)
	s, run := account(t, func(c *sandbox.Config) { c.Identities = file })
	if state := s.State(); state.AccessKey != "AKIAOWNER00000000000" || state.SecretKey != "mine" {
		t.Errorf("the owner's key is told as %s %s", state.AccessKey, state.SecretKey)
	}
	if _, err := clientOf(s).DescribeSubnets(t.Context(), &ec2.DescribeSubnetsInput{}); err != nil {
		t.Errorf("the owner: %v", err)
	}
	client := ec2.NewFromConfig(sdk.Config{
		Region: s.State().Region, BaseEndpoint: new(s.State().AWSEndpoint), Retryer: func() sdk.Retryer { return sdk.NopRetryer{} },
		Credentials: credentials.NewStaticCredentialsProvider("AKIAUSER000000000000", "s", ""),
	})
	may := func() (vpcs, subnets bool) {
		_, first := client.DescribeVpcs(t.Context(), &ec2.DescribeVpcsInput{})
		_, second := client.DescribeSubnets(t.Context(), &ec2.DescribeSubnetsInput{})
		return first == nil, second == nil
	}
	if vpcs, subnets := may(); !vpcs || subnets {
		t.Errorf("the user may describe VPCs: %v, subnets: %v", vpcs, subnets)
	}
	write(filepath.Join(folder, "p.json"), `{"Statement": {"Effect": "Allow", "Action": "ec2:DescribeSubnets", "Resource": "*"}}`)
	want(t, run, "identities set "+file)
	if vpcs, subnets := may(); vpcs || !subnets {
		t.Errorf("with the new file the user may describe VPCs: %v, subnets: %v", vpcs, subnets)
	}
	write(file, "users: [{name: a}]")
	if _, err := run("identities", "set", file); err == nil || !strings.Contains(err.Error(), "user 1") {
		t.Errorf("a file that cannot be used: %v", err)
	}
}
