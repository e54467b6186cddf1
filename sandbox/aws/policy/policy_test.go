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
		{"of one resource, about none", `{"Effect":"Allow","Action":"ec2:*","Resource":["arn:aws:ec2:::a"]}`, "ec2:DescribeVpcs", policy.NotAllowed},
	} {
		p, err := policy.Parse([]byte(`{"Version":"2012-10-17","Statement":[` + tt.statements + `]}`))
		if err != nil {
			t.Errorf("%s: %v", tt.why, err)
			continue
		}
		if got := p.Decide(policy.Request{Action: tt.action}); got != tt.want {
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
		`{"Statement":{"Effect":"Allow","Action":"DescribeVpcs"}}`:                                                                        "service:Operation",
		`{"Statement":{"Effect":"Allow","Actions":"*"}}`:                                                                                  "unknown field",
		`{"Statement":{"Effect":"Deny","Action":"*","Resource":"a"}}`:                                                                     "neither * nor an ARN",
		`{"Statement":{"Effect":"Deny","Action":"*","Resource":"*","NotResource":"*"}}`:                                                   "both Resource and NotResource",
		`{"Statement":{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"DateLessThan":{"aws:CurrentTime":"x"}}}}`:                "operator DateLessThan is not modelled",
		`{"Statement":{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:SourceVpc":"x"}}}}`:                  "key aws:SourceVpc is not modelled",
		`{"Statement":{"Effect":"Deny","Action":"*","Resource":"arn:aws:ec2:*:*:vpc/${aws:username}"}}`:                                   "policy variable",
		`{"Statement":{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:username":["a","${aws:userid}"]}}}}`: "policy variable",
		`{"Statement":{"Effect":"Allow","Action":"*","Principal":{"AWS":"arn:aws:iam"}}}`:                                                 "not modelled",
	} {
		if _, err := policy.Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v, want one that says %q", text, err, part)
		}
	}
}

func TestResourcesAndConditions(t *testing.T) {
	t.Parallel()
	const web, api = "arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/web/1", "arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/api/2"
	known := map[string][]string{
		"aws:RequestTag/team": {"shop"}, "aws:TagKeys": {"team", "cluster"}, "elasticloadbalancing:CreateAction": {"CreateRule"},
		web + "aws:ResourceTag/cluster": {"a"},
	}
	for _, tt := range []struct {
		why, rest string
		resources []string
		want      policy.Decision
	}{
		{"the resource", `"Resource":"arn:aws:elasticloadbalancing:*:*:targetgroup/web/*"`, []string{web}, policy.Allowed},
		{"two, one not", `"Resource":"arn:aws:elasticloadbalancing:*:*:targetgroup/web/*"`, []string{web, api}, policy.NotAllowed},
		{"all but it", `"NotResource":"arn:aws:elasticloadbalancing:*:*:targetgroup/web/*"`, []string{api}, policy.Allowed},
		{"of a tag", `"Condition":{"StringEquals":{"aws:ResourceTag/cluster":["b","a"]}}`, []string{web}, policy.Allowed},
		{"of a tag that it has not", `"Condition":{"StringEquals":{"aws:ResourceTag/cluster":"a"}}`, []string{api}, policy.NotAllowed},
		{"if it has the tag", `"Condition":{"StringEqualsIfExists":{"aws:ResourceTag/cluster":"a"}}`, []string{api}, policy.Allowed},
		{"another value", `"Condition":{"StringNotEquals":{"aws:RequestTag/team":"shop"}}`, nil, policy.NotAllowed},
		{"not equal to what is not there", `"Condition":{"StringNotEquals":{"aws:RequestTag/owner":"shop"}}`, nil, policy.Allowed},
		{"like", `"Condition":{"StringLike":{"aws:RequestTag/team":"s*p"}}`, nil, policy.Allowed},
		{"the case of a key does not matter", `"Condition":{"StringEquals":{"AWS:requesttag/team":"shop"}}`, nil, policy.Allowed},
		{"the case of a value does", `"Condition":{"StringEquals":{"aws:RequestTag/team":"Shop"}}`, nil, policy.NotAllowed},
		{"unless it is ignored", `"Condition":{"StringEqualsIgnoreCase":{"aws:RequestTag/team":"Shop"}}`, nil, policy.Allowed},
		{"there", `"Condition":{"Null":{"aws:RequestTag/team":"false"}}`, nil, policy.Allowed},
		{"not there", `"Condition":{"Null":{"aws:RequestTag/owner":"true","aws:ResourceTag/x":"true"}}`, nil, policy.Allowed},
		{"both", `"Condition":{"StringEquals":{"elasticloadbalancing:CreateAction":["CreateRule"]},"Null":{"aws:RequestTag/owner":"false"}}`, nil, policy.NotAllowed},
		{"all values", `"Condition":{"ForAllValues:StringEquals":{"aws:TagKeys":["team","cluster","x"]}}`, nil, policy.Allowed},
		{"not all values", `"Condition":{"ForAllValues:StringEquals":{"aws:TagKeys":["team"]}}`, nil, policy.NotAllowed},
		{"any value", `"Condition":{"ForAnyValue:StringLike":{"aws:TagKeys":["t*"]}}`, nil, policy.Allowed},
		{"no value", `"Condition":{"ForAnyValue:StringLike":{"aws:TagKeys":["z*"]}}`, nil, policy.NotAllowed},
	} {
		p, err := policy.Parse([]byte(`{"Statement":{"Effect":"Allow","Action":"*",` + tt.rest + `}}`))
		if err != nil {
			t.Errorf("%s: %v", tt.why, err)
			continue
		}
		got := p.Decide(policy.Request{Action: "elasticloadbalancing:AddTags", Resources: tt.resources, Context: func(key, resource string) []string {
			return append(known[key], known[resource+key]...)
		}})
		if got != tt.want {
			t.Errorf("%s: decision %d, want %d", tt.why, got, tt.want)
		}
	}
}

func FuzzDecide(f *testing.F) {
	f.Add(`{"Statement":{"Effect":"Allow","Action":"a:*b?c*"}}`, "a:bbcc")
	f.Fuzz(func(t *testing.T, text, action string) {
		if p, err := policy.Parse([]byte(text)); err == nil {
			p.Decide(policy.Request{Action: action, Resources: []string{action}, Context: func(string, string) []string { return []string{action} }})
		}
	})
}
