package dataplane

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane/desync"
)

// exchange is one request on its way through a node, with everything that was true when it came.
type exchange struct {
	node     *Node
	client   *client
	routes   *routes
	listener *listenerRoutes
	w        http.ResponseWriter
	r        *http.Request
	start    time.Time
	socket   *socket
	uri      string // for the target, and so is hostname
	hostname string
	subject  subject
	upgrade  string   // the protocol to which the client wants to change
	verdict  *verdict // nil for HTTP/2
	group    *group   // once it is chosen
	begun    bool     // the response has begun: no error page any more
}

// exchange is where the next request is kept: over HTTP/1 there is one at a time, and all of them take the same place.
func (c *client) exchange() *exchange {
	if c.inspected != nil {
		return &c.inspected.exchange
	}
	return new(exchange)
}

// ServeHTTP is the way of one request: match, then act.
func (s *socket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := s.node
	routes := n.routes.Load()
	l := routes.listeners[s.port]
	if l == nil {
		panic(http.ErrAbortHandler) // the listener was removed, its connections are being closed
	}
	n.requests.Add(1)
	client, _ := r.Context().Value(clientKey{}).(*client)
	x := client.exchange()
	*x = exchange{node: n, client: client, routes: routes, listener: l, w: w, r: r, start: time.Now(), socket: s, uri: r.RequestURI, hostname: r.Host}
	if in := client.inspected; in != nil {
		defer in.finish()
		x.verdict = &in.verdict
		in.old = x.verdict.Old
		if x.verdict.Continue && r.ContentLength != 0 && r.ProtoAtLeast(1, 1) {
			w.WriteHeader(http.StatusContinue)
		}
		if r.ContentLength != 0 {
			_ = in.SetReadDeadline(x.start.Add(routes.attributes.IdleTimeout)) // net/http waits for the body even if nobody here reads it
		}
	}
	if x.apart() || x.start.Sub(x.client.accepted) > routes.attributes.ClientKeepAlive || x.client.requests.Add(1) >= requestsPerConnection {
		w.Header().Set("Connection", "close") // which HTTP/2 says by GOAWAY
	}
	if x.verdict != nil && x.verdict.Status != 0 {
		x.refuse(x.verdict.Status)
		return
	}
	if status := unacceptable(r); status != 0 {
		x.refuse(status)
		return
	}
	if x.grpc() {
		n.grpc.Add(1)
	}
	if x.client.peer.Addr().Is6() {
		n.ipv6Requests.Add(1)
	}
	x.subject = newSubject(r, x.client.peer.Addr())
	a, looked := l.match(&x.subject)
	n.evaluations.Add(uint64(looked))
	if r.URL.Path == callbackPath && x.comesBack(l) || !x.pass(a.gates) {
		return
	}
	switch {
	case a.forward != nil:
		if !strings.HasPrefix(x.uri, "/") && x.uri != "*" {
			x.uri = r.URL.RequestURI() // the client wrote an absolute URI
		}
		x.uri = strings.ReplaceAll(x.uri, " ", "%20") // which HTTP/2 can carry
		if !x.rewrite(a.rewrites) {
			x.refuse(http.StatusInternalServerError)
			return
		}
		x.upgrade = upgrade(r)
		x.forward(a.forward)
	case a.redirect != nil:
		location := x.location(a.redirect)
		if len(location) > redirectLimit {
			n.redirectsTooLong.Add(1)
			x.refuse(http.StatusInternalServerError)
			return
		}
		n.redirects.Add(1)
		w.Header().Set("Location", location)
		x.own(a.redirect.Status, "text/html", pages[a.redirect.Status])
	default:
		n.fixed.Add(1)
		x.own(a.fixed.Status, a.fixed.ContentType, []byte(a.fixed.Body))
	}
}

// apart says whether the connections of the request serve no other one.
func (x *exchange) apart() bool { return x.verdict != nil && x.verdict.apart }

// unacceptable returns the status for a request that is answered before any rule is looked at, or 0.
func unacceptable(r *http.Request) int {
	if r.Method == http.MethodTrace {
		return http.StatusMethodNotAllowed
	}
	if r.ProtoMajor == 2 {
		if !desync.Method(r.Method) || !desync.Host(r.Host) {
			return http.StatusBadRequest // they would be read as something else in a request line, or behind Host:, of HTTP/1.1
		}
		if status := tooLong(r); status != 0 {
			return status
		}
	}
	addresses := 0
	for _, v := range r.Header["X-Forwarded-For"] {
		addresses += strings.Count(v, ",") + 1
	}
	if addresses > forwardedForLimit {
		return statusTooManyAddresses
	}
	return 0
}

