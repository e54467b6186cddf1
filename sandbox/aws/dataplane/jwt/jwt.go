// Package jwt verifies JSON Web Tokens as an Application Load Balancer does: signed with RS256 by a key of the issuer's key set, of the
// right issuer, not expired. It keeps the key sets that it has fetched.
//
// It never signs a token and never decides what a failure means for a request. Start with Verifier.Verify.
package jwt

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// The limits of a key set, those of AWS; and for how long one is used (assumptions): maxAge, and at least minAge when a token names a key that
// the set does not have.
const (
	maxKeySetBytes = 150 << 10
	maxKeys        = 10
	maxAge         = 5 * time.Minute
	minAge         = time.Second
	fetchTimeout   = 5 * time.Second
)

// Format is how a claim holds its value; the values are those of the AWS API.
type Format string

// The formats of claims.
const (
	SingleString         Format = "single-string"
	StringArray          Format = "string-array"
	SpaceSeparatedValues Format = "space-separated-values"
)

// Claim is what a token must say besides. A single string must be one of Values; a list must hold all of them (AWS does not say which).
type Claim struct {
	Name   string
	Format Format
	Values []string
}

// Policy is what tokens are held against.
type Policy struct {
	// Issuer is the claim iss, and KeySet the URL of its keys.
	Issuer, KeySet string
	Claims         []Claim
}

// Verifier verifies tokens. It may be used by several goroutines.
type Verifier struct {
	client *http.Client

	mu   sync.Mutex
	sets map[string]*keySet
}

// keySet is the keys at one URL, fetched by one caller at a time.
type keySet struct {
	mu      sync.Mutex
	keys    map[string]*rsa.PublicKey // by kid
	fetched time.Time                 // with success
	tried   time.Time
}

// NewVerifier returns a verifier that fetches key sets with a transport.
func NewVerifier(transport http.RoundTripper) *Verifier {
	return &Verifier{client: &http.Client{Transport: transport, Timeout: fetchTimeout}, sets: map[string]*keySet{}}
}

// Verify says whether a token is valid now, nil, or why not.
func (v *Verifier) Verify(ctx context.Context, token string, p Policy, now time.Time) error {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return errors.New("the token does not have three parts")
	}
	var header struct{ Alg, Kid string }
	if err := decode(parts[0], &header); err != nil {
		return fmt.Errorf("the header of the token: %w", err)
	}
	if header.Alg != "RS256" {
		return fmt.Errorf("the token is signed by %q, which is not RS256", header.Alg)
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return fmt.Errorf("the signature of the token: %w", err)
	}
	key, err := v.key(ctx, p.KeySet, header.Kid, now)
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if err := rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], signature); err != nil {
		return fmt.Errorf("the signature of the token: %w", err)
	}
	var claims map[string]any
	if err := decode(parts[1], &claims); err != nil {
		return fmt.Errorf("the claims of the token: %w", err)
	}
	return p.check(claims, now)
}

func decode(part string, into any) error {
	text, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

// check holds the claims against the policy. exp and iss must be there; nbf and iat are looked at if they are.
func (p Policy) check(claims map[string]any, now time.Time) error {
	if claims["iss"] != p.Issuer {
		return fmt.Errorf("the token is of issuer %v, not of %s", claims["iss"], p.Issuer)
	}
	seconds := float64(now.UnixMilli()) / 1000
	expires, ok := claims["exp"].(float64)
	if !ok || expires <= seconds {
		return errors.New("the token has expired, or does not say when it does")
	}
	for _, name := range []string{"nbf", "iat"} {
		if value, given := claims[name]; given {
			if from, ok := value.(float64); !ok || from > seconds {
				return fmt.Errorf("the token is not valid yet: %s is %v", name, value)
			}
		}
	}
	for _, c := range p.Claims {
		if !c.holds(claims[c.Name]) {
			return fmt.Errorf("claim %s is %v", c.Name, claims[c.Name])
		}
	}
	return nil
}

func (c Claim) holds(value any) bool {
	var have []string
	switch v := value.(type) {
	case string:
		switch c.Format {
		case SingleString:
			return slices.Contains(c.Values, v)
		case SpaceSeparatedValues:
			have = strings.Fields(v)
		}
	case []any:
		if c.Format != StringArray {
			return false
		}
		for _, one := range v {
			if text, ok := one.(string); ok {
				have = append(have, text)
			}
		}
	}
	for _, want := range c.Values {
		if !slices.Contains(have, want) {
			return false
		}
	}
	return len(have) > 0
}

// key finds a key of a set. A set that is old, or lacks the key, is fetched anew; while that fails, the former keys count.
func (v *Verifier) key(ctx context.Context, url, kid string, now time.Time) (*rsa.PublicKey, error) {
	v.mu.Lock()
	set := v.sets[url]
	if set == nil {
		set = &keySet{}
		v.sets[url] = set
	}
	v.mu.Unlock()
	set.mu.Lock()
	defer set.mu.Unlock()
	if fresh := set.find(kid) != nil && now.Sub(set.fetched) < maxAge; !fresh && now.Sub(set.tried) >= minAge {
		set.tried = now
		if keys, err := v.fetch(ctx, url); err == nil {
			set.keys, set.fetched = keys, now
		} else if set.find(kid) == nil {
			return nil, fmt.Errorf("cannot fetch the key set %s: %w", url, err)
		}
	}
	if key := set.find(kid); key != nil {
		return key, nil
	}
	return nil, fmt.Errorf("the key set %s has no key %q", url, kid)
}

// find finds a key by its id; a token without one is for a set of one key.
func (s *keySet) find(kid string) *rsa.PublicKey {
	if kid == "" && len(s.keys) == 1 {
		for _, key := range s.keys {
			return key
		}
	}
	return s.keys[kid]
}

func (v *Verifier) fetch(ctx context.Context, url string) (map[string]*rsa.PublicKey, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := v.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answers %s", response.Status)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxKeySetBytes+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxKeySetBytes {
		return nil, fmt.Errorf("it is larger than %d bytes", maxKeySetBytes)
	}
	return parseKeySet(text)
}

// parseKeySet reads the RSA keys of a set and leaves out others.
func parseKeySet(text []byte) (map[string]*rsa.PublicKey, error) {
	var set struct {
		Keys []struct{ Kty, Kid, Use, N, E string }
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, err
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("it has %d keys, more than %d", len(set.Keys), maxKeys)
	}
	keys := map[string]*rsa.PublicKey{}
	for _, k := range set.Keys {
		modulus, errN := base64.RawURLEncoding.DecodeString(k.N)
		exponent, errE := base64.RawURLEncoding.DecodeString(k.E)
		if k.Kty != "RSA" || k.Use != "" && k.Use != "sig" || errN != nil || errE != nil || len(exponent) > 4 || len(modulus) == 0 {
			continue
		}
		e := new(big.Int).SetBytes(exponent).Int64()
		keys[k.Kid] = &rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: int(e)}
	}
	return keys, nil
}
