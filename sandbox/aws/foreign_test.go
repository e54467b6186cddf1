package aws_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/lockstep-delivery/lockstep/sandbox/aws"
)

// The names on the wire are checked against the Go SDK, which does not mind capital letters; SDKs of
// other languages do.
func TestBoto3(t *testing.T) {
	t.Parallel()
	if err := exec.Command("python3", "-c", "import boto3").Run(); err != nil {
		t.Skip("SKIPPED: python3 with boto3 is not installed (Debian: apt-get install python3-boto3)")
	}
	for _, script := range []string{"smoke", "services"} {
		w := newWorld(t)
		out, err := exec.Command("python3", "testdata/boto3_"+script+".py", w.endpoint, aws.DefaultAccessKeyID, aws.DefaultSecretAccessKey).CombinedOutput()
		if err != nil || !strings.HasSuffix(string(out), "ok\n") {
			t.Errorf("%s: %v\n%s", script, err, out)
		}
	}
}

func TestCommandLineInterface(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("SKIPPED: each call of the AWS CLI takes seconds")
	}
	if out, err := exec.Command("aws", "--version").CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: the AWS CLI is not installed (Debian: apt-get install awscli): %v %s", err, out)
	}
	w := newWorld(t)
	w.loadBalancer("web")
	for _, tt := range []struct{ arguments, want string }{
		{"sts get-caller-identity --query Account", "123456789012"},
		{"elbv2 describe-load-balancers --names web --query LoadBalancers[0].Scheme", "internal"},
		{"acm list-certificates --query length(CertificateSummaryList)", "0"},
		{"route53 get-hosted-zone-count --query HostedZoneCount", "0"},
		{"cloudwatch list-metrics --query length(Metrics)", "0"},
		{"elbv2 describe-account-limits --query length(Limits)", "23"},
		{"ec2 describe-subnets --filters Name=tag:kubernetes.io/role/elb,Values=1 --query length(Subnets)", "3"},
	} {
		command := exec.Command("aws", append(strings.Fields(tt.arguments), "--endpoint-url", w.endpoint, "--region", "eu-west-1", "--output", "text")...)
		command.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID="+aws.DefaultAccessKeyID, "AWS_SECRET_ACCESS_KEY="+aws.DefaultSecretAccessKey)
		out, err := command.CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != tt.want {
			t.Errorf("aws %s: %v: %s, want %s", tt.arguments, err, got, tt.want)
		}
	}
}