// tooLong is unacceptable for the limits of a request over HTTP/2; over HTTP/1 they have been looked at when its head was read.
func tooLong(r *http.Request) int {
	if len(r.Method)+len(r.RequestURI)+len(" HTTP/1.1 ") > requestLineLimit {
		return http.StatusRequestURITooLong
	}
	all := 0
	for name, values := range r.Header {
		for _, v := range values {
			one := len(name) + len(v)
			if one > oneHeaderLimit {
				return http.StatusBadRequest
			}
			all += one
		}
	}
	if all > requestHeadersLimit {
		return http.StatusBadRequest
	}
	return 0
}

// location fills in the placeholders of a redirect.
func (x *exchange) location(to *Redirect) string {
	scheme := strings.ToLower(string(x.listener.protocol))
	values := strings.NewReplacer(
		"#{protocol}", scheme,
		"#{host}", withoutPort(x.r.Host),
		"#{port}", x.listener.portText,
		"#{path}", strings.TrimPrefix(x.r.URL.EscapedPath(), "/"),
		"#{query}", x.r.URL.RawQuery,
	)
	part := func(template, otherwise string) string {
		if template == "" {
			template = otherwise
		}
		return values.Replace(template)
	}
	scheme = strings.ToLower(part(to.Protocol, "#{protocol}"))
	url := scheme + "://" + part(to.Host, "#{host}")
	if port := part(to.Port, "#{port}"); !(scheme == "http" && port == "80" || scheme == "https" && port == "443") {
		url += ":" + port
	}
	url += part(to.Path, "/#{path}")
	if query := values.Replace(to.Query); query != "" {
		url += "?" + query
	}
	return url
}

// The names of the cookies of both kinds of stickiness, each with its copy for cross-origin requests.
var (
	groupCookies  = [2]string{groupCookie, groupCookieCORS}
	targetCookies = [2]string{targetCookie, targetCookieCORS}
)

// pick draws the group of a request, unless a cookie has decided. Nil: all weights are 0.
func (f *forward) pick(x *exchange) *group {
	if f.stickiness > 0 {
		if parts := x.node.cookie.open(x.r, groupCookies, x.start); len(parts) == 1 {
			// A group whose weight has become 0 still serves the clients that hold its cookie.
			if i := slices.IndexFunc(f.groups, func(g *group) bool { return g.arn == parts[0] }); i >= 0 {
				return f.groups[i]
			}
		}
	}
	if len(f.groups) == 1 {
		return f.groups[0]
	}
	sum := f.cumulative[len(f.cumulative)-1]
	if sum == 0 {
		return nil
	}
	ticket := x.node.draw() % sum
	return f.groups[sort.Search(len(f.cumulative), func(i int) bool { return ticket < f.cumulative[i] })]
}

// forward sends the request to a target and the response back. A failed attempt is never repeated.
func (x *exchange) forward(f *forward) {
	g := f.pick(x)
	if g == nil {
		x.refuse(http.StatusServiceUnavailable)
		return
	}
	x.group = g
	g.requests.Add(1)
	for {
		p := g.pool.Load()
		if p.settings.Function {
			x.invoke(p)
			return
		}
		t := x.target(g, p, f)
		switch {
		case t == nil:
			x.refuse(http.StatusServiceUnavailable)
			return
		case !x.fits(p.settings.ProtocolVersion):
			x.refuse(statusWrongProtocol)
			return
		}
		if p.open {
			g.opened.Add(1)
		}
		err := x.send(t, p, f)
		if errors.Is(err, errLeft) {
			// The target began to drain between choice and use, and nothing was sent: choose again from the pool
			// as it is when that change is complete.
			g.mu.Lock()
			//lint:ignore SA2001 waiting for whoever holds the lock is the purpose
			g.mu.Unlock()
			continue
		}
		if err != nil {
			x.fail(err)
		}
		return
	}
}

// functionBodyLimit is the size of a body above which a function is not asked.
const functionBodyLimit = 1 << 20

// invoke answers as if the function had failed.
func (x *exchange) invoke(p *pool) {
	if len(p.eligible) == 0 {
		x.refuse(http.StatusServiceUnavailable)
		return
	}
	n, err := io.Copy(io.Discard, io.LimitReader(x.r.Body, functionBodyLimit+1))
	switch {
	case err != nil:
		x.fail(&bodyError{err})
	case n > functionBodyLimit:
		x.refuse(http.StatusRequestEntityTooLarge)
	default:
		x.refuse(http.StatusBadGateway)
	}
}

