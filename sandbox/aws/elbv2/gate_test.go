package elbv2

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane/jwt"
)

func oidc(change ...func(*types.AuthenticateOidcActionConfig)) types.Action {
	c := &types.AuthenticateOidcActionConfig{
		Issuer: new("https://id.example.com"), AuthorizationEndpoint: new("https://id.example.com/authorize"), TokenEndpoint: new("https://id.example.com/token"),
		UserInfoEndpoint: new("https://id.example.com/userinfo"), ClientId: new("shop"), ClientSecret: new("s3cret"),
	}
	for _, f := range change {
		f(c)
	}
	return types.Action{Type: types.ActionTypeEnumAuthenticateOidc, Order: new(int32(1)), AuthenticateOidcConfig: c}
}

func validate(claims ...types.JwtValidationActionAdditionalClaim) types.Action {
	return types.Action{Type: types.ActionTypeEnumJwtValidation, Order: new(int32(1)), JwtValidationConfig: &types.JwtValidationActionConfig{
		Issuer: new("https://id.example.com"), JwksEndpoint: new("https://id.example.com/keys"), AdditionalClaims: claims,
	}}
}

// What a request has to pass reaches the nodes whole, with the secret that the API never shows.
func TestNodesAreToldOfGates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, "ideal", 1)
		defer a.Service.Close()
		lb, group := a.balancerARN(), a.groupARN("web")
		last := func() types.Action {
			return types.Action{Type: types.ActionTypeEnumForward, Order: new(int32(9)), TargetGroupArn: &group}
		}
		listener := retry(a, a.CreateListener, &elb.CreateListenerInput{
			LoadBalancerArn: &lb, Port: new(int32(443)), Protocol: types.ProtocolEnumHttps, DefaultActions: []types.Action{last(), oidc()},
			Certificates: []types.Certificate{{CertificateArn: new("arn:aws:acm:eu-west-1:123456789012:certificate/x")}},
		}).Listeners[0]
		shown := listener.DefaultActions[0].AuthenticateOidcConfig
		if shown.ClientSecret != nil || *shown.Scope != "openid" || *shown.SessionTimeout != 604800 || shown.OnUnauthenticatedRequest != "authenticate" {
			t.Errorf("shown is %+v", shown)
		}
		rule := retry(a, a.CreateRule, &elb.CreateRuleInput{
			ListenerArn: listener.ListenerArn, Priority: new(int32(1)), Conditions: []types.RuleCondition{{Field: new("path-pattern"), Values: []string{"/api"}}},
			Actions: []types.Action{validate(types.JwtValidationActionAdditionalClaim{Name: new("aud"), Format: "single-string", Values: []string{"shop"}}), last()},
		}).Rules[0]
		retry(a, a.ModifyListener, &elb.ModifyListenerInput{ListenerArn: listener.ListenerArn, DefaultActions: []types.Action{
			oidc(func(c *types.AuthenticateOidcActionConfig) {
				c.ClientSecret, c.UseExistingClientSecret, c.SessionTimeout = nil, new(true), new(int64(60))
			}), last(),
		}})
		time.Sleep(time.Second)
		synctest.Wait()
		for zone, node := range a.nodes {
			got, _ := node.last()
			want := []dataplane.Gate{{Authenticate: &dataplane.Authentication{
				Issuer: "https://id.example.com", AuthorizationEndpoint: "https://id.example.com/authorize", TokenEndpoint: "https://id.example.com/token",
				UserInfoEndpoint: "https://id.example.com/userinfo", ClientID: "shop", ClientSecret: "s3cret", Scope: "openid",
				SessionCookie: "AWSELBAuthSessionCookie", SessionTimeout: time.Minute, OnUnauthenticated: "authenticate",
			}}}
			if diff := cmp.Diff(want, got.Listeners[0].Default.Gates); diff != "" {
				t.Errorf("default action at %s (-want +got):\n%s", zone, diff)
			}
			want = []dataplane.Gate{{JWT: &jwt.Policy{
				Issuer: "https://id.example.com", KeySet: "https://id.example.com/keys", Claims: []jwt.Claim{{Name: "aud", Format: jwt.SingleString, Values: []string{"shop"}}},
			}}}
			if diff := cmp.Diff(want, got.Listeners[0].Rules[0].Action.Gates); diff != "" {
				t.Errorf("rule %s at %s (-want +got):\n%s", *rule.RuleArn, zone, diff)
			}
		}
	})
}

