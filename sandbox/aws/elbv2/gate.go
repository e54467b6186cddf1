package elbv2

import (
	"cmp"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane/jwt"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// This file is about the actions that a request has to pass: authenticate-oidc, authenticate-cognito and jwt-validation.

const (
	maxExtraParams   = 10
	maxClaims        = 10
	maxIssuer        = 256
	sessionCookie    = "AWSELBAuthSessionCookie"
	sessionTimeout   = 604800
	defaultOIDCScope = "openid"
)

// clientOf is whose secret a secret is: the API takes it and never shows it, and rules keep it without repeating it.
type clientOf struct{ endpoint, id string }

// gate validates such an action and fills in defaults.
func (s *Service) gate(a types.Action) (types.Action, error) {
	switch a.Type {
	case types.ActionTypeEnumAuthenticateOidc:
		return s.gateOIDC(a)
	case types.ActionTypeEnumAuthenticateCognito:
		return gateCognito(a)
	}
	return a, checkTokens(a.JwtValidationConfig)
}

func (s *Service) gateOIDC(a types.Action) (types.Action, error) {
	if a.AuthenticateOidcConfig == nil {
		return a, missingActionConfig(a.Type)
	}
	c := *a.AuthenticateOidcConfig
	for name, endpoint := range map[string]*string{
		"issuer": c.Issuer, "authorization endpoint": c.AuthorizationEndpoint, "token endpoint": c.TokenEndpoint, "user info endpoint": c.UserInfoEndpoint,
	} {
		if !secureURL(endpoint) {
			return a, wire.Errorf("ValidationError", "The %s '%.200s' must be a full URL with HTTPS", name, deref(endpoint))
		}
	}
	client := clientOf{deref(c.TokenEndpoint), deref(c.ClientId)}
	_, known := s.secrets[client]
	switch {
	case deref(c.ClientId) == "":
		return a, wire.Errorf("ValidationError", "A client ID must be specified")
	case deref(c.UseExistingClientSecret) && c.ClientSecret != nil:
		return a, wire.Errorf("ValidationError", "A client secret and UseExistingClientSecret cannot both be specified")
	case c.ClientSecret == nil && !(deref(c.UseExistingClientSecret) && known):
		return a, wire.Errorf("ValidationError", "A client secret must be specified")
	}
	c.ClientSecret, c.UseExistingClientSecret = nil, nil
	var err error
	c.OnUnauthenticatedRequest = cmp.Or(c.OnUnauthenticatedRequest, types.AuthenticateOidcActionConditionalBehaviorEnumAuthenticate)
	if c.Scope, c.SessionCookieName, c.SessionTimeout, err = sessionDefaults(
		string(c.OnUnauthenticatedRequest), c.AuthenticationRequestExtraParams, c.Scope, c.SessionCookieName, c.SessionTimeout); err != nil {
		return a, err
	}
	a.AuthenticateOidcConfig = &c
	return a, nil
}

// maxSecrets is after how many secrets those that no rule uses any more are forgotten.
const maxSecrets = 1000

// keepSecrets remembers the secrets of the actions of a call that is not refused any more.
func (s *Service) keepSecrets(given []types.Action) {
	s.forgetSecrets(given)
	for _, a := range given {
		if c := a.AuthenticateOidcConfig; c != nil && c.ClientSecret != nil {
			s.secrets[clientOf{deref(c.TokenEndpoint), deref(c.ClientId)}] = *c.ClientSecret
		}
	}
}

// forgetSecrets drops the secrets that neither a rule nor the given actions use, if there are too many.
func (s *Service) forgetSecrets(given []types.Action) {
	if len(s.secrets) <= maxSecrets {
		return
	}
	used := map[clientOf]bool{}
	use := func(actions []types.Action) {
		for _, a := range actions {
			if c := a.AuthenticateOidcConfig; c != nil {
				used[clientOf{deref(c.TokenEndpoint), deref(c.ClientId)}] = true
			}
		}
	}
	use(given)
	for _, one := range s.rules {
		use(one.value.Get().Actions)
	}
	maps.DeleteFunc(s.secrets, func(client clientOf, _ string) bool { return !used[client] })
}

func gateCognito(a types.Action) (types.Action, error) {
	if a.AuthenticateCognitoConfig == nil {
		return a, missingActionConfig(a.Type)
	}
	c := *a.AuthenticateCognitoConfig
	switch {
	case len(strings.Split(deref(c.UserPoolArn), ":")) != 6 || !strings.Contains(deref(c.UserPoolArn), ":cognito-idp:"):
		return a, wire.Errorf("ValidationError", "'%.200s' is not the ARN of a user pool", deref(c.UserPoolArn))
	case deref(c.UserPoolClientId) == "" || deref(c.UserPoolDomain) == "":
		return a, wire.Errorf("ValidationError", "A user pool client and a user pool domain must be specified")
	}
	var err error
	c.OnUnauthenticatedRequest = cmp.Or(c.OnUnauthenticatedRequest, types.AuthenticateCognitoActionConditionalBehaviorEnumAuthenticate)
	if c.Scope, c.SessionCookieName, c.SessionTimeout, err = sessionDefaults(
		string(c.OnUnauthenticatedRequest), c.AuthenticationRequestExtraParams, c.Scope, c.SessionCookieName, c.SessionTimeout); err != nil {
		return a, err
	}
	a.AuthenticateCognitoConfig = &c
	return a, nil
}

func missingActionConfig(t types.ActionTypeEnum) error {
	return wire.Errorf("ValidationError", "An action of type %s must have its config", t)
}

func secureURL(text *string) bool {
	u, err := url.Parse(deref(text))
	return err == nil && u.Scheme == "https" && u.Host != ""
}

// sessionDefaults is what both kinds of authentication have in common.
func sessionDefaults(unauthenticated string, extra map[string]string, scope, cookie *string, timeout *int64) (*string, *string, *int64, error) {
	switch {
	case !slices.Contains([]string{"deny", "allow", "authenticate"}, unauthenticated):
		return nil, nil, nil, wire.Errorf("ValidationError", "OnUnauthenticatedRequest '%.40s' must be deny, allow or authenticate", unauthenticated)
	case len(extra) > maxExtraParams:
		return nil, nil, nil, wire.Errorf("ValidationError", "At most %d extra parameters can be specified", maxExtraParams)
	case timeout != nil && (*timeout < 1 || *timeout > sessionTimeout):
		return nil, nil, nil, wire.Errorf("ValidationError", "The session timeout '%d' must be between 1 and %d", *timeout, sessionTimeout)
	}
	return new(cmp.Or(deref(scope), defaultOIDCScope)), new(cmp.Or(deref(cookie), sessionCookie)), new(cmp.Or(deref(timeout), sessionTimeout)), nil
}

func checkTokens(c *types.JwtValidationActionConfig) error {
	switch {
	case c == nil:
		return missingActionConfig(types.ActionTypeEnumJwtValidation)
	case deref(c.Issuer) == "" || len(*c.Issuer) > maxIssuer:
		return wire.Errorf("ValidationError", "The issuer of tokens must have 1 to %d characters", maxIssuer)
	case !secureURL(c.JwksEndpoint) || len(*c.JwksEndpoint) > maxIssuer:
		return wire.Errorf("ValidationError", "The JWKS endpoint '%.200s' must be a full URL with HTTPS of at most %d characters", deref(c.JwksEndpoint), maxIssuer)
	case len(c.AdditionalClaims) > maxClaims:
		return wire.Errorf("ValidationError", "At most %d additional claims can be specified", maxClaims)
	}
	for _, claim := range c.AdditionalClaims {
		name := deref(claim.Name)
		if name == "" || slices.Contains([]string{"exp", "iss", "nbf", "iat"}, name) {
			return wire.Errorf("ValidationError", "Additional claim '%.60s' cannot be specified", name)
		}
		if !slices.Contains(claim.Format.Values(), claim.Format) {
			return invalidEnum("additionalClaims.format", claim.Format)
		}
		if len(claim.Values) == 0 || len(claim.Values) > maxClaims {
			return wire.Errorf("ValidationError", "Additional claim '%.60s' must have 1 to %d values", name, maxClaims)
		}
		for _, v := range claim.Values {
			spaced := claim.Format == types.JwtValidationActionAdditionalClaimFormatEnumSpaceSeparatedValues && strings.Contains(v, " ")
			if v == "" || len(v) > 256 || spaced {
				return wire.Errorf("ValidationError", "Value '%.60s' of additional claim '%.60s' is not valid", v, name)
			}
		}
	}
	return nil
}

// checkGates refuses gates on listeners without TLS.
func checkGates(protocol types.ProtocolEnum, actions []types.Action) error {
	if protocol != types.ProtocolEnumHttps && slices.ContainsFunc(actions, func(a types.Action) bool { return !routes(a.Type) }) {
		return wire.Errorf("InvalidLoadBalancerAction", "Actions of type %s are supported on HTTPS listeners only", actions[0].Type)
	}
	return nil
}

// gatedAction is the routing action with the gates ahead of it.
func (s *Service) gatedAction(actions []types.Action) dataplane.Action {
	out := dataplaneAction(actions)
	for _, a := range actions {
		switch a.Type {
		case types.ActionTypeEnumJwtValidation:
			out.Gates = append(out.Gates, dataplane.Gate{JWT: tokenPolicy(a.JwtValidationConfig)})
		case types.ActionTypeEnumAuthenticateOidc:
			c := a.AuthenticateOidcConfig
			out.Gates = append(out.Gates, dataplane.Gate{Authenticate: &dataplane.Authentication{
				Issuer: *c.Issuer, AuthorizationEndpoint: *c.AuthorizationEndpoint, TokenEndpoint: *c.TokenEndpoint, UserInfoEndpoint: *c.UserInfoEndpoint,
				ClientID: *c.ClientId, ClientSecret: s.secrets[clientOf{*c.TokenEndpoint, *c.ClientId}], Scope: *c.Scope,
				SessionCookie: *c.SessionCookieName, SessionTimeout: time.Duration(*c.SessionTimeout) * time.Second,
				ExtraParams: c.AuthenticationRequestExtraParams, OnUnauthenticated: string(c.OnUnauthenticatedRequest),
			}})
		case types.ActionTypeEnumAuthenticateCognito:
			out.Gates = append(out.Gates, dataplane.Gate{Authenticate: cognito(a.AuthenticateCognitoConfig)})
		}
	}
	return out
}

func tokenPolicy(c *types.JwtValidationActionConfig) *jwt.Policy {
	p := &jwt.Policy{Issuer: *c.Issuer, KeySet: *c.JwksEndpoint}
	for _, claim := range c.AdditionalClaims {
		p.Claims = append(p.Claims, jwt.Claim{Name: *claim.Name, Format: jwt.Format(claim.Format), Values: claim.Values})
	}
	return p
}

// cognito is the authentication by a user pool, whose endpoints follow from its domain.
func cognito(c *types.AuthenticateCognitoActionConfig) *dataplane.Authentication {
	parts := strings.Split(*c.UserPoolArn, ":")
	region, pool := parts[3], strings.TrimPrefix(parts[5], "userpool/")
	domain := *c.UserPoolDomain
	if !strings.ContainsAny(domain, ".:") {
		domain += ".auth." + region + ".amazoncognito.com"
	}
	base := "https://" + domain + "/oauth2/"
	return &dataplane.Authentication{
		Issuer:                "https://cognito-idp." + region + ".amazonaws.com/" + pool,
		AuthorizationEndpoint: base + "authorize", TokenEndpoint: base + "token", UserInfoEndpoint: base + "userInfo",
		ClientID: *c.UserPoolClientId, Scope: *c.Scope,
		SessionCookie: *c.SessionCookieName, SessionTimeout: time.Duration(*c.SessionTimeout) * time.Second,
		ExtraParams: c.AuthenticationRequestExtraParams, OnUnauthenticated: string(c.OnUnauthenticatedRequest),
	}
}
