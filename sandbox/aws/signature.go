package aws

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// maxSkew is how far the clocks of caller and AWS may differ.
const maxSkew = 15 * time.Minute

const algorithm = "AWS4-HMAC-SHA256"

// identity is what the Authorization header of a request says: algorithm, then
// Credential=<key>/<date>/<region>/<service>/aws4_request, SignedHeaders=..., Signature=...
type identity struct {
	accessKey, date, region, service string
	signedHeaders                    []string
	signature                        string
	// present: there is a header, wellFormed: it has all parts.
	present, wellFormed bool
}

func identify(r *http.Request) identity {
	header := r.Header.Get("Authorization")
	id := identity{present: header != ""}
	rest, ok := strings.CutPrefix(header, algorithm)
	if !ok {
		return id
	}
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
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
	id.wellFormed = id.service != "" && id.signature != "" && slices.Contains(id.signedHeaders, "host")
	return id
}

// authenticate refuses a request that is not signed with the account's key.
func (e *Emulator) authenticate(r *http.Request, c *call) error {
	if e.config.Anonymous {
		return nil
	}
	id := c.identity
	refuse := func(code, message string) error {
		if c.name == "ec2" {
			return wire.Errorf("AuthFailure", "%s", message).WithStatus(http.StatusUnauthorized)
		}
		return wire.Errorf(code, "%s", message).WithStatus(http.StatusForbidden)
	}
	switch {
	case !id.present:
		return refuse("MissingAuthenticationToken", "The request must be signed")
	case !id.wellFormed:
		return refuse("IncompleteSignature", "The Authorization header must have Credential, SignedHeaders (with host) and Signature of "+algorithm)
	case id.accessKey != e.config.AccessKeyID:
		return refuse("InvalidClientTokenId", "The security token included in the request is invalid: unknown access key")
	}
	signedAt, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil || signedAt.Format("20060102") != id.date {
		return refuse("IncompleteSignature", "X-Amz-Date must be there and of the day in the credential scope")
	}
	if skew := time.Since(signedAt).Abs(); skew > maxSkew {
		if c.name == "ec2" {
			return wire.Errorf("RequestExpired", "Request has expired")
		}
		return refuse("SignatureDoesNotMatch", "Signature expired: the clocks differ by "+skew.Round(time.Second).String())
	}
	if !hmac.Equal([]byte(id.signature), []byte(sign(r, c.request.Body, id, e.config.SecretAccessKey))) {
		return refuse("SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided.")
	}
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
	payload := sha256.Sum256(body)
	canonical := strings.Join([]string{
		r.Method, canonicalPath(r.URL), strings.ReplaceAll(r.URL.Query().Encode(), "+", "%20"),
		headers.String(), strings.Join(id.signedHeaders, ";"), hex.EncodeToString(payload[:]),
	}, "\n")
	digest := sha256.Sum256([]byte(canonical))
	scope := strings.Join([]string{id.date, id.region, id.service, "aws4_request"}, "/")
	text := strings.Join([]string{algorithm, r.Header.Get("X-Amz-Date"), scope, hex.EncodeToString(digest[:])}, "\n")
	key := []byte("AWS4" + secret)
	for _, part := range []string{id.date, id.region, id.service, "aws4_request", text} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	return hex.EncodeToString(key)
}

func canonicalPath(u *url.URL) string {
	if path := u.EscapedPath(); path != "" {
		return path
	}
	return "/"
}

// principal is the ARN of who owns the account's key.
func (e *Emulator) principal() string { return "arn:aws:iam::" + e.config.AccountID + ":user/lockstep" }

// GetCallerIdentity tells the caller who it is.
func (e *Emulator) GetCallerIdentity(_ eventual.Reader, _ *sts.GetCallerIdentityInput) (*sts.GetCallerIdentityOutput, error) {
	return &sts.GetCallerIdentityOutput{Account: new(e.config.AccountID), Arn: new(e.principal()), UserId: new("AIDALOCKSTEPSANDBOX00")}, nil
}