func TestGatesThatAreRefused(t *testing.T) {
	t.Parallel()
	s := New(Config{})
	claim := func(name string, format types.JwtValidationActionAdditionalClaimFormatEnum, values ...string) types.Action {
		return validate(types.JwtValidationActionAdditionalClaim{Name: &name, Format: format, Values: values})
	}
	for name, a := range map[string]types.Action{
		"no config":   {Type: types.ActionTypeEnumAuthenticateOidc},
		"without TLS": oidc(func(c *types.AuthenticateOidcActionConfig) { c.TokenEndpoint = new("http://id.example.com/token") }),
		"no secret":   oidc(func(c *types.AuthenticateOidcActionConfig) { c.ClientSecret = nil }),
		"unknown secret": oidc(func(c *types.AuthenticateOidcActionConfig) {
			c.ClientSecret, c.UseExistingClientSecret = nil, new(true)
		}),
		"timeout":          oidc(func(c *types.AuthenticateOidcActionConfig) { c.SessionTimeout = new(int64(604801)) }),
		"behaviour":        oidc(func(c *types.AuthenticateOidcActionConfig) { c.OnUnauthenticatedRequest = "ignore" }),
		"no pool":          {Type: types.ActionTypeEnumAuthenticateCognito, AuthenticateCognitoConfig: &types.AuthenticateCognitoActionConfig{UserPoolArn: new("arn:aws:cognito")}},
		"no tokens":        {Type: types.ActionTypeEnumJwtValidation},
		"claim of itself":  claim("exp", "single-string", "x"),
		"unknown format":   claim("aud", "number", "1"),
		"no values":        claim("aud", "single-string"),
		"space in a value": claim("scope", "space-separated-values", "a b"),
	} {
		if _, err := s.gate(a); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := checkGates(types.ProtocolEnumHttp, []types.Action{validate()}); err == nil {
		t.Error("a gate on a listener without TLS is accepted")
	}
	pool := types.Action{Type: types.ActionTypeEnumAuthenticateCognito, AuthenticateCognitoConfig: &types.AuthenticateCognitoActionConfig{
		UserPoolArn: new("arn:aws:cognito-idp:eu-west-1:123456789012:userpool/eu-west-1_x"), UserPoolClientId: new("c"), UserPoolDomain: new("shop"),
	}}
	checked, err := s.gate(pool)
	if err != nil {
		t.Fatal(err)
	}
	got := cognito(checked.AuthenticateCognitoConfig)
	if got.TokenEndpoint != "https://shop.auth.eu-west-1.amazoncognito.com/oauth2/token" || got.Issuer != "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_x" {
		t.Errorf("got %+v", got)
	}
}

// A call that is refused, for whatever reason, changes no secret of a client and leaves none behind.
func TestARefusedCallKeepsNoSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, "ideal", 1)
		defer a.Service.Close()
		lb := a.balancerARN()
		listener := retry(a, a.CreateListener, &elb.CreateListenerInput{
			LoadBalancerArn: &lb, Port: new(int32(443)), Protocol: types.ProtocolEnumHttps, DefaultActions: gated(oidc()),
			Certificates: []types.Certificate{{CertificateArn: new("arn:aws:acm:eu-west-1:123456789012:certificate/x")}},
		}).Listeners[0].ListenerArn
		bad := oidc(func(c *types.AuthenticateOidcActionConfig) { c.ClientSecret = new("wrong") })
		refused := map[string]error{}
		rule := &elb.CreateRuleInput{
			ListenerArn: listener, Priority: new(int32(1)), Conditions: []types.RuleCondition{{Field: new("path-pattern"), Values: []string{"/"}}}, Actions: fixedAction(),
		}
		retry(a, a.CreateRule, rule)
		rule.Actions = gated(bad)
		_, refused["PriorityInUse"] = a.CreateRule(reader, rule)
		_, refused["DuplicateListener"] = a.CreateListener(reader, &elb.CreateListenerInput{
			LoadBalancerArn: &lb, Port: new(int32(443)), Protocol: types.ProtocolEnumHttps, DefaultActions: rule.Actions, SslPolicy: new("ELBSecurityPolicy-TLS13-1-2-2021-06"),
			Certificates: []types.Certificate{{CertificateArn: new("arn:aws:acm:eu-west-1:123456789012:certificate/x")}},
		})
		_, refused["InvalidLoadBalancerAction"] = a.ModifyListener(reader, &elb.ModifyListenerInput{ListenerArn: listener, DefaultActions: []types.Action{bad}})
		for want, err := range refused {
			if got := code(err); got != want {
				t.Errorf("refused with %q, want %s", got, want)
			}
		}
		if len(a.secrets) != 1 || a.secrets[clientOf{"https://id.example.com/token", "shop"}] != "s3cret" {
			t.Errorf("secrets are %v", a.secrets)
		}
		for i := range maxSecrets + 100 {
			retry(a, a.ModifyListener, &elb.ModifyListenerInput{ListenerArn: listener, DefaultActions: gated(oidc(func(c *types.AuthenticateOidcActionConfig) { c.ClientId = new(fmt.Sprint("client-", i)) }))})
		}
		if n := len(a.secrets); n > maxSecrets+1 || a.secrets[clientOf{"https://id.example.com/token", fmt.Sprint("client-", maxSecrets+99)}] != "s3cret" {
			t.Errorf("%d secrets are kept for one rule, without that which it uses", n)
		}
	})
}

// gated is a fixed response behind a gate.
func gated(gate types.Action) []types.Action {
	last := fixedAction()[0]
	last.Order = new(int32(9))
	return []types.Action{gate, last}
}
