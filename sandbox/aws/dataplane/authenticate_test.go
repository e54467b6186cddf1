package dataplane

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane/jwt"
)

// newIssuer starts a test issuer that lets everybody log in as kim; what it answers for tokens can be changed.
func newIssuer(t *testing.T) (a *Authentication, token func(http.HandlerFunc)) {
	var answer http.HandlerFunc
	mux := http.NewServeMux()
	mux.HandleFunc("/authorize", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if q.Get("response_type") != "code" || q.Get("client_id") != "shop" || q.Get("scope") != "openid email" || q.Get("prompt") != "login" {
			t.Errorf("asked to authorize with %v", q)
		}
		http.Redirect(w, r, q.Get("redirect_uri")+"?"+url.Values{"code": {"c0de"}, "state": {q.Get("state")}}.Encode(), http.StatusFound)
	})
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		if answer != nil {
			answer(w, r)
			return
		}
		id, secret, _ := r.BasicAuth()
		if r.PostFormValue("code") != "c0de" || id != "shop" || secret != "s3cret" || r.PostFormValue("grant_type") != "authorization_code" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		_, _ = io.WriteString(w, `{"access_token": "t0ken", "token_type": "Bearer"}`)
	})
	mux.HandleFunc("/userinfo", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer t0ken" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = fmt.Fprintf(w, "{\"sub\": \"kim\",\n \"email\": %q}", strings.Repeat("k", 5000)+"@example.com") // needs more than one cookie
	})
	server := httptest.NewTLSServer(mux)
	t.Cleanup(server.Close)
	return &Authentication{
		Issuer: server.URL, AuthorizationEndpoint: server.URL + "/authorize", TokenEndpoint: server.URL + "/token", UserInfoEndpoint: server.URL + "/userinfo",
		ClientID: "shop", ClientSecret: "s3cret", Scope: "openid email", SessionCookie: "AWSELBAuthSessionCookie", SessionTimeout: time.Hour,
		ExtraParams: map[string]string{"prompt": "login"},
	}, func(h http.HandlerFunc) { answer = h }
}

// gated applies an HTTPS listener that forwards what passes the gates, and gives the client of the world a jar.
func (w *world) gated(gates ...Gate) {
	w.Helper()
	w.secured(Attributes{WithoutHTTP2: true}, only("g"))
	l := Listener{Port: 8080, Protocol: HTTPS, Certificates: []tls.Certificate{certificate(w.T, "a.example.com")},
		Default: Action{Gates: gates, Forward: &Forward{Groups: []WeightedGroup{only("g")}}}}
	w.apply(NodeConfig{Listeners: []Listener{l}})
	w.client.Jar, _ = cookiejar.New(nil)
}

func TestLogin(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	a.on(func(rw http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(rw).Encode([]string{r.RequestURI, r.Header.Get("X-Amzn-Oidc-Identity"), r.Header.Get("X-Amzn-Oidc-Accesstoken"), r.Header.Get("X-Amzn-Oidc-Data")})
	})
	w.healthyGroup("g", a.Target)
	login, _ := newIssuer(t)
	w.gated(Gate{Authenticate: login})
	w.client.CheckRedirect = nil

	res, body := w.get2("/cart?x=1&y=2")
	var got []string
	if err := json.Unmarshal([]byte(body), &got); err != nil || res.StatusCode != 200 {
		t.Fatalf("got %s %q", res.Status, body)
	}
	if got[0] != "/cart?x=1&y=2" || got[1] != "kim" || got[2] != "t0ken" {
		t.Errorf("got %q", got[:3])
	}
	parts := strings.Split(got[3], ".")
	payload, err := base64.URLEncoding.DecodeString(parts[1])
	if err != nil || len(parts) != 3 || !bytes.Contains(payload, []byte(`@example.com`)) || !bytes.Contains(payload, []byte(`"iss":"`+login.Issuer)) {
		t.Errorf("got %q, %v", payload, err)
	}
	verifyUser(t, w.node.config.Users, parts)
	if n := w.node.Stats().Redirects; n != 0 {
		t.Errorf("a login counts as %d redirects of rules", n)
	}

	for _, cookie := range w.client.Jar.Cookies(&url.URL{Scheme: "https", Host: w.at.String(), Path: "/"}) {
		if cookie.Name == nonceCookie || strings.HasPrefix(cookie.Name, login.SessionCookie) {
			continue
		}
		t.Errorf("unexpected cookie %s", cookie.Name)
	}
}

