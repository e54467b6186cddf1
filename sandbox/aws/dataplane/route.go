package dataplane

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane/desync"
)

// routes is one NodeConfig, compiled. It never changes: a request takes the routes of its moment and stays with
// them, a new version is a new value.
type routes struct {
	version    uint64
	attributes Attributes
	listeners  map[uint16]*listenerRoutes
}

type listenerRoutes struct {
	port     uint16
	portText string // for headers
	protocol Protocol
	tls      *tls.Config // nil for HTTP
	mutual   *mutual     // nil: clients are not asked for certificates
	rules    []compiledRule
	fallback *action
	logins   []*Authentication // of all actions
	// response is what the listener says in every response.
	response                    []desync.Field
	withoutServer               bool
	versionHeader, cipherHeader string // of TLS, for targets
}

type compiledRule struct {
	conditions []condition
	action     *action
}

// action is compiled from Action; exactly one of forward, redirect and fixed is set.
type action struct {
	forward  *forward
	redirect *Redirect
	fixed    *FixedResponse
	gates    []Gate    // before all of these
	rewrites []rewrite // before forward
}

// forward knows its groups as they are on this node, not by name.
type forward struct {
	groups     []*group
	cumulative []uint64 // running sums of the weights
	stickiness time.Duration
}

// subject is what conditions look at.
type subject struct {
	request *http.Request
	host    string // without port; empty when absent
	path    string // normalised
	peer    netip.Addr
}

type condition func(*subject) bool

// compile turns a NodeConfig into routes. groups finds (or makes) the node's own record of a target group.
func compile(c NodeConfig, groups func(arn string) *group) (*routes, error) {
	r := &routes{version: c.Version, attributes: c.Attributes.withDefaults(), listeners: make(map[uint16]*listenerRoutes, len(c.Listeners))}
	for _, l := range c.Listeners {
		compiled, err := compileListener(l, !c.Attributes.WithoutHTTP2, groups)
		if err != nil {
			return nil, fmt.Errorf("listener on port %d: %w", l.Port, err)
		}
		if r.listeners[l.Port] != nil {
			return nil, fmt.Errorf("listener on port %d: given twice", l.Port)
		}
		r.listeners[l.Port] = compiled
	}
	return r, nil
}

func (a Attributes) withDefaults() Attributes {
	a.IdleTimeout = cmp.Or(a.IdleTimeout, 60*time.Second)
	a.ClientKeepAlive = cmp.Or(a.ClientKeepAlive, time.Hour)
	a.ForwardedFor = cmp.Or(a.ForwardedFor, ForwardedForAppend)
	a.Desync = cmp.Or(a.Desync, DesyncDefensive)
	return a
}

func compileListener(l Listener, http2 bool, groups func(string) *group) (*listenerRoutes, error) {
	out := &listenerRoutes{
		port: l.Port, portText: strconv.Itoa(int(l.Port)), protocol: l.Protocol, withoutServer: l.WithoutServer,
		versionHeader: http.CanonicalHeaderKey(cmp.Or(l.TLSVersionHeader, tlsVersionHeader)),
		cipherHeader:  http.CanonicalHeaderKey(cmp.Or(l.TLSCipherHeader, tlsCipherHeader)),
	}
	for _, name := range slices.Sorted(maps.Keys(l.ResponseHeaders)) {
		out.response = append(out.response, desync.Field{Name: http.CanonicalHeaderKey(name), Value: l.ResponseHeaders[name]})
	}
	switch l.Protocol {
	case HTTP:
	case HTTPS:
		if len(l.Certificates) == 0 {
			return nil, fmt.Errorf("protocol HTTPS needs a certificate")
		}
		out.tls = &tls.Config{Certificates: l.Certificates, NextProtos: []string{"http/1.1"}}
		if http2 {
			out.tls.NextProtos = []string{"h2", "http/1.1"}
		}
		if l.Mutual != nil {
			out.mutual = compileMutual(*l.Mutual, out.tls)
		}
	default:
		return nil, fmt.Errorf("protocol %q is neither HTTP nor HTTPS", l.Protocol)
	}
	rules := slices.Clone(l.Rules)
	slices.SortStableFunc(rules, func(a, b Rule) int { return cmp.Compare(a.Priority, b.Priority) })
	for _, rule := range rules {
		conditions, err := compileConditions(rule.Conditions)
		if err != nil {
			return nil, fmt.Errorf("rule with priority %d: %w", rule.Priority, err)
		}
		act, err := compileAction(rule.Action, groups)
		if err != nil {
			return nil, fmt.Errorf("rule with priority %d: %w", rule.Priority, err)
		}
		if act.rewrites, err = compileRewrites(rule.Rewrites); err != nil {
			return nil, fmt.Errorf("rule with priority %d: %w", rule.Priority, err)
		}
		out.rules = append(out.rules, compiledRule{conditions, act})
		out.logins = append(out.logins, act.logins()...)
	}
	var err error
	if out.fallback, err = compileAction(l.Default, groups); err != nil {
		return nil, fmt.Errorf("default action: %w", err)
	}
	out.logins = append(out.logins, out.fallback.logins()...)
	return out, nil
}

