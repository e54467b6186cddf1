package aws

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// maxSkew is how far the clocks of caller and AWS may differ; longestPresigned is for how long a URL may stand for its
// maker, in seconds.
const (
	maxSkew          = 15 * time.Minute
	longestPresigned = 7 * 24 * 60 * 60
)

const algorithm = "AWS4-HMAC-SHA256"

// identity is what the Authorization header of a request says: algorithm, then
// Credential=<key>/<date>/<region>/<service>/aws4_request, SignedHeaders=..., Signature=...
// A presigned request says the same in its query string, X-Amz-Credential=... and so on.
type identity struct {
	accessKey, date, region, service string
	signedHeaders                    []string
	signature                        string
	// signedAt is the moment as it was sent, token that of a temporary key.
	signedAt, token string
	// seconds is for how long a presigned request can be sent; 0: the request is signed in a header.
	seconds int
	// present: there is a signature, wellFormed: it has all parts.
	present, wellFormed bool
}

func identify(r *http.Request) identity {
	header := r.Header.Get("Authorization")
	if header == "" && strings.Contains(r.URL.RawQuery, wire.Presigned+"Algorithm=") {
		return identifyPresigned(r.URL.Query())
	}
	id := identity{present: header != "", signedAt: r.Header.Get("X-Amz-Date"), token: r.Header.Get("X-Amz-Security-Token")}
	rest, ok := strings.CutPrefix(header, algorithm)
	if !ok {
		return id
	}
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		id.take(name, value)
	}
	id.wellFormed = id.complete()
	return id
}

func identifyPresigned(query url.Values) identity {
	id := identity{present: true, signedAt: query.Get("X-Amz-Date"), token: query.Get("X-Amz-Security-Token")}
	for _, name := range []string{"Credential", "SignedHeaders", "Signature"} {
		id.take(name, query.Get(wire.Presigned+name))
	}
	seconds, err := strconv.Atoi(query.Get("X-Amz-Expires"))
	id.seconds = seconds
	id.wellFormed = id.complete() && query.Get("X-Amz-Algorithm") == algorithm && err == nil && seconds > 0 && seconds <= longestPresigned
	return id
}

// take reads one part of a signature.
func (id *identity) take(name, value string) {
	switch name {
	case "Credential":
		scope := strings.Split(value, "/")
		if len(scope) == 5 && scope[4] == "aws4_request" {
			id.accessKey, id.date, id.region, id.service = scope[0], scope[1], scope[2], scope[3]
		}
	case "SignedHeaders":
		id.signedHeaders = strings.Split(value, ";")
	case "Signature":
		id.signature = value
	}
}

func (id *identity) complete() bool {
	return id.service != "" && id.signature != "" && slices.Contains(id.signedHeaders, "host")
}

// late says whether a request comes too early or too late for its signature, and by how much.
func (id *identity) late(signedAt time.Time) (by time.Duration, late bool) {
	by = time.Since(signedAt)
	if id.seconds > 0 {
		return by, by < -maxSkew || by > time.Duration(id.seconds)*time.Second
	}
	return by.Abs(), by.Abs() > maxSkew
}

// refusal is a reason not to let a caller in, in the codes of each dialect.
type refusal struct {
	query, json string
	queryStatus int
	ec2         string
	ec2Status   int
}

// The refusals. JSON services answer all of them with status 400.
var (
	unsigned   = refusal{"MissingAuthenticationToken", "MissingAuthenticationTokenException", 403, "AuthFailure", 401}
	incomplete = refusal{"IncompleteSignature", "IncompleteSignatureException", 403, "AuthFailure", 401}
	unknownKey = refusal{"InvalidClientTokenId", "UnrecognizedClientException", 403, "AuthFailure", 401}
	mismatch   = refusal{"SignatureDoesNotMatch", "InvalidSignatureException", 403, "AuthFailure", 401}
	skewed     = refusal{"SignatureDoesNotMatch", "InvalidSignatureException", 403, "RequestExpired", 400}
	expired    = refusal{"ExpiredToken", "ExpiredTokenException", 403, "RequestExpired", 400}
)

// in is the refusal as a service of the dialect answers it.
func (r refusal) in(dialect wire.Dialect, format string, args ...any) error {
	switch dialect {
	case wire.EC2Dialect:
		return wire.Errorf(r.ec2, format, args...).WithStatus(r.ec2Status)
	case wire.JSONDialect:
		return wire.Errorf(r.json, format, args...)
	}
	return wire.Errorf(r.query, format, args...).WithStatus(r.queryStatus)
}

