package foreign

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/address"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/ec2"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/policy"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/sts"
)

// settings are what the account of a script has other than the rest: traffic for those that wait for the health of a
// target, delays for those that wait for a state, room for more networks than a page shows.
var settings = map[string]func(*testing.T, *aws.Config){
	"elbv2":   withTraffic,
	"waiters": withDelays,
	"ec2":     withRoom,
}

func withRoom(_ *testing.T, c *aws.Config) { c.EC2Quotas = ec2.Quotas{VPCs: 20, InternetGateways: 20} }

func withTraffic(t *testing.T, c *aws.Config) {
	vpc, err := address.Claim()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = vpc.Release() })
	c.VPC, c.WithoutTraffic, c.OpenSecurityGroups = vpc.Mapping, false, true
}

// withDelays makes everything take a second that a client can wait for.
func withDelays(t *testing.T, c *aws.Config) {
	slow, err := profile.Parse([]byte(`{base: ideal, seconds: {lb.provision.alb: F(1), r53.insync: F(1), acm.issue: F(1), ga.deploy: F(1)}}`))
	if err != nil {
		t.Fatal(err)
	}
	c.Profile = slow
}

// newAccount serves an emulated account and returns the environment in which a script finds it.
func newAccount(t *testing.T, script string) []string {
	t.Helper()
	reader, err := policy.Parse([]byte(`{"Statement": {"Effect": "Allow", "Action": ["*:Describe*", "*:Get*", "*:List*"], "Resource": "*"}}`))
	if err != nil {
		t.Fatal(err)
	}
	config := aws.Config{
		VPC: address.Mapping{Octet: 77}, WithoutTraffic: true, Unthrottled: true, Seed: 1,
		Roles: []sts.Role{{Name: "lockstep-node"}, {Name: "deployer"}, {Name: "partner", ExternalID: "42"}, {Name: "reader", Policy: reader}},
	}
	if change := settings[script]; change != nil {
		change(t, &config)
	}
	emulator, err := aws.New(config)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- emulator.Serve(l) }()
	t.Cleanup(func() {
		if err := errors.Join(emulator.Close(), <-served); err != nil {
			t.Error(err)
		}
	})
	late, err := emulator.STS().Issue("deployer", "late", time.Nanosecond)
	if err != nil {
		t.Fatal(err)
	}
	return append(os.Environ(),
		"EMULATED_AWS=http://"+l.Addr().String(),
		"AWS_ACCESS_KEY_ID="+aws.DefaultAccessKeyID, "AWS_SECRET_ACCESS_KEY="+aws.DefaultSecretAccessKey, "AWS_DEFAULT_REGION=eu-west-1",
		"AWS_MAX_ATTEMPTS=1", "AWS_PAGER=", "AWS_DEFAULT_OUTPUT=text", "HOME="+t.TempDir(), "CERTIFICATES="+certificates(t), "PYTHONDONTWRITEBYTECODE=1", "PYTHONWARNINGS=ignore", "NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1",
		"EXPIRED_ACCESS_KEY_ID="+late.ID, "EXPIRED_SECRET_ACCESS_KEY="+late.Secret, "EXPIRED_SESSION_TOKEN="+late.Token,
	)
}
