package policy_test

import (
	"strings"
	"testing"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/policy"
)

func TestDecide(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		why, statements, action string
		want                    policy.Decision
	}{
		{"by name", `{"Effect":"Allow","Action":"ec2:DescribeVpcs"}`, "ec2:DescribeVpcs", policy.Allowed},
		{"of another service", `{"Effect":"Allow","Action":"ec2:*"}`, "acm:ListCertificates", policy.NotAllowed},
		{"everything", `{"Effect":"Allow","Action":"*"}`, "acm:ListCertificates", policy.Allowed},
		{"the case does not matter", `{"Effect":"Allow","Action":["EC2:describe*"]}`, "ec2:DescribeVpcs", policy.Allowed},
		{"one character", `{"Effect":"Allow","Action":"ec2:DescribeVpc?"}`, "ec2:DescribeVpcs", policy.Allowed},
		{"two stars", `{"Effect":"Allow","Action":"ec2:*Vpc*Endpoints"}`, "ec2:DescribeVpcXEndpoint", policy.NotAllowed},
		{"back to a star", `{"Effect":"Allow","Action":"a:*ab"}`, "a:aaab", policy.Allowed},
		{"a denial wins", `{"Effect":"Deny","Action":"ec2:DescribeVpcs"},{"Effect":"Allow","Action":"*"}`, "ec2:DescribeVpcs", policy.Denied},
		{"a denial of something else", `{"Effect":"Deny","Action":"ec2:Create*"},{"Effect":"Allow","Action":"*"}`, "ec2:DescribeVpcs", policy.Allowed},
		{"all but", `{"Effect":"Allow","NotAction":"ec2:*"}`, "ec2:DescribeVpcs", policy.NotAllowed},
		{"conditions do not count", `{"Effect":"Allow","Action":"ec2:*","Resource":["arn:aws:ec2:::a"],"Condition":{"Null":{"a":"b"}}}`, "ec2:DescribeVpcs", policy.Allowed},
	} {
		p, err := policy.Parse([]byte(`{"Version":"2012-10-17","Statement":[` + tt.statements + `]}`))
		if err != nil {
			t.Errorf("%s: %v", tt.why, err)
			continue
		}
		if got := p.Decide(tt.action); got != tt.want {
			t.Errorf("%s: decision %d, want %d", tt.why, got, tt.want)
		}
	}
}

func TestPoliciesThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	for text, part := range map[string]string{
		``:                                   "cannot read",
		`{}`:                                 "no Statement",
		`{"Statement":{"Effect":"Perhaps"}}`: "neither Allow nor Deny",
		`{"Statement":{"Effect":"Allow"}}`:   "either Action or NotAction",
		`{"Statement":{"Effect":"Allow","Action":"DescribeVpcs"}}`:                        "service:Operation",
		`{"Statement":{"Effect":"Allow","Actions":"*"}}`:                                  "unknown field",
		`{"Statement":{"Effect":"Deny","Action":"*","Resource":"arn:aws:ec2:::a"}}`:       "not modelled",
		`{"Statement":{"Effect":"Deny","Action":"*","Resource":"*","Condition":{}}}`:      "not modelled",
		`{"Statement":{"Effect":"Allow","Action":"*","Principal":{"AWS":"arn:aws:iam"}}}`: "not modelled",
	} {
		if _, err := policy.Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v, want one that says %q", text, err, part)
		}
	}
}

func FuzzDecide(f *testing.F) {
	f.Add(`{"Statement":{"Effect":"Allow","Action":"a:*b?c*"}}`, "a:bbcc")
	f.Fuzz(func(t *testing.T, text, action string) {
		if p, err := policy.Parse([]byte(text)); err == nil {
			p.Decide(action)
		}
	})
}