// target is that of the client's cookie, or else the next one.
func (x *exchange) target(g *group, p *pool, f *forward) *target {
	if names := x.targetCookies(p, f); names[0] != "" && len(p.eligible) > 0 {
		if parts := x.node.cookie.open(x.r, names, x.start); len(parts) == 3 && parts[0] == g.arn {
			port, _ := strconv.ParseUint(parts[2], 10, 16)
			if t := p.sticky(TargetKey{ID: parts[1], Port: uint16(port)}); t != nil {
				return t
			}
			x.node.nonSticky.Add(1)
		}
	}
	return g.choose(p, x.start)
}

// targetCookies names the cookies that hold the target of this client, if any count.
func (x *exchange) targetCookies(p *pool, f *forward) [2]string {
	if p.settings.Stickiness > 0 {
		return targetCookies
	}
	if name := p.settings.AppCookie.Name; name != "" && len(f.groups) == 1 {
		if _, err := x.r.Cookie(name); err == nil {
			return [2]string{appCookie}
		}
	}
	return [2]string{}
}

// fits says whether the request can be sent to a group that speaks a version of HTTP: nothing is translated from version 1 to 2, and gRPC not
// from 2 to 1.
func (x *exchange) fits(version string) bool {
	switch version {
	case HTTP2:
		return x.r.ProtoMajor == 2
	case GRPC:
		return x.r.ProtoMajor == 2 && x.r.Method == http.MethodPost
	}
	return !x.grpc()
}

// grpc says whether the client speaks gRPC.
func (x *exchange) grpc() bool {
	return x.r.ProtoMajor == 2 && strings.HasPrefix(x.r.Header.Get("Content-Type"), "application/grpc")
}

// fail shows an error to the client as far as that is still possible.
func (x *exchange) fail(err error) {
	if x.begun {
		panic(http.ErrAbortHandler)
	}
	x.refuse(statusOf(err))
}

// hook makes the client's going away end the exchange with the target; unhook takes that back, and is false when it has happened.
func (x *exchange) hook(u *upstream) (unhook func() bool) {
	if in := x.client.inspected; in != nil {
		in.awaits(u)
		return in.answered
	}
	return context.AfterFunc(x.r.Context(), func() { u.abort(errClientGone) })
}

// send makes one attempt with one target.
func (x *exchange) send(t *target, p *pool, f *forward) error {
	ctx := x.r.Context()
	t.usage.inFlight.Add(1)
	defer t.usage.inFlight.Add(^uint64(0))
	u, err := t.acquire(ctx, &p.settings, x.routes.attributes.IdleTimeout)
	if err != nil {
		switch {
		case errors.Is(err, errLeft), errors.Is(err, errClientGone):
		case errors.Is(err, errHandshake):
			t.usage.tlsErrors.Add(1)
		default:
			t.usage.connectErrors.Add(1)
		}
		return err
	}
	if t.usage.began(u.begun) {
		x.node.journal(Event{At: u.begun, Kind: TargetFirstRequest, Group: t.group.arn, Target: t.key})
	}
	defer t.usage.ended()
	fit := false
	defer func() { t.release(u, fit) }()
	if u.h2 != nil {
		fit, err = x.multiplexed(u, t, p, f)
		return err
	}
	unhook := x.hook(u)
	defer unhook()

	u.budget = -1
	writeErr := x.request(u)
	var clientError *bodyError
	if errors.As(writeErr, &clientError) {
		return writeErr // the target has half a request, it will never answer
	}
	sent := time.Now()
	// A target may answer and close before it has read the whole request: then its answer counts, not our failure to write.
	res, err := x.answer(u)
	if err != nil {
		t.usage.broke(err)
		return cmp.Or(writeErr, err)
	}
	defer res.Body.Close()
	t.group.times.add(time.Since(sent))
	t.usage.status[res.StatusCode/100].Add(1)
	if res.StatusCode == http.StatusSwitchingProtocols {
		return x.tunnel(u, res, t, p, f)
	}
	if res.ContentLength > 0 && res.Body != http.NoBody {
		// Until its body begins, an answer that lacks it can still become an error page.
		if _, err := u.r.Peek(1); err != nil {
			t.usage.broke(err)
			return err
		}
	}
	x.head(res, t, p, f)
	if err := x.body(res); err != nil {
		t.usage.broke(err)
		return err
	}
	x.trailer(res)
	fit = writeErr == nil && !res.Close && u.quiet() && !x.apart() && unhook()
	return nil
}
