// Package desync reads the head of an HTTP/1 request as an Application Load Balancer does before it lets the request in: how dangerous is it,
// how is its body framed, and what is left of it when everything that two parsers could read in different ways is taken out.
//
// The classes and the names of reasons are those that AWS's user guide gives for desync mitigation and access logs. The package reads bytes
// and decides nothing: which class is let in is the mode of the load balancer.
//
// Start reading at Parse. Body (chunked.go) finds where the body of a request ends.
package desync

import (
	"bytes"
	"net/url"
	"strings"
)

// Class says how far a request is from what RFC 7230 allows, and how dangerous that is.
type Class int

// The classes, from harmless to dangerous.
const (
	// Compliant requests are what the RFC says.
	Compliant Class = iota
	// Acceptable ones are not, and harmless.
	Acceptable
	// Ambiguous ones are read differently by different servers.
	Ambiguous
	// Severe ones are malformed, or made to deceive.
	Severe
)

// The limits of a head (user guide, quotas of Application Load Balancers).
const (
	LineLimit   = 16 << 10
	HeaderLimit = 16 << 10
	HeadLimit   = 64 << 10
)

// Field is a header as it was sent.
type Field struct{ Name, Value string }

// Head is what the head of a request says.
type Head struct {
	Class Class
	// Reason is the worst that was found, in the words of AWS's access logs.
	Reason string
	// Status is that of the answer to a request that cannot be served in any mode (400, 414, 501, 505); 0: it can.
	Status int
	// Clean is the head in a form that all parsers read in the same way. It is the head itself when nothing had to be changed, and nil when
	// Status is set.
	Clean []byte
	// Length is that of the body in bytes; Chunked when its chunks say it.
	Length int64
	// Raw are headers that cannot be in Clean since they are none (a name with characters that names do not have, a value with control
	// characters). A load balancer that does not drop them sends them as they are.
	Raw []Field
	// Hosts are the Host headers after the first.
	Hosts []string
	// Continue is true when the client waits for 100 before it sends the body.
	Continue bool
	// Old is true for a request of HTTP/0.9, whose answer has no head.
	Old bool
}

// Chunked is the Length of a body in chunks.
const Chunked = -1

// End finds the length of the first head in b. 0: it is not complete yet.
func End(b []byte) int {
	line := bytes.IndexByte(b, '\n')
	if line < 0 {
		return 0
	}
	if bytes.HasPrefix(b, []byte("GET /")) && old(string(bytes.TrimSuffix(b[:line], []byte("\r")))) {
		return line + 1
	}
	for at := line; ; {
		rest := b[at+1:]
		switch {
		case len(rest) > 0 && rest[0] == '\n':
			return at + 2
		case len(rest) > 1 && rest[0] == '\r' && rest[1] == '\n':
			return at + 3
		}
		next := bytes.IndexByte(rest, '\n')
		if next < 0 {
			return 0
		}
		at += 1 + next
	}
}

// TooLong is the status for the beginning of a head that is longer than any head may be, and 0 while it may still become one.
func TooLong(b []byte) int {
	line := bytes.IndexByte(b, '\n')
	switch {
	case line < 0 && len(b) > LineLimit, line > LineLimit:
		return 414
	case len(b)-line > HeadLimit+HeaderLimit:
		return 400
	}
	return 0
}

// old says whether a request line is one of HTTP/0.9.
func old(line string) bool {
	path, ok := strings.CutPrefix(line, "GET /")
	return ok && !strings.Contains(path, " ")
}

// reader collects what is known of a head while its lines are read.
type reader struct {
	Head
	dirty bool // and it has to be written anew

	method, uri, version string
	hosts                int
	lengths              []string
	codings              []string
	suspicious           bool
	size                 int
}

// Parse reads a head that End has found.
func Parse(head []byte) Head {
	r := reader{}
	text := string(head)
	line, rest := cut(text)
	if !r.requestLine(line) {
		return r.Head
	}
	for len(rest) > 0 {
		ended := strings.HasSuffix(rest, "\n")
		line, rest = cut(rest)
		if len(line) == 0 && ended {
			break
		}
		if !r.header(line) {
			return r.Head
		}
	}
	if r.size > HeadLimit {
		r.refuse(400, Compliant, "")
		return r.Head
	}
	if !r.framing() || !r.host() {
		return r.Head
	}
	r.Clean = head
	if r.dirty {
		r.Clean = r.write(text)
	}
	return r.Head
}

// cut takes a line, without its end, from text.
func cut(text string) (line, rest string) {
	line, rest, _ = strings.Cut(text, "\n")
	return strings.TrimSuffix(line, "\r"), rest
}

// note keeps the worst finding.
func (r *reader) note(c Class, reason string) {
	if c > r.Class {
		r.Class, r.Reason = c, reason
	}
}

// refuse ends the reading; it returns false, so that callers can return it.
func (r *reader) refuse(status int, c Class, reason string) bool {
	r.note(c, reason)
	r.Status = status
	return false
}