// Only some paths need a login, and the one to which the issuer sends users back is not among them.
func TestLoginOfARule(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	a.on(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(rw, r.URL.Path+" "+r.Header.Get("X-Amzn-Oidc-Identity"))
	})
	w.healthyGroup("g", a.Target)
	login, _ := newIssuer(t)
	other := *login
	other.SessionCookie = "Other"
	w.gated()
	rule := func(priority int, path string, a *Authentication) Rule {
		return Rule{Priority: priority, Conditions: []Condition{{Field: PathPattern, Values: []string{path}}},
			Action: Action{Gates: []Gate{{Authenticate: a}}, Forward: &Forward{Groups: []WeightedGroup{only("g")}}}}
	}
	l := Listener{Port: 8080, Protocol: HTTPS, Certificates: []tls.Certificate{certificate(w.T, "a.example.com")},
		Default: Action{Forward: &Forward{Groups: []WeightedGroup{only("g")}}}, Rules: []Rule{rule(1, "/mine/*", login), rule(2, "/yours/*", &other)}}
	w.apply(NodeConfig{Listeners: []Listener{l}})
	w.client.CheckRedirect = nil
	for path, want := range map[string]string{"/mine/1": "/mine/1 kim", "/yours/1": "/yours/1 kim", "/open": "/open ", callbackPath + "?state=AAAA&code=c": callbackPath + " "} {
		if _, body := w.get2(path); body != want {
			t.Errorf("%s: got %q, want %q", path, body, want)
		}
	}
}

func TestLoginThatFails(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	a.on(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(rw, r.Header.Get("X-Amzn-Oidc-Identity"))
	})
	w.healthyGroup("g", a.Target)
	login, token := newIssuer(t)
	with := func(change func(*Authentication)) Gate {
		one := *login
		change(&one)
		return Gate{Authenticate: &one}
	}
	for _, c := range []struct {
		name, path string
		gate       Gate
		token      http.HandlerFunc
		status     int
	}{
		{"deny", "/", with(func(a *Authentication) { a.OnUnauthenticated = "deny" }), nil, 401},
		{"allow", "/", with(func(a *Authentication) { a.OnUnauthenticated = "allow" }), nil, 200},
		{"forged-state", callbackPath + "?code=c0de&state=AAAA", with(func(*Authentication) {}), nil, 401},
		{"issuer-refuses", "/", with(func(*Authentication) {}), func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(400) }, 561},
		{"issuer-without-sense", "/", with(func(*Authentication) {}), func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "[") }, 561},
		{"issuer-gone", "/", with(func(a *Authentication) { a.TokenEndpoint = "https://127.0.0.1:1/" }), nil, 500},
		{"issuer-elsewhere", "/", with(func(a *Authentication) { a.TokenEndpoint = "https://192.0.2.1/" }), nil, 500},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.T = t
			token(c.token)
			w.gated(c.gate)
			w.client.CheckRedirect = nil
			r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+w.at.String()+c.path, nil)
			r.Header.Set("X-Amzn-Oidc-Identity", "somebody else")
			status, _, body := w.do(r)
			if status != c.status || status == 200 && body != "" {
				t.Errorf("got %d %q, want %d", status, body, c.status)
			}
		})
	}

	// A state and a code that another browser began are worth nothing here.
	w.T = t
	token(nil)
	w.gated(Gate{Authenticate: login})
	w.client.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		if r.URL.Path == callbackPath {
			return http.ErrUseLastResponse
		}
		return nil
	}
	res, _ := w.get2("/")
	back, err := res.Location()
	if err != nil {
		t.Fatal(err)
	}
	w.client.Jar = nil
	if res, _ := w.get2(back.RequestURI()); res.StatusCode != 401 {
		t.Errorf("in another browser: got %s", res.Status)
	}
}

