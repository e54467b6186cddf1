package dataplane

import (
	"bufio"
	"fmt"
	"math/big"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// A slow matcher, written from what the user guide says of conditions and in no other way related to the one that nodes use, and a comparison of
// both on random rules and requests.

// asked is a request as its sender means it.
type asked struct {
	method, host, path, query string
	headers                   [][2]string
	peer                      netip.Addr
}

// slowRule is the index of the first rule, by priority, of which all conditions hold; -1: none.
func slowRule(rules []Rule, a asked) int {
	best := -1
	for i, r := range rules {
		all := true
		for _, c := range r.Conditions {
			all = all && slowHolds(c, a)
		}
		if all && (best < 0 || r.Priority < rules[best].Priority) {
			best = i
		}
	}
	return best
}

func slowHolds(c Condition, a asked) bool {
	lower := strings.ToLower
	switch c.Field {
	case HostHeader:
		host := lower(a.host)
		if i := strings.LastIndexByte(host, ':'); i >= 0 {
			host = host[:i]
		}
		return host != "" && slowText(c, host, true)
	case PathPattern:
		return slowText(c, slowPath(a.path), false)
	case HTTPHeader:
		for _, h := range a.headers {
			if strings.EqualFold(h[0], c.Name) && slowText(c, h[1], true) {
				return true
			}
		}
	case RequestMethod:
		for _, m := range c.Values {
			if m == a.method {
				return true
			}
		}
	case QueryString:
		for _, part := range strings.Split(a.query, "&") {
			for _, want := range c.Query {
				if slowPair(want, part) {
					return true
				}
			}
		}
	case SourceIP:
		for _, cidr := range c.Values {
			network, length, _ := strings.Cut(cidr, "/")
			bits, _ := strconv.Atoi(length)
			width := len(a.peer.AsSlice()) * 8
			one, two := new(big.Int).SetBytes(netip.MustParseAddr(network).AsSlice()), new(big.Int).SetBytes(a.peer.AsSlice())
			if netip.MustParseAddr(network).Is4() == a.peer.Is4() && one.Rsh(one, uint(width-bits)).Cmp(two.Rsh(two, uint(width-bits))) == 0 {
				return true
			}
		}
	}
	return false
}

// slowPair compares one part of a query, key=value or a bare value.
func slowPair(want QueryValue, part string) bool {
	if want.Key == "" {
		if i := strings.IndexByte(part, '='); i >= 0 {
			return slowGlob(strings.ToLower(want.Value), strings.ToLower(part[i+1:]), true)
		}
		return part != "" && slowGlob(strings.ToLower(want.Value), strings.ToLower(part), true)
	}
	key, value, _ := strings.Cut(part, "=")
	return slowGlob(strings.ToLower(want.Key), strings.ToLower(key), true) && slowGlob(strings.ToLower(want.Value), strings.ToLower(value), true)
}

func slowText(c Condition, text string, fold bool) bool {
	for _, pattern := range c.Values {
		one, two := pattern, text
		if fold {
			one, two = strings.ToLower(pattern), strings.ToLower(text)
		}
		if slowGlob(one, two, false) {
			return true
		}
	}
	for _, expression := range c.Regexes {
		if fold {
			expression = "(?i)" + expression
		}
		if regexp.MustCompile(expression).MatchString(text) {
			return true
		}
	}
	return false
}

// slowGlob tries everything.
func slowGlob(pattern, text string, escapes bool) bool {
	if pattern == "" {
		return text == ""
	}
	switch c := pattern[0]; {
	case c == '\\' && escapes && len(pattern) > 1:
		return text != "" && text[0] == pattern[1] && slowGlob(pattern[2:], text[1:], escapes)
	case c == '*':
		for i := 0; i <= len(text); i++ {
			if slowGlob(pattern[1:], text[i:], escapes) {
				return true
			}
		}
		return false
	case c == '?':
		return text != "" && slowGlob(pattern[1:], text[1:], escapes)
	default:
		return text != "" && text[0] == c && slowGlob(pattern[1:], text[1:], escapes)
	}
}

// slowPath is RFC 3986, 6.2.2.2 and 5.2.4, step by step.
func slowPath(path string) string {
	escape := regexp.MustCompile(`%[0-9a-fA-F]{2}`)
	in := escape.ReplaceAllStringFunc(path, func(e string) string {
		n, _ := strconv.ParseUint(e[1:], 16, 8)
		if strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~", rune(n)) {
			return string(rune(n))
		}
		return e
	})
	out := ""
	for in != "" {
		switch {
		case strings.HasPrefix(in, "/./"):
			in = in[2:]
		case in == "/.":
			in = "/"
		case strings.HasPrefix(in, "/../"):
			in = in[3:]
			out = out[:max(0, strings.LastIndexByte(out, '/'))]
		case in == "/..":
			in = "/"
			out = out[:max(0, strings.LastIndexByte(out, '/'))]
		default:
			end := strings.IndexByte(in[1:], '/') + 1
			if end == 0 {
				end = len(in)
			}
			out += in[:end]
			in = in[end:]
		}
	}
	return out
}

