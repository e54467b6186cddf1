package sts

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// claims are what a web identity token (a JWT) says.
type claims struct {
	Issuer   string          `json:"iss"`
	Subject  string          `json:"sub"`
	Audience json.RawMessage `json:"aud"`
	Expires  float64         `json:"exp"`
}

// audience is the first of the token's.
func (c claims) audience() string {
	var one string
	var more []string
	if json.Unmarshal(c.Audience, &more) == nil && len(more) > 0 {
		return more[0]
	}
	_ = json.Unmarshal(c.Audience, &one)
	return one
}

// readToken reads a token and refuses one that is not complete or has expired. Its signature is not checked.
func readToken(token *string) (claims, error) {
	var c claims
	if token == nil || len(*token) < 4 || len(*token) > 20_000 {
		return c, wire.Errorf("ValidationError", "1 validation error detected: the value at 'webIdentityToken' must have 4 to 20000 characters")
	}
	parts := strings.Split(*token, ".")
	if len(parts) != 3 || parts[2] == "" {
		return c, wire.Errorf("InvalidIdentityToken", "The ID Token provided is not a valid JWT.")
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	switch {
	case err != nil:
		return c, wire.Errorf("InvalidIdentityToken", "The ID Token provided is not a valid JWT: %v", err)
	case c.Issuer == "" || c.Subject == "" || c.audience() == "" || c.Expires == 0:
		return c, wire.Errorf("InvalidIdentityToken", "The ID Token must have the claims iss, sub, aud and exp")
	case float64(time.Now().Unix()) >= c.Expires:
		return c, wire.Errorf("ExpiredTokenException", "Token expired: the current time is after the claim exp of the token")
	}
	return c, nil
}
