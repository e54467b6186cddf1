package dataplane

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane/jwt"
)

// Gate is an action that a request has to pass before the one that answers it; exactly one field is set.
type Gate struct {
	// JWT lets requests through that carry a valid token in the header Authorization.
	JWT *jwt.Policy
	// Authenticate lets users through who have logged in.
	Authenticate *Authentication
}

// Authentication is the action authenticate-oidc; authenticate-cognito is the same with the endpoints of a user pool.
type Authentication struct {
	Issuer, AuthorizationEndpoint, TokenEndpoint, UserInfoEndpoint string
	ClientID, ClientSecret, Scope                                  string
	// SessionCookie is the name of the session's cookies, without their number, and SessionTimeout how long a session lasts.
	SessionCookie  string
	SessionTimeout time.Duration
	// ExtraParams are added to the query of the redirect to the issuer.
	ExtraParams map[string]string
	// OnUnauthenticated is deny, allow or authenticate. Empty: authenticate.
	OnUnauthenticated string
}

const (
	// callbackPath is where the issuer sends users back to.
	callbackPath = "/oauth2/idpresponse"
	// loginLasts is how long a user may take to log in.
	loginLasts = 15 * time.Minute
	// sessionShard is the size at which the session is cut into several cookies.
	sessionShard    = 4000
	maxSessionShard = 4
	issuerTimeout   = 5 * time.Second
	issuerBytes     = 64 << 10
	// statusIssuer is the answer when the issuer answers with an error.
	statusIssuer = 561
)

var oidcHeaders = []string{"X-Amzn-Oidc-Data", "X-Amzn-Oidc-Identity", "X-Amzn-Oidc-Accesstoken"}

// issuers is how a node speaks to issuers that run beside the sandbox: on the loopback interface only, without verifying their certificates.
func issuers() *http.Transport {
	dialer := net.Dialer{Control: func(_, address string, _ syscall.RawConn) error {
		if to, err := netip.ParseAddrPort(address); err != nil || !to.Addr().IsLoopback() {
			return fmt.Errorf("issuer at %s is not on the loopback interface", address)
		}
		return nil
	}}
	return &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true, DialContext: dialer.DialContext,
	}
}

// pass says whether the request may go on; if not, it has been answered.
func (x *exchange) pass(gates []Gate) bool {
	for _, g := range gates {
		if g.JWT != nil {
			token, ok := strings.CutPrefix(x.r.Header.Get("Authorization"), "Bearer ")
			if !ok || x.node.tokens.Verify(x.r.Context(), token, *g.JWT, x.start) != nil {
				x.refuse(http.StatusUnauthorized)
				return false
			}
		}
		if g.Authenticate != nil && !x.authenticate(g.Authenticate) {
			return false
		}
	}
	return true
}

// session is who has logged in, sealed in cookies.
type session struct {
	Subject, Token string
	Claims         json.RawMessage
	Expires        int64
	// Refresh is the token that gives a new one when Token is over, at TokenExpires. Empty: the session lasts without.
	Refresh      string `json:",omitempty"`
	TokenExpires int64  `json:",omitempty"`
}

// authenticate lets a user through who has a session. Others are sent to the issuer, and come back by way of callbackPath.
func (x *exchange) authenticate(a *Authentication) bool {
	for _, name := range oidcHeaders {
		x.r.Header.Del(name) // nobody but the node says who the user is
	}
	if x.r.URL.Path == callbackPath {
		x.callback(a)
		return false
	}
	if s := x.renewed(a, x.session(a)); s != nil {
		x.r.Header.Set("X-Amzn-Oidc-Identity", s.Subject)
		x.r.Header.Set("X-Amzn-Oidc-Accesstoken", s.Token)
		x.r.Header.Set("X-Amzn-Oidc-Data", x.node.config.Users.sign(a, s, x.node.config.LoadBalancer))
		return true
	}
	switch a.OnUnauthenticated {
	case "allow":
		return true
	case "deny":
		x.refuse(http.StatusUnauthorized)
		return false
	}
	// The cookie binds the state to this browser: a link with somebody else's code and state leads nowhere.
	nonce := rand.Text()
	state := x.node.cookie.seal(a.stateName(), x.start.Add(loginLasts), nonce, x.self()+x.r.URL.RequestURI())
	query := url.Values{
		"response_type": {"code"}, "client_id": {a.ClientID}, "redirect_uri": {x.self() + callbackPath}, "scope": {a.Scope}, "state": {state},
	}
	for name, value := range a.ExtraParams {
		query.Set(name, value)
	}
	separator := "?"
	if strings.Contains(a.AuthorizationEndpoint, "?") {
		separator = "&"
	}
	x.w.Header().Add("Set-Cookie", nonceCookie+"="+nonce+"; Path=/; Secure; HttpOnly; Max-Age="+strconv.Itoa(int(loginLasts.Seconds())))
	x.found(a.AuthorizationEndpoint + separator + query.Encode())
	return false
}

const nonceCookie = "AWSALBAuthNonce"

// name tells apart what is sealed for different clients of different issuers.
func (a *Authentication) name() string { return a.Issuer + " " + a.ClientID }

// stateName tells the states of actions apart that keep their sessions in different cookies, too.
func (a *Authentication) stateName() string {
	return "state of " + a.name() + " for " + a.SessionCookie
}

// self is the node as the client has called it.
func (x *exchange) self() string { return "https://" + x.r.Host }

func (x *exchange) found(location string) {
	x.w.Header().Set("Location", location)
	x.own(http.StatusFound, "text/html", pages[http.StatusFound])
}