// The alphabets are small, so that patterns match often.
var (
	drawHost    = rapid.StringMatching(`[abA.]{0,5}(:[0-9]{2})?`)
	drawPath    = rapid.StringMatching(`(/([abA.]{0,3}|%2[eE]|%41|%2[fF]|\.\.?)){1,4}`)
	drawText    = rapid.StringMatching(`[abAB ./-]{0,5}`)
	drawQuery   = rapid.StringMatching(`([abA*?%\\]{0,3}(=[abA*?=\\]{0,3})?&?){0,3}`)
	drawPattern = rapid.StringMatching(`[abA./*?-]{0,6}`)
	drawEscaped = rapid.StringMatching(`([abA*?%=]|\\[*?\\a]){0,4}\\?`)
	drawRegex   = rapid.SampledFrom([]string{`^a`, `b$`, `^/a/[^/]+$`, `a|b`, `^(a.)+$`, `A`, `^$`, `\.`})
	drawMethod  = rapid.SampledFrom([]string{"GET", "HEAD", "get", "POST", "M-SEARCH"})
	drawName    = rapid.SampledFrom([]string{"X-A", "x-a", "X-B", "User-Agent"})
	drawCIDR    = rapid.SampledFrom([]string{"10.0.0.0/8", "10.1.2.3/32", "0.0.0.0/0", "10.1.2.0/23", "2001:db8::/32", "::/0"})
	drawPeer    = rapid.SampledFrom([]string{"10.1.2.3", "10.1.3.255", "10.2.0.1", "192.0.2.1", "2001:db8::1", "2001:db9::1"})
)

func drawCondition(t *rapid.T) Condition {
	c := Condition{Field: rapid.SampledFrom([]ConditionField{HostHeader, PathPattern, HTTPHeader, RequestMethod, QueryString, SourceIP}).Draw(t, "field")}
	switch c.Field {
	case HostHeader, PathPattern, HTTPHeader:
		c.Name = drawName.Draw(t, "name")
		c.Values = rapid.SliceOfN(drawPattern, 0, 3).Draw(t, "patterns")
		c.Regexes = rapid.SliceOfN(drawRegex, 0, 1).Draw(t, "regexes")
	case RequestMethod:
		c.Values = rapid.SliceOfN(drawMethod, 1, 2).Draw(t, "methods")
	case QueryString:
		for range rapid.IntRange(1, 2).Draw(t, "pairs") {
			c.Query = append(c.Query, QueryValue{drawEscaped.Draw(t, "key"), drawEscaped.Draw(t, "value")})
		}
	case SourceIP:
		c.Values = rapid.SliceOfN(drawCIDR, 1, 2).Draw(t, "sources")
	}
	return c
}

func drawAsked(t *rapid.T) asked {
	a := asked{
		method: drawMethod.Draw(t, "method"), host: drawHost.Draw(t, "host"), path: drawPath.Draw(t, "path"), query: drawQuery.Draw(t, "query"),
		peer: netip.MustParseAddr(drawPeer.Draw(t, "peer")),
	}
	for range rapid.IntRange(0, 3).Draw(t, "headers") {
		a.headers = append(a.headers, [2]string{drawName.Draw(t, "name"), strings.TrimSpace(drawText.Draw(t, "value"))})
	}
	return a
}

// request is what a node gets to see.
func (a asked) request(t *rapid.T) *http.Request {
	uri := a.path
	if a.query != "" {
		uri += "?" + a.query
	}
	text := a.method + " " + uri + " HTTP/1.1\r\nHost: " + a.host + "\r\n"
	for _, h := range a.headers {
		text += h[0] + ": " + h[1] + "\r\n"
	}
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text + "\r\n")))
	if err != nil {
		t.Skip(err) // a % without digits, which never gets as far as rules
	}
	return r
}

func matchersAgree(t *rapid.T) {
	var rules []Rule
	for i := range rapid.IntRange(1, 4).Draw(t, "rules") {
		r := Rule{Priority: rapid.IntRange(1, 3).Draw(t, "priority")*10 + i, Action: Action{Fixed: &FixedResponse{Status: 200 + i}}}
		for range rapid.IntRange(1, 3).Draw(t, "conditions") {
			r.Conditions = append(r.Conditions, drawCondition(t))
		}
		rules = append(rules, r)
	}
	l, err := compileListener(Listener{Port: 80, Protocol: HTTP, Rules: rules, Default: Action{Fixed: &FixedResponse{Status: 404}}}, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	a := drawAsked(t)
	s := newSubject(a.request(t), a.peer)
	want := 404
	if i := slowRule(rules, a); i >= 0 {
		want = 200 + i
	}
	met, _ := l.match(&s)
	if got := met.fixed.Status; got != want {
		t.Fatalf("%+v\nmeets rule %d, it should be %d (404: the default)\n%s", a, got, want, strings.Join(slices.Collect(func(yield func(string) bool) {
			for _, r := range rules {
				yield(fmt.Sprintf("%+v", r))
			}
		}), "\n"))
	}
}

func TestMatchersAgree(t *testing.T) { rapid.Check(t, matchersAgree) }

func FuzzMatchers(f *testing.F) { f.Fuzz(rapid.MakeFuzz(matchersAgree)) }
