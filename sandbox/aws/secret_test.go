package aws_test

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/acm"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// A journal is shown and passed on, so that secrets must not be in it, also those of refused calls.
func TestTheJournalShowsNoSecrets(t *testing.T) {
	w := newWorld(t)
	client := acm.NewFromConfig(w.config(owner))
	if _, err := client.ImportCertificate(t.Context(), &acm.ImportCertificateInput{Certificate: []byte("public"), PrivateKey: []byte("hush")}); err == nil {
		t.Fatal("a certificate that is none was imported")
	}
	action := types.Action{Type: types.ActionTypeEnumAuthenticateOidc, AuthenticateOidcConfig: &types.AuthenticateOidcActionConfig{
		Issuer: new("https://id.example.com"), AuthorizationEndpoint: new("https://id.example.com/a"), TokenEndpoint: new("https://id.example.com/t"),
		UserInfoEndpoint: new("https://id.example.com/u"), ClientId: new("shop"), ClientSecret: new("hush"),
	}}
	if _, err := w.elb.CreateRule(t.Context(), &elb.CreateRuleInput{ListenerArn: new("arn:of:nothing"), Priority: new(int32(1)), Actions: []types.Action{action},
		Conditions: []types.RuleCondition{}}); err == nil {
		t.Fatal("a rule of no listener was made")
	}
	if _, err := w.ec2.RunInstances(t.Context(), &ec2.RunInstancesInput{UserData: new("aHVzaA=="), MinCount: new(int32(1)), MaxCount: new(int32(1))}); err == nil {
		t.Fatal("an instance of no image was made")
	}
	if _, err := sts.NewFromConfig(w.config(owner)).AssumeRoleWithSAML(t.Context(), &sts.AssumeRoleWithSAMLInput{
		RoleArn: role("shop"), PrincipalArn: new("arn:aws:iam::123456789012:saml-provider/x"), SAMLAssertion: new("hush"),
	}); err == nil {
		t.Fatal("an operation that is not modelled succeeds")
	}
	hidden := 0
	for _, r := range w.emulator.Journal().Since(0) {
		for name, value := range r.Parameters {
			if strings.Contains(value, "hush") || strings.Contains(value, "aHVzaA") { // as text, and as base64
				t.Errorf("%s shows %s: %s", r.Operation, name, value)
			}
			if value == "(not shown)" {
				hidden++
			}
		}
	}
	if hidden != 4 {
		t.Errorf("%d values are hidden, want 4", hidden)
	}
}