func (a *action) logins() (list []*Authentication) {
	for _, g := range a.gates {
		if g.Authenticate != nil {
			list = append(list, g.Authenticate)
		}
	}
	return list
}

func compileAction(a Action, groups func(string) *group) (*action, error) {
	out, err := compileAnswer(a, groups)
	if err != nil {
		return nil, err
	}
	for _, g := range a.Gates {
		if (g.JWT == nil) == (g.Authenticate == nil) {
			return nil, fmt.Errorf("a gate is either jwt-validation or authentication")
		}
	}
	out.gates = a.Gates
	return out, nil
}

func compileAnswer(a Action, groups func(string) *group) (*action, error) {
	switch {
	case a.Forward != nil && a.Redirect == nil && a.Fixed == nil:
		f := &forward{stickiness: a.Forward.Stickiness}
		sum := uint64(0)
		for _, g := range a.Forward.Groups {
			if g.Weight < 0 || g.Weight > 999 {
				return nil, fmt.Errorf("weight %d of group %s is not within 0 to 999", g.Weight, g.ARN)
			}
			sum += uint64(g.Weight)
			f.groups = append(f.groups, groups(g.ARN))
			f.cumulative = append(f.cumulative, sum)
		}
		if len(f.groups) == 0 {
			return nil, fmt.Errorf("a forward action needs a target group")
		}
		return &action{forward: f}, nil
	case a.Redirect != nil && a.Forward == nil && a.Fixed == nil:
		if a.Redirect.Status != 301 && a.Redirect.Status != 302 {
			return nil, fmt.Errorf("redirect with status %d, which is neither 301 nor 302", a.Redirect.Status)
		}
		return &action{redirect: new(*a.Redirect)}, nil
	case a.Fixed != nil && a.Forward == nil && a.Redirect == nil:
		if a.Fixed.Status < 200 || a.Fixed.Status > 599 {
			return nil, fmt.Errorf("fixed response with status %d", a.Fixed.Status)
		}
		return &action{fixed: new(*a.Fixed)}, nil
	}
	return nil, fmt.Errorf("an action is exactly one of forward, redirect and fixed response")
}

func compileConditions(conditions []Condition) ([]condition, error) {
	var out []condition
	for _, c := range conditions {
		compiled, err := compileCondition(c)
		if err != nil {
			return nil, err
		}
		out = append(out, compiled)
	}
	return out, nil
}

func compileCondition(c Condition) (condition, error) {
	switch c.Field {
	case HostHeader:
		hosts, err := compileTexts(c, true)
		return func(s *subject) bool { return s.host != "" && hosts(s.host) }, err
	case PathPattern:
		paths, err := compileTexts(c, false)
		return func(s *subject) bool { return paths(s.path) }, err
	case HTTPHeader:
		name := http.CanonicalHeaderKey(c.Name)
		values, err := compileTexts(c, true)
		return func(s *subject) bool { return slices.ContainsFunc(s.request.Header[name], values) }, err
	case RequestMethod:
		methods := slices.Clone(c.Values)
		return func(s *subject) bool { return slices.Contains(methods, s.request.Method) }, nil
	case QueryString:
		return compileQuery(c.Query), nil
	case SourceIP:
		var sources []netip.Prefix
		for _, v := range c.Values {
			prefix, err := netip.ParsePrefix(v)
			if err != nil {
				return nil, fmt.Errorf("source-ip %q is not a CIDR: %w", v, err)
			}
			sources = append(sources, prefix.Masked())
		}
		return func(s *subject) bool {
			return slices.ContainsFunc(sources, func(p netip.Prefix) bool { return p.Contains(s.peer) })
		}, nil
	}
	return nil, fmt.Errorf("condition on unknown field %q", c.Field)
}