func TestTokensAreValidated(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	w := newWorld(t, func(c *Config) {
		c.Issuers = answers(fmt.Sprintf(`{"keys":[{"kty":"RSA","kid":"k","n":%q,"e":"AQAB"}]}`, encode(key.N.Bytes())))
	})
	signed := encode([]byte(`{"alg":"RS256","kid":"k"}`)) + "." + encode(fmt.Appendf(nil, `{"iss":"https://issuer","exp":%d}`, time.Now().Unix()+60))
	sum := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	token := "Bearer " + signed + "." + encode(signature)

	a := w.serve("a")
	a.on(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(rw, r.Header.Get("Authorization"))
	})
	w.healthyGroup("g", a.Target)
	w.gated(Gate{JWT: &jwt.Policy{Issuer: "https://issuer", KeySet: "https://issuer/keys"}})
	for header, want := range map[string]int{token: 200, "": 401, "Basic abc": 401, "Bearer": 401, "Bearer a.b.c": 401, token + "x": 401} {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+w.at.String()+"/", nil)
		r.Header.Set("Authorization", header)
		status, h, body := w.do(r)
		if status != want || want == 401 && h.Get("Server") != "awselb/2.0" || want == 200 && body != token {
			t.Errorf("%q: got %d %q", header, status, body)
		}
	}
}

// answers is an issuer that answers everything with a text.
type answers string

func (s answers) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Status: "200 OK", Body: io.NopCloser(strings.NewReader(string(s)))}, nil
}

// verifyUser checks the signature of the header as targets do: with the public key of the id in it.
func verifyUser(t *testing.T, s *Signer, parts []string) {
	t.Helper()
	text, _ := base64.URLEncoding.DecodeString(parts[0])
	var header struct{ Kid, Alg string }
	if err := json.Unmarshal(text, &header); err != nil || header.Alg != "ES256" {
		t.Fatalf("header %s: %v", text, err)
	}
	if s.PublicKey(header.Kid+"x") != nil {
		t.Error("there is a key of another id")
	}
	block, _ := pem.Decode(s.PublicKey(header.Kid))
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	signature, _ := base64.URLEncoding.DecodeString(parts[2])
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if len(signature) != 64 || !ecdsa.Verify(key.(*ecdsa.PublicKey), sum[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])) {
		t.Error("the signature is not that of the key")
	}
}