func (r *reader) requestLine(line string) bool {
	if len(line) > LineLimit {
		return r.refuse(414, Compliant, "")
	}
	if old(line) {
		r.note(Acceptable, "NonCompliantVersion")
		r.Old, r.dirty = true, true
		r.method, r.uri, r.version = "GET", strings.TrimPrefix(line, "GET "), "HTTP/1.0"
		return r.target()
	}
	first, last := strings.IndexByte(line, ' '), strings.LastIndex(line, " HTTP/")
	switch {
	case first <= 0 || !Method(line[:first]):
		return r.refuse(400, Severe, "BadMethod")
	case last <= first:
		return r.refuse(400, Severe, "BadVersion")
	}
	r.method, r.uri, r.version = line[:first], line[first+1:last], line[last+1:]
	return r.protocol() && r.target()
}

func (r *reader) protocol() bool {
	if trimmed := strings.TrimRight(r.version, " "); len(trimmed) < len(r.version) {
		r.note(Acceptable, "NonCompliantVersion")
		r.version, r.dirty = trimmed, true
	}
	switch v := r.version; {
	case v == "HTTP/1.1", v == "HTTP/1.0":
	case len(v) == len("HTTP/1.1") && v[:7] == "HTTP/1." && digit(v[7]):
		r.note(Acceptable, "NonCompliantVersion")
		r.version, r.dirty = "HTTP/1.1", true
	case len(v) > len("HTTP/") && strings.Trim(v[len("HTTP/"):], ".0123456789") == "" && digit(v[len(v)-1]):
		return r.refuse(505, Acceptable, "NonCompliantVersion")
	default:
		return r.refuse(400, Severe, "BadVersion")
	}
	return true
}

// target looks at the URI and writes it so that it has no characters that a URI cannot have.
func (r *reader) target() bool {
	spaces, controls, look := false, false, len(r.uri) > 0 && r.uri[0] != '/'
	for i := range len(r.uri) {
		switch c := r.uri[i]; {
		case c > ' ' && c != '%' && c != 0x7f:
		case c == 0 || c == '\r':
			return r.refuse(400, Severe, "BadUri")
		case c == ' ' || c == '\t':
			spaces = true
		case c == '%':
			look = true
		default:
			controls = true
		}
	}
	if spaces {
		r.note(Acceptable, "SpaceInUri")
	}
	if controls {
		r.note(Ambiguous, "AmbiguousUri")
	}
	if spaces || controls {
		r.uri, r.dirty = escaped(r.uri), true
	}
	if len(r.uri) == 0 {
		return r.refuse(400, Severe, "BadUri")
	}
	if look {
		text := r.uri
		if r.method == "CONNECT" && text[0] != '/' {
			text = "http://" + text
		}
		if _, err := url.ParseRequestURI(text); err != nil {
			return r.refuse(400, Severe, "BadUri")
		}
	}
	return true
}

func (r *reader) header(line string) bool {
	if len(line) > HeaderLimit {
		return r.refuse(400, Compliant, "")
	}
	r.size += len(line)
	colon := strings.IndexByte(line, ':')
	switch {
	case colon == 0, strings.TrimLeft(line, " \t\r") == "":
		r.note(Ambiguous, "EmptyHeader")
		r.dirty = true
		return true
	case colon < 0, line[0] == ' ', line[0] == '\t': // the latter continue a line, which is a line break within a header
		return r.refuse(400, Severe, "BadHeader")
	}
	f := Field{line[:colon], strings.Trim(line[colon+1:], " \t")}
	odd := false
	for i := range f.Value {
		switch c := f.Value[i]; {
		case ' ' <= c && c < 0x7f:
		case c == 0 || c == '\r':
			return r.refuse(400, Severe, "BadHeader")
		case c < ' ' && c != '\t', c == 0x7f:
			odd = true
			r.note(Acceptable, "NonCompliantHeader")
		case c >= 0x80:
			r.note(Acceptable, "NonCompliantHeader")
		}
	}
	return r.field(f, odd)
}

// field takes one header, with control characters in its value if it is odd.
func (r *reader) field(f Field, odd bool) bool {
	if !token(f.Name) {
		if strings.ContainsAny(f.Name, "\x00\r") {
			return r.refuse(400, Severe, "BadHeader")
		}
		r.suspect(f)
		r.Raw, r.dirty = append(r.Raw, f), true
		return true
	}
	switch name := essential(f.Name); {
	case name == "":
		r.suspect(f)
		if odd {
			r.Raw, r.dirty = append(r.Raw, f), true
			return true
		}
	case odd:
		return r.refuse(400, Severe, "BadHeader")
	case name == "host":
		r.hosts++
		if r.hosts > 1 {
			r.Hosts, r.dirty = append(r.Hosts, f.Value), true
			return true
		}
		if !Host(f.Value) {
			return r.refuse(400, Severe, "BadHeader")
		}
	case name == "content-length":
		r.lengths = append(r.lengths, f.Value)
		return true
	case name == "transfer-encoding":
		r.codings = append(r.codings, f.Value)
		return true
	case name == "expect":
		r.Continue, r.dirty = r.Continue || strings.EqualFold(f.Value, "100-continue"), true
		return true
	}
	return true
}