// comesBack answers a user whom the issuer has sent back, whichever rule it was that sent him there: the path of the rule need not match
// callbackPath. False: no action of this listener knows the state.
func (x *exchange) comesBack(l *listenerRoutes) bool {
	state := x.r.URL.Query().Get("state")
	for _, a := range l.logins {
		if x.node.cookie.unseal(a.stateName(), state, x.start) != nil {
			x.callback(a)
			return true
		}
	}
	return false
}

// callback exchanges the code for the user, begins the session and sends the client to where it wanted to be.
func (x *exchange) callback(a *Authentication) {
	query := x.r.URL.Query()
	state := x.node.cookie.unseal(a.stateName(), query.Get("state"), x.start)
	nonce, err := x.r.Cookie(nonceCookie)
	if len(state) != 2 || err != nil || nonce.Value != state[0] {
		x.refuse(http.StatusUnauthorized)
		return
	}
	if query.Get("error") != "" || query.Get("code") == "" {
		x.refuse(http.StatusUnauthorized) // the user has refused, or is refused
		return
	}
	form := url.Values{"grant_type": {"authorization_code"}, "code": {query.Get("code")}, "redirect_uri": {x.self() + callbackPath}, "client_id": {a.ClientID}}
	s, err := x.node.askForUser(x.r.Context(), a, form)
	var answered *issuerError
	switch {
	case errors.As(err, &answered):
		x.refuse(statusIssuer)
		return
	case err != nil:
		x.refuse(http.StatusInternalServerError)
		return
	}
	s.Expires = x.start.Add(min(a.SessionTimeout, 7*24*time.Hour)).Unix()
	if !x.keep(a, s) {
		x.refuse(http.StatusInternalServerError)
		return
	}
	x.found(state[1])
}

// keep gives the client the cookies of a session; false: what the issuer says of the user is too large for them.
func (x *exchange) keep(a *Authentication, s *session) bool {
	until := time.Unix(s.Expires, 0)
	text, _ := json.Marshal(s) // of strings and what was JSON before
	sealed := x.node.cookie.seal("session of "+a.name(), until, string(text))
	if len(sealed) > maxSessionShard*sessionShard {
		return false
	}
	for i := 0; len(sealed) > 0; i++ {
		shard := sealed[:min(sessionShard, len(sealed))]
		sealed = sealed[len(shard):]
		x.w.Header().Add("Set-Cookie", fmt.Sprintf("%s-%d=%s; Expires=%s; Path=/; Secure; HttpOnly", a.SessionCookie, i, shard, until.UTC().Format(http.TimeFormat)))
	}
	return true
}

// renewed is a session whose token is good: as it is, or with a new token in exchange for the refresh token. Nil: the user has to log in again,
// since there is none or the issuer does not renew it.
func (x *exchange) renewed(a *Authentication, s *session) *session {
	if s == nil || s.Refresh == "" || s.TokenExpires == 0 || x.start.Unix() < s.TokenExpires {
		return s
	}
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {s.Refresh}, "client_id": {a.ClientID}}
	fresh, err := x.node.askForUser(x.r.Context(), a, form)
	if err != nil || fresh.Subject != s.Subject {
		return nil
	}
	if fresh.Refresh == "" {
		fresh.Refresh = s.Refresh // which goes on being good
	}
	fresh.Expires = s.Expires
	if !x.keep(a, fresh) {
		return nil
	}
	return fresh
}

// session opens the cookies of a session, nil: there is none that is valid. Clients keep the last cookies of an older session that had more of
// them.
func (x *exchange) session(a *Authentication) *session {
	sealed := ""
	for i := range maxSessionShard {
		c, err := x.r.Cookie(fmt.Sprintf("%s-%d", a.SessionCookie, i))
		if err != nil {
			break
		}
		sealed += c.Value
		parts := x.node.cookie.unseal("session of "+a.name(), sealed, x.start)
		if s := (&session{}); len(parts) == 1 && json.Unmarshal([]byte(parts[0]), s) == nil {
			return s
		}
	}
	return nil
}

// issuerError is an answer of the issuer that is an error.
type issuerError struct{ status string }

func (e *issuerError) Error() string { return "the issuer answers " + e.status }

// askForUser asks the issuer for a token in exchange for what form holds, and for the user that belongs to the token.
func (n *Node) askForUser(ctx context.Context, a *Authentication, form url.Values) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, issuerTimeout)
	defer cancel()
	asked := time.Now()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, a.TokenEndpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.SetBasicAuth(url.QueryEscape(a.ClientID), url.QueryEscape(a.ClientSecret))
	var token struct {
		AccessToken  string `json:"access_token"`
		RefreshToken string `json:"refresh_token"`
		ExpiresIn    int64  `json:"expires_in"`
	}
	if _, err := n.askIssuer(request, &token); err != nil {
		return nil, err
	}
	if request, err = http.NewRequestWithContext(ctx, http.MethodGet, a.UserInfoEndpoint, nil); err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+token.AccessToken)
	var user struct{ Sub string }
	claims, err := n.askIssuer(request, &user)
	if err != nil {
		return nil, err
	}
	if token.AccessToken == "" || user.Sub == "" {
		return nil, &issuerError{"without an access token or a subject"}
	}
	s := &session{Subject: user.Sub, Token: token.AccessToken, Claims: claims, Refresh: token.RefreshToken}
	if token.ExpiresIn > 0 {
		s.TokenExpires = asked.Unix() + token.ExpiresIn
	}
	return s, nil
}

func (n *Node) askIssuer(request *http.Request, into any) (json.RawMessage, error) {
	response, err := n.config.Issuers.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, issuerBytes))
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, &issuerError{response.Status}
	}
	if err := json.Unmarshal(text, into); err != nil {
		return nil, &issuerError{"with " + err.Error()}
	}
	return text, nil
}