// compileTexts is the test of one text by the patterns and regular expressions of a condition.
func compileTexts(c Condition, fold bool) (func(string) bool, error) {
	globs := compileGlobs(c.Values, fold, false)
	if len(c.Regexes) == 0 {
		return globs.match, nil
	}
	var regexes []*regexp.Regexp
	for _, text := range c.Regexes {
		if fold {
			text = "(?i:" + text + ")"
		}
		compiled, err := regexp.Compile(text)
		if err != nil {
			return nil, fmt.Errorf("condition on %s: %w", c.Field, err)
		}
		regexes = append(regexes, compiled)
	}
	return func(text string) bool {
		return globs.match(text) || slices.ContainsFunc(regexes, func(r *regexp.Regexp) bool { return r.MatchString(text) })
	}, nil
}

// compileQuery compares the query as it was sent: whether AWS decodes %-escapes first is not documented.
func compileQuery(values []QueryValue) condition {
	type pair struct {
		anyKey     bool
		key, value glob
	}
	var pairs []pair
	for _, v := range values {
		pairs = append(pairs, pair{v.Key == "", compileGlob(v.Key, true, true), compileGlob(v.Value, true, true)})
	}
	return func(s *subject) bool {
		for part := range strings.SplitSeq(s.request.URL.RawQuery, "&") {
			key, value, hasValue := strings.Cut(part, "=")
			for _, p := range pairs {
				switch {
				case p.anyKey && hasValue && p.value.matches(value),
					p.anyKey && !hasValue && part != "" && p.value.matches(part), // ?value, without a key
					!p.anyKey && p.key.matches(key) && p.value.matches(value):
					return true
				}
			}
		}
		return false
	}
}

// match returns the action of the first rule of which all conditions hold, and how many rules were looked at.
func (l *listenerRoutes) match(s *subject) (a *action, looked int) {
	for i := range l.rules {
		if l.rules[i].holds(s) {
			return l.rules[i].action, i + 1
		}
	}
	return l.fallback, len(l.rules)
}

func (r *compiledRule) holds(s *subject) bool {
	for _, c := range r.conditions {
		if !c(s) {
			return false
		}
	}
	return true
}

// newSubject prepares a request for matching.
func newSubject(r *http.Request, peer netip.Addr) subject {
	return subject{request: r, host: withoutPort(r.Host), path: normalPath(r.URL.EscapedPath()), peer: peer}
}

func withoutPort(host string) string {
	if !strings.Contains(host, ":") {
		return host
	}
	if h, _, err := net.SplitHostPort(host); err == nil {
		return h
	}
	return host
}

// normalPath removes dot segments and decodes escapes of unreserved characters (RFC 3986, 6.2.2), so that /%61 and /x/../a
// meet the rule for /a. Everything else stays as it was sent.
func normalPath(path string) string {
	if strings.Contains(path, "%") {
		path = decodeUnreserved(path)
	}
	if path == "" {
		return "/"
	}
	if !strings.Contains(path, "/.") {
		return path
	}
	var kept []string
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		last := i == len(segments)-1
		switch segment {
		case ".", "..":
			if segment == ".." && len(kept) > 1 {
				kept = kept[:len(kept)-1]
			}
			if last {
				kept = append(kept, "")
			}
		default:
			kept = append(kept, segment)
		}
	}
	return strings.Join(kept, "/")
}

func decodeUnreserved(path string) string {
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		if path[i] == '%' && i+2 < len(path) {
			if c, ok := unhex(path[i+1], path[i+2]); ok && isUnreserved(c) {
				b.WriteByte(c)
				i += 2
				continue
			}
		}
		b.WriteByte(path[i])
	}
	return b.String()
}

func unhex(a, b byte) (byte, bool) {
	const digits = "0123456789abcdef"
	high, low := strings.IndexByte(digits, a|0x20), strings.IndexByte(digits, b|0x20)
	return byte(high<<4 | low&0xf), high >= 0 && low >= 0
}

func isUnreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0
}
