package jwt

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// issuer is a key set at a URL, and signs.
type issuer struct {
	*testing.T
	key     *rsa.PrivateKey
	kid     string
	fetches int
	down    bool
	server  *httptest.Server
}

func newIssuer(t *testing.T) *issuer {
	i := &issuer{T: t, kid: "one"}
	i.turn("one")
	i.server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		i.fetches++
		if i.down {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		e := big.NewInt(int64(i.key.E)).Bytes()
		_, _ = fmt.Fprintf(w, `{"keys":[{"kty":"EC","kid":"other"},{"kty":"RSA","use":"sig","kid":%q,"n":%q,"e":%q}]}`,
			i.kid, base64.RawURLEncoding.EncodeToString(i.key.N.Bytes()), base64.RawURLEncoding.EncodeToString(e))
	}))
	t.Cleanup(i.server.Close)
	return i
}

// turn makes a new key.
func (i *issuer) turn(kid string) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		i.Fatal(err)
	}
	i.key, i.kid = key, kid
}

func (i *issuer) sign(alg string, claims map[string]any) string {
	part := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			i.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(text)
	}
	text := part(map[string]string{"alg": alg, "kid": i.kid}) + "." + part(claims)
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, i.key, crypto.SHA256, sum[:])
	if err != nil {
		i.Fatal(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func TestVerify(t *testing.T) {
	t.Parallel()
	i, now := newIssuer(t), time.Unix(1_800_000_000, 0)
	v := NewVerifier(i.server.Client().Transport)
	p := Policy{Issuer: "https://issuer", KeySet: i.server.URL, Claims: []Claim{
		{"aud", SingleString, []string{"shop", "cart"}}, {"groups", StringArray, []string{"a", "b"}}, {"scope", SpaceSeparatedValues, []string{"read"}},
	}}
	good := func(change ...any) map[string]any {
		claims := map[string]any{
			"iss": "https://issuer", "exp": now.Unix() + 60, "iat": now.Unix(), "nbf": now.Unix(),
			"aud": "cart", "groups": []string{"b", "c", "a"}, "scope": "write read",
		}
		for n := 0; n < len(change); n += 2 {
			if change[n+1] == nil {
				delete(claims, change[n].(string))
				continue
			}
			claims[change[n].(string)] = change[n+1]
		}
		return claims
	}
	valid := i.sign("RS256", good())
	for _, c := range []struct {
		name, token string
		valid       bool
	}{
		{"good", valid, true},
		{"without nbf and iat", i.sign("RS256", good("nbf", nil, "iat", nil)), true},
		{"expired", i.sign("RS256", good("exp", now.Unix())), false},
		{"never expires", i.sign("RS256", good("exp", nil)), false},
		{"expires as text", i.sign("RS256", good("exp", "2100")), false},
		{"not yet", i.sign("RS256", good("nbf", now.Unix()+5)), false},
		{"issued later", i.sign("RS256", good("iat", now.Unix()+5)), false},
		{"other issuer", i.sign("RS256", good("iss", "https://other")), false},
		{"no issuer", i.sign("RS256", good("iss", nil)), false},
		{"other audience", i.sign("RS256", good("aud", "bank")), false},
		{"a group is missing", i.sign("RS256", good("groups", []string{"a"})), false},
		{"groups as text", i.sign("RS256", good("groups", "a b")), false},
		{"scope is part of a word", i.sign("RS256", good("scope", "reads")), false},
		{"no algorithm", i.sign("none", good()), false},
		{"symmetric", i.sign("HS256", good()), false},
		{"changed", valid[:strings.LastIndex(valid, ".")-3] + "AAA" + valid[strings.LastIndex(valid, "."):], false},
		{"not signed", valid[:strings.LastIndex(valid, ".")+1], false},
		{"nonsense", "a.b.c", false}, {"empty", "", false},
	} {
		if err := v.Verify(t.Context(), c.token, p, now); (err == nil) != c.valid {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if i.fetches != 1 {
		t.Errorf("the key set was fetched %d times", i.fetches)
	}
}

// A key that is new is found, and a key set that cannot be fetched again still counts.
func TestKeysTurn(t *testing.T) {
	t.Parallel()
	i, now := newIssuer(t), time.Unix(1_800_000_000, 0)
	v := NewVerifier(i.server.Client().Transport)
	p := Policy{Issuer: "i", KeySet: i.server.URL}
	check := func(what string, valid bool) {
		t.Helper()
		err := v.Verify(t.Context(), i.sign("RS256", map[string]any{"iss": "i", "exp": 4_000_000_000}), p, now)
		if (err == nil) != valid {
			t.Errorf("%s: %v", what, err)
		}
	}
	check("first", true)
	i.turn("two")
	check("a key that came a moment after the fetch", false)
	now = now.Add(2 * time.Second)
	check("a new key", true)
	i.down = true
	now = now.Add(time.Hour)
	check("the key set is down", true)
	i.turn("three")
	now = now.Add(time.Hour)
	check("a new key of a set that is down", false)
}

func FuzzVerify(f *testing.F) {
	f.Add("a.b.c", `{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}`)
	f.Add("eyJhbGciOiJSUzI1NiJ9.e30.AAAA", `{"keys":[{"kty":"RSA","n":"AA","e":"AAAA"}]}`)
	f.Fuzz(func(t *testing.T, token, set string) {
		v := NewVerifier(transport(set))
		if v.Verify(t.Context(), token, Policy{Issuer: "i", KeySet: "https://i/"}, time.Unix(1_800_000_000, 0)) == nil {
			t.Errorf("%q is valid by %q", token, set)
		}
	})
}

// transport answers everything with a text.
type transport string

func (s transport) RoundTrip(*http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	_, _ = w.WriteString(string(s))
	return w.Result(), nil
}