// Method says whether text can be the method of a request: one token of RFC 7230.
func Method(text string) bool { return token(text) }

// Host says whether text has only characters that the name of a host may have (RFC 3986, 3.2.2), with its port. It may be empty.
func Host(text string) bool {
	for i := range len(text) {
		if !hosts[text[i]] {
			return false
		}
	}
	return true
}

// suspect notes a header that becomes one of those that frame bodies when it is written more carelessly.
func (r *reader) suspect(f Field) {
	if len(f.Name) < len("content-length") {
		return
	}
	if resembles(f.Name, "contentlength") || resembles(f.Name, "transferencoding") {
		r.suspicious = true
		r.note(Ambiguous, "SuspiciousHeader")
	}
}

// resembles compares the letters and digits of a name.
func resembles(name, plain string) bool {
	for i := range len(name) {
		c := name[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		switch {
		case !('a' <= c && c <= 'z' || digit(c)):
		case plain == "" || plain[0] != c:
			return false
		default:
			plain = plain[1:]
		}
	}
	return plain == ""
}

// framing decides how long the body is.
func (r *reader) framing() bool {
	if r.suspicious && len(r.lengths)+len(r.codings) > 0 {
		r.note(Severe, "SuspiciousTeClPresent")
	}
	if !r.lengthOf() || !r.codingOf() {
		return false
	}
	if r.method != "GET" && r.method != "HEAD" {
		return true
	}
	switch {
	case r.Length == Chunked:
		r.note(Ambiguous, "UndefinedTransferEncodingSemantics")
	case r.Length > 0:
		r.note(Ambiguous, "UndefinedContentLengthSemantics")
	case len(r.lengths) > 0:
		r.note(Acceptable, "GetHeadZeroContentLength")
	}
	return true
}

func (r *reader) lengthOf() bool {
	for i, text := range r.lengths {
		if text == "" || len(text) > 18 || strings.Trim(text, "0123456789") != "" {
			return r.refuse(400, Severe, "BadContentLength")
		}
		n := int64(0)
		for _, c := range []byte(text) {
			n = 10*n + int64(c-'0')
		}
		if i > 0 {
			if n != r.Length {
				return r.refuse(400, Severe, "MultipleContentLength")
			}
			r.note(Ambiguous, "DuplicateContentLength")
			r.dirty = true
		}
		r.Length = n
	}
	return true
}

func (r *reader) codingOf() bool {
	chunks := 0
	for _, text := range r.codings {
		switch strings.ToLower(text) {
		case "chunked":
			chunks++
		case "identity":
			r.dirty = true
		default:
			if token(text) && !strings.Contains(strings.ToLower(text), "chunked") {
				return r.refuse(501, Compliant, "")
			}
			return r.refuse(400, Severe, "BadTransferEncoding")
		}
	}
	switch {
	case chunks == 0:
		return true
	case chunks > 1:
		return r.refuse(400, Severe, "MultipleTransferEncodingChunked")
	case r.version == "HTTP/1.0":
		return r.refuse(400, Severe, "BadTransferEncoding") // chunks came with HTTP/1.1
	case len(r.lengths) > 0:
		r.note(Ambiguous, "BothTeClPresent")
		r.dirty = true
	}
	r.Length = Chunked
	return true
}

func (r *reader) host() bool {
	if r.hosts == 0 && r.version == "HTTP/1.1" && r.method != "CONNECT" {
		return r.refuse(400, Compliant, "")
	}
	return true
}

// essential is the name of a header that says what the request is or where it ends, in lower case, and empty for others.
func essential(name string) string {
	known := ""
	switch len(name) {
	case len("host"):
		known = "host"
	case len("expect"):
		known = "expect"
	case len("upgrade"):
		known = "upgrade"
	case len("connection"):
		known = "connection"
	case len("content-length"):
		known = "content-length"
	case len("transfer-encoding"):
		known = "transfer-encoding"
	}
	if !strings.EqualFold(name, known) {
		return ""
	}
	return known
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

// token says whether text is one of RFC 7230.
func token(text string) bool {
	for i := range len(text) {
		if !tokens[text[i]] {
			return false
		}
	}
	return text != ""
}

const alphanumeric = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

var (
	tokens = tableOf("!#$%&'*+-.^_`|~" + alphanumeric)
	hosts  = tableOf("!$%&()*+,-.:;=['_]~" + alphanumeric)
)

func tableOf(characters string) (table [256]bool) {
	for _, c := range []byte(characters) {
		table[c] = true
	}
	return table
}
