package cloud_test

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/lockstep-delivery/lockstep/internal/cloud"
	"github.com/lockstep-delivery/lockstep/internal/cloud/budget"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
)

// An existing Deployment may name neither region nor VPC: the instance on which the process runs does.
func TestVPCAndRegionAreFound(t *testing.T) {
	a := newAccount(t)
	for _, name := range []string{"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CONFIG_FILE", "AWS_PROFILE"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", a.endpoint)
	vpc := a.EC2().VPC()
	tests := map[string]struct {
		config          cloud.Config
		withoutMetadata bool
		wantErr         string
	}{
		"by metadata":             {},
		"by tags":                 {config: cloud.Config{VPCTags: map[string]string{"Name": "lockstep"}, Region: "eu-west-1"}, withoutMetadata: true},
		"by tags that none has":   {config: cloud.Config{VPCTags: map[string]string{"Name": "another"}}, wantErr: "0 VPCs have the tags"},
		"by nothing":              {config: cloud.Config{Region: "eu-west-1"}, withoutMetadata: true, wantErr: "--aws-vpc-tags"},
		"by an unknown node":      {config: cloud.Config{Region: "eu-west-1", NodeName: "i-0123456789abcdef0"}, withoutMetadata: true, wantErr: "i-0123456789abcdef0"},
		"the region by nothing":   {config: cloud.Config{VPCID: vpc}, withoutMetadata: true, wantErr: "--aws-region"},
		"the region by metadata":  {config: cloud.Config{VPCID: vpc}},
		"by id, whatever is true": {config: cloud.Config{VPCID: "vpc-0123456789abcdef0"}, wantErr: "vpc-0123456789abcdef0"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if test.withoutMetadata {
				t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
			}
			config := test.config
			config.ClusterName, config.Logger = "test", slog.New(slog.DiscardHandler)
			config.Endpoints = map[string]string{budget.ELBv2: a.endpoint, budget.EC2: a.endpoint}
			config.Credentials = credentials.NewStaticCredentialsProvider(aws.DefaultAccessKeyID, aws.DefaultSecretAccessKey, "")
			c, err := cloud.New(t.Context(), config)
			switch {
			case err != nil && (test.wantErr == "" || !strings.Contains(err.Error(), test.wantErr)):
				t.Fatalf("error %v, wanted one that says %q", err, test.wantErr)
			case err == nil && test.wantErr != "":
				t.Fatalf("found %s, wanted an error that says %q", c.VPC().ID, test.wantErr)
			case err == nil:
				defer c.Close()
				if c.VPC().ID != vpc {
					t.Errorf("found VPC %s, want %s", c.VPC().ID, vpc)
				}
			}
		})
	}
}
