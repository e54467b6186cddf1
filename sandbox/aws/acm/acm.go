// Package acm is AWS Certificate Manager: certificates that are requested, validated by a record in
// Route 53 and then issued, or imported.
//
// Certificates that it issues are signed by themselves: no client trusts them that has not been told to.
// Not modelled: renewal, export, revocation, validation by mail or redirect (such requests stay
// pending), private authorities (a certificate of one is issued at once), ACME, certificate transparency.
// Reads are consistent.
package acm

import (
	"crypto/tls"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/acm/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/resourceid"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// Config is what the service depends on.
type Config struct {
	Region    string
	AccountID string
	IDs       *resourceid.Source
	Draws     *profile.Draws
	// Visible says since when a CNAME record with a value can be resolved. Nil: never.
	Visible func(name, value string) (since time.Time, ok bool)
	// Users lists the load balancers that use a certificate. Nil: none.
	Users func(arn string) []string
	// Renewed is told of each certificate that was imported again, so that those who show it do not go on with the former one. Nil: nobody is.
	Renewed func(arn string)
}

// Service is ACM of one account in one region. Its methods may be called from several goroutines.
type Service struct {
	config Config

	mu           sync.Mutex
	certificates map[string]*certificate // by ARN
	requests     map[string]string       // ARN by idempotency token and domain
}

type certificate struct {
	detail types.CertificateDetail
	tags   map[string]string
	// pair and pem are there as soon as the certificate is issued.
	pair       *tls.Certificate
	pem, chain string
}

// New returns a service without certificates.
func New(config Config) *Service {
	return &Service{config: config, certificates: map[string]*certificate{}, requests: map[string]string{}}
}

// Operations are the operations that the service answers.
func (s *Service) Operations() wire.Operations[eventual.Reader] {
	return wire.NewOperations(
		wire.Of(s.ListCertificates),
		wire.Of(s.DescribeCertificate),
		wire.Of(s.GetCertificate),
		wire.Of(s.RequestCertificate),
		wire.Of(s.ImportCertificate),
		wire.Of(s.DeleteCertificate),
		wire.Of(s.AddTagsToCertificate),
		wire.Of(s.RemoveTagsFromCertificate),
		wire.Of(s.ListTagsForCertificate),
	)
}

// Certificate is what a load balancer shows for the ARN of a certificate. A certificate that is known and not issued has no pair.
func (s *Service) Certificate(arn string) (pair tls.Certificate, issued, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.certificates[arn]
	if c == nil {
		return tls.Certificate{}, false, false
	}
	s.settle(c)
	if c.pair == nil {
		return tls.Certificate{}, false, true
	}
	return *c.pair, true, true
}

// Tagged are the tags of all certificates by ARN.
func (s *Service) Tagged() map[string]map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[string]map[string]string, len(s.certificates))
	for arn, c := range s.certificates {
		all[arn] = c.tags
	}
	return all
}

var certificateARN = regexp.MustCompile(`^arn:[\w+=/,.@-]+:acm:[\w+=/,.@-]*:[0-9]+:[\w+=,.@-]+(/[\w+=,.@-]+)*$`)

// find finds a certificate as it is now.
func (s *Service) find(arn *string) (*certificate, error) {
	if arn == nil || !certificateARN.MatchString(*arn) {
		return nil, wire.Errorf("InvalidArnException", "'%.200s' is not the ARN of a certificate", deref(arn))
	}
	c := s.certificates[*arn]
	if c == nil {
		return nil, wire.Errorf("ResourceNotFoundException", "Could not find certificate %s in account %s", *arn, s.config.AccountID)
	}
	s.settle(c)
	return c, nil
}

// validationTimeout is how long AWS looks for the records of a request.
const validationTimeout = 72 * time.Hour

// settle brings a pending certificate to where it is by now: issued some time after the last of its
// validation records could be seen, or timed out.
func (s *Service) settle(c *certificate) {
	if c.detail.Status != types.CertificateStatusPendingValidation {
		return
	}
	var last time.Time
	complete := true
	for i, validation := range c.detail.DomainValidationOptions {
		since, ok := time.Time{}, false
		if s.config.Visible != nil && validation.ResourceRecord != nil {
			since, ok = s.config.Visible(*validation.ResourceRecord.Name, *validation.ResourceRecord.Value)
		}
		complete = complete && ok
		if ok {
			c.detail.DomainValidationOptions[i].ValidationStatus = types.DomainStatusSuccess
		}
		if since.After(last) {
			last = since
		}
	}
	issued := last.Add(s.config.Draws.Once(profile.CertificateIssue, *c.detail.CertificateArn))
	switch {
	case complete && !time.Now().Before(issued):
		s.issue(c, issued)
	case time.Since(*c.detail.CreatedAt) > validationTimeout:
		c.detail.Status = types.CertificateStatusValidationTimedOut
	}
}

// names are all that a certificate is for.
func (c *certificate) names() []string {
	names := []string{*c.detail.DomainName}
	for _, name := range c.detail.SubjectAlternativeNames {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
