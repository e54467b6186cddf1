package acm

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/acm"
	"github.com/aws/aws-sdk-go-v2/service/acm/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

const (
	maxCertificates = 2500
	maxNames        = 10
)

var domainName = regexp.MustCompile(`^(\*\.)?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?\.)+[a-z0-9][a-z0-9-]*[a-z0-9]$`)

// RequestCertificate asks for a certificate. It is issued when its validation records can be resolved.
func (s *Service) RequestCertificate(_ eventual.Reader, in *acm.RequestCertificateInput) (*acm.RequestCertificateOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	domain := strings.ToLower(deref(in.DomainName))
	names := []string{domain}
	for _, name := range in.SubjectAlternativeNames {
		if name = strings.ToLower(name); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, name := range names {
		if len(name) > 253 || !domainName.MatchString(name) {
			return nil, wire.Errorf("InvalidParameterException", "'%.260s' is not a domain name", name)
		}
	}
	tags, err := newTags(nil, in.Tags)
	if err != nil {
		return nil, err
	}
	request := domain + " " + deref(in.IdempotencyToken)
	if arn, ok := s.requests[request]; ok && in.IdempotencyToken != nil {
		return &acm.RequestCertificateOutput{CertificateArn: new(arn)}, nil
	}
	switch {
	case len(names) > maxNames:
		return nil, wire.Errorf("LimitExceededException", "A certificate can have at most %d names", maxNames)
	case len(s.certificates) >= maxCertificates:
		return nil, wire.Errorf("LimitExceededException", "An account can have at most %d certificates", maxCertificates)
	}
	c := &certificate{tags: tags, detail: types.CertificateDetail{
		DomainName: &domain, SubjectAlternativeNames: names, CertificateAuthorityArn: in.CertificateAuthorityArn,
		Type: types.CertificateTypeAmazonIssued, Status: types.CertificateStatusPendingValidation, KeyAlgorithm: in.KeyAlgorithm,
		RenewalEligibility: types.RenewalEligibilityIneligible, Options: in.Options,
	}}
	if c.detail.KeyAlgorithm == "" {
		c.detail.KeyAlgorithm = types.KeyAlgorithmRsa2048
	}
	s.add(c, domain)
	s.requests[request] = *c.detail.CertificateArn
	if in.CertificateAuthorityArn != nil {
		c.detail.Type = types.CertificateTypePrivate
		s.issue(c, time.Now())
		return &acm.RequestCertificateOutput{CertificateArn: c.detail.CertificateArn}, nil
	}
	for _, name := range names {
		c.detail.DomainValidationOptions = append(c.detail.DomainValidationOptions, s.validation(name, in.ValidationMethod))
	}
	return &acm.RequestCertificateOutput{CertificateArn: c.detail.CertificateArn}, nil
}

// validation is how the owner of a domain name has to show that it is theirs: the record is the same for
// a name and its wildcard, and in each request of the account.
func (s *Service) validation(name string, method types.ValidationMethod) types.DomainValidation {
	base := strings.TrimPrefix(name, "*.")
	v := types.DomainValidation{
		DomainName: &name, ValidationDomain: &name, ValidationMethod: method, ValidationStatus: types.DomainStatusPendingValidation,
	}
	switch method {
	case types.ValidationMethodDns:
		hash := func(kind string) string { return "_" + stable(s.config.AccountID, kind, base) }
		v.ResourceRecord = &types.ResourceRecord{
			Type: types.RecordTypeCname, Name: new(hash("name") + "." + base + "."), Value: new(hash("value") + "." + hash("zone")[:11] + ".acm-validations.aws."),
		}
	case "":
		v.ValidationMethod = types.ValidationMethodEmail
	}
	return v
}

// add gives a new certificate its ARN.
func (s *Service) add(c *certificate, name string) {
	arn := fmt.Sprintf("arn:aws:acm:%s:%s:certificate/%s", s.config.Region, s.config.AccountID, s.config.IDs.UUID("certificate", name))
	c.detail.CertificateArn, c.detail.CreatedAt = &arn, new(time.Now().UTC())
	s.certificates[arn] = c
}

// ImportCertificate takes a certificate with its key, as a new one or in place of an imported one.
func (s *Service) ImportCertificate(_ eventual.Reader, in *acm.ImportCertificateInput) (*acm.ImportCertificateOutput, error) {
	out, err := s.keepImported(in)
	if err == nil && in.CertificateArn != nil && s.config.Renewed != nil {
		s.config.Renewed(*out.CertificateArn) // without the lock: who is told may ask for a certificate
	}
	return out, err
}

func (s *Service) keepImported(in *acm.ImportCertificateInput) (*acm.ImportCertificateOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pair, err := tls.X509KeyPair(slices.Concat(in.Certificate, []byte("\n"), in.CertificateChain), in.PrivateKey)
	var leaf *x509.Certificate
	if err == nil {
		leaf, err = x509.ParseCertificate(pair.Certificate[0])
	}
	if err != nil {
		return nil, wire.Errorf("ValidationException", "The certificate and its key cannot be used: %v", err)
	}
	now := time.Now()
	algorithm := keyAlgorithm(leaf.PublicKey)
	switch {
	case algorithm == "":
		return nil, wire.Errorf("ValidationException", "The key of the certificate is of a kind that is not supported")
	case now.Before(leaf.NotBefore) || now.After(leaf.NotAfter):
		return nil, wire.Errorf("ValidationException", "The certificate is not valid at this time")
	}
	names := leaf.DNSNames
	if len(names) == 0 {
		names = []string{leaf.Subject.CommonName}
	}
	var c *certificate
	if in.CertificateArn != nil {
		if c, err = s.find(in.CertificateArn); err != nil {
			return nil, err
		}
		switch {
		case c.detail.Type != types.CertificateTypeImported:
			return nil, wire.Errorf("ValidationException", "Only an imported certificate can be imported again")
		case len(in.Tags) > 0:
			return nil, wire.Errorf("InvalidTagException", "Tags cannot be given when a certificate is imported again")
		}
	} else {
		tags, err := newTags(nil, in.Tags)
		if err != nil {
			return nil, err
		}
		if len(s.certificates) >= maxCertificates {
			return nil, wire.Errorf("LimitExceededException", "An account can have at most %d certificates", maxCertificates)
		}
		c = &certificate{tags: tags, detail: types.CertificateDetail{Type: types.CertificateTypeImported, Status: types.CertificateStatusIssued}}
		s.add(c, names[0])
	}
	c.detail.DomainName, c.detail.SubjectAlternativeNames = &names[0], names
	c.detail.KeyAlgorithm, c.detail.ImportedAt = algorithm, new(now.UTC())
	c.detail.RenewalEligibility = types.RenewalEligibilityIneligible
	c.pair, c.pem, c.chain = &pair, string(in.Certificate), string(in.CertificateChain)
	c.describe(leaf)
	return &acm.ImportCertificateOutput{CertificateArn: c.detail.CertificateArn}, nil
}

// DeleteCertificate deletes a certificate that no listener uses.
func (s *Service) DeleteCertificate(_ eventual.Reader, in *acm.DeleteCertificateInput) (*acm.DeleteCertificateOutput, error) {
	users := s.users(deref(in.CertificateArn))
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.find(in.CertificateArn)
	if err != nil {
		return nil, err
	}
	if len(users) > 0 {
		return nil, wire.Errorf("ResourceInUseException", "Certificate %s is in use by %s", *in.CertificateArn, users[0])
	}
	delete(s.certificates, *c.detail.CertificateArn)
	for request, arn := range s.requests {
		if arn == *c.detail.CertificateArn {
			delete(s.requests, request)
		}
	}
	return &acm.DeleteCertificateOutput{}, nil
}

// users must be called without the lock: who is asked may ask for a certificate.
func (s *Service) users(arn string) []string {
	if s.config.Users == nil {
		return nil
	}
	return s.config.Users(arn)
}