// signedByToken are the operations that need no signature: the token among their parameters stands for it.
var signedByToken = []string{"sts:AssumeRoleWithWebIdentity"}

// global are the services that answer for every region, by the name that requests are signed for. The others have an endpoint in each
// region, and this one is that of one region.
var global = []string{"sts", "route53", "globalaccelerator", "shield", "s3"}

// authenticate refuses a request that is not signed with a key that is known and in force, and finds whose key it is.
func (e *Emulator) authenticate(r *http.Request, c *call) error {
	c.principal = e.sts.Account().Principal
	id, dialect := c.identity, c.codec.Dialect()
	if (e.config.Anonymous || !id.present) && fromPage(r) {
		return unsigned.in(dialect, "The request must be signed: it comes from a web page of another origin")
	}
	if service, operation := c.action(); e.config.Anonymous || !id.present && slices.Contains(signedByToken, service+":"+operation) {
		return nil
	}
	switch {
	case !id.present:
		return unsigned.in(dialect, "The request must be signed")
	case !id.wellFormed:
		return incomplete.in(dialect, "The signature must have Credential, SignedHeaders (with host) and Signature of %s, and in a URL X-Amz-Expires", algorithm)
	}
	if id.region != e.config.Region && !slices.Contains(global, c.name) {
		return mismatch.in(dialect, "Credential should be scoped to a valid region, not '%.40s': this account is in %s", id.region, e.config.Region)
	}
	key, ok := e.sts.Key(id.accessKey)
	if !ok || id.token != key.Token {
		return unknownKey.in(dialect, "The security token included in the request is invalid: unknown access key, or not its session token")
	}
	signedAt, err := time.Parse("20060102T150405Z", id.signedAt)
	if err != nil || signedAt.Format("20060102") != id.date {
		return incomplete.in(dialect, "X-Amz-Date must be there and of the day in the credential scope")
	}
	if by, late := id.late(signedAt); late {
		return skewed.in(dialect, "Signature expired: it was made %s ago, or the clocks differ", by.Round(time.Second))
	}
	if !hmac.Equal([]byte(id.signature), []byte(sign(r, c.request.Body, id, key.Secret))) {
		return mismatch.in(dialect, "The request signature we calculated does not match the signature you provided.")
	}
	if !key.Expires.IsZero() && !time.Now().Before(key.Expires) {
		return expired.in(dialect, "The security token included in the request is expired")
	}
	c.principal = key.Principal
	return nil
}

// sign computes version 4 of AWS's signature of a request.
func sign(r *http.Request, body []byte, id identity, secret string) string {
	var headers strings.Builder
	for _, name := range id.signedHeaders {
		value := strings.Join(r.Header.Values(name), ",")
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = r.Header.Get("Content-Length")
			if value == "" {
				value = strconv.FormatInt(r.ContentLength, 10)
			}
		}
		headers.WriteString(name + ":" + strings.Join(strings.Fields(value), " ") + "\n")
	}
	query := r.URL.Query()
	if id.seconds > 0 {
		query.Del(wire.Presigned + "Signature")
	}
	for _, values := range query { // the names are sorted by Encode
		slices.Sort(values)
	}
	payload := sha256.Sum256(body)
	canonical := strings.Join([]string{
		r.Method, canonicalPath(r.URL), strings.ReplaceAll(query.Encode(), "+", "%20"),
		headers.String(), strings.Join(id.signedHeaders, ";"), hex.EncodeToString(payload[:]),
	}, "\n")
	digest := sha256.Sum256([]byte(canonical))
	scope := strings.Join([]string{id.date, id.region, id.service, "aws4_request"}, "/")
	text := strings.Join([]string{algorithm, id.signedAt, scope, hex.EncodeToString(digest[:])}, "\n")
	key := []byte("AWS4" + secret)
	for _, part := range []string{id.date, id.region, id.service, "aws4_request", text} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	return hex.EncodeToString(key)
}

// canonicalPath is the path as it was sent, with its escapes escaped once more.
func canonicalPath(u *url.URL) string {
	path := u.EscapedPath()
	if path == "" {
		return "/"
	}
	const unreserved = "-_.~/"
	var out strings.Builder
	for _, b := range []byte(path) {
		if b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || strings.IndexByte(unreserved, b) >= 0 {
			out.WriteByte(b)
		} else {
			fmt.Fprintf(&out, "%%%02X", b)
		}
	}
	return out.String()
}