// TestTokensAreRenewed: the access token is over at once, and a refresh token goes with it; the issuer renews it once.
func TestTokensAreRenewed(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	a.on(func(rw http.ResponseWriter, r *http.Request) {
		http.SetCookie(rw, &http.Cookie{Name: "mine", Value: "1"})
		_, _ = io.WriteString(rw, r.Header.Get("X-Amzn-Oidc-Identity"))
	})
	w.healthyGroup("g", a.Target)
	login, token := newIssuer(t)
	var kinds []string
	renews := true
	token(func(rw http.ResponseWriter, r *http.Request) {
		kind := r.PostFormValue("grant_type")
		kinds = append(kinds, kind)
		if kind == "refresh_token" && (!renews || r.PostFormValue("refresh_token") != "again") {
			rw.WriteHeader(http.StatusBadRequest)
			return
		}
		expires := 0
		if kind == "authorization_code" {
			expires = -1 // none that counts
		}
		_, _ = fmt.Fprintf(rw, `{"access_token": "t0ken", "refresh_token": "again", "expires_in": %d}`, expires)
	})
	w.gated(Gate{Authenticate: login})
	w.client.CheckRedirect = nil
	if _, body := w.get2("/"); body != "kim" {
		t.Fatalf("got %q", body)
	}
	if fmt.Sprint(kinds) != "[authorization_code]" {
		t.Fatalf("asked for %v", kinds)
	}
	over := &session{Subject: "kim", Token: "old", Claims: []byte(`{}`), Expires: time.Now().Add(time.Hour).Unix(), Refresh: "again", TokenExpires: time.Now().Unix() - 1}
	text, _ := json.Marshal(over)
	home := &url.URL{Scheme: "https", Host: w.at.String(), Path: "/"}
	forget := func() {
		w.client.Jar, _ = cookiejar.New(nil)
		sealed := w.node.cookie.seal("session of "+login.name(), time.Now().Add(time.Hour), string(text))
		w.client.Jar.SetCookies(home, []*http.Cookie{{Name: login.SessionCookie + "-0", Value: sealed}})
	}
	forget()
	kinds = nil
	res, body := w.get2("/")
	if body != "kim" || fmt.Sprint(kinds) != "[refresh_token]" {
		t.Errorf("got %q after asking for %v", body, kinds)
	}
	names := ""
	for _, c := range res.Cookies() {
		names += c.Name + " "
	}
	if !strings.Contains(names, login.SessionCookie+"-0 ") || !strings.Contains(names, "mine ") {
		t.Errorf("cookies %s", names)
	}
	forget()
	kinds, renews = nil, false // the user has to log in again
	if _, body := w.get2("/"); body != "kim" || fmt.Sprint(kinds) != "[refresh_token authorization_code]" {
		t.Errorf("got %q after asking for %v", body, kinds)
	}
}

// TestSessionCookies: a session is found among what is left of an older one that needed more cookies, and one that needs too many does not begin.
func TestSessionCookies(t *testing.T) {
	w := newWorld(t)
	w.healthyGroup("g", w.serve("a").Target)
	login, token := newIssuer(t)
	w.gated(Gate{Authenticate: login})
	text, _ := json.Marshal(session{Subject: "kim", Token: "t0ken", Claims: []byte(`{}`), Expires: time.Now().Add(time.Hour).Unix()})
	sealed := w.node.cookie.seal("session of "+login.name(), time.Now().Add(time.Hour), string(text))
	w.client.Jar.SetCookies(&url.URL{Scheme: "https", Host: w.at.String(), Path: "/"}, []*http.Cookie{
		{Name: login.SessionCookie + "-0", Value: sealed}, {Name: login.SessionCookie + "-1", Value: "older"},
	})
	if res, body := w.get2("/"); body != "a" {
		t.Errorf("got %s %q", res.Status, body)
	}

	w.client.Jar, _ = cookiejar.New(nil)
	w.client.CheckRedirect = nil
	token(func(rw http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(rw, `{"access_token": "t0ken", "refresh_token": %q}`, strings.Repeat("x", maxSessionShard*sessionShard))
	})
	if res, _ := w.get2("/"); res.StatusCode != 500 || res.Header.Get("Server") != "awselb/2.0" {
		t.Errorf("a session that no cookies hold: got %s", res.Status)
	}
}

func TestFunctionsAreNotThere(t *testing.T) {
	w := newWorld(t)
	w.node.ApplyGroup(Group{ARN: "g", Protocol: HTTP, Function: true})
	w.forwarding(only("g"))
	w.wantOwn(503)
	w.node.ApplyTargets("g", TargetSet{Targets: []Target{{ID: "arn:aws:lambda:eu-west-1:123456789012:function:x", Zone: "all"}}})
	w.wantOwn(502)
	for size, want := range map[int]int{functionBodyLimit: 502, functionBodyLimit + 1: 413} {
		r, _ := http.NewRequest(http.MethodPost, w.url("/"), bytes.NewReader(make([]byte, size)))
		if status, header, _ := w.do(r); status != want || header.Get("Server") != "awselb/2.0" {
			t.Errorf("a body of %d: %d by %q", size, status, header.Get("Server"))
		}
	}
}
