package acm

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/acm"
	"github.com/aws/aws-sdk-go-v2/service/acm/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/paging"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// stable is an id that is always the same for its parts.
func stable(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "/")))
	return hex.EncodeToString(sum[:16])
}

// DescribeCertificate tells all of one certificate.
func (s *Service) DescribeCertificate(_ eventual.Reader, in *acm.DescribeCertificateInput) (*acm.DescribeCertificateOutput, error) {
	users := s.users(deref(in.CertificateArn))
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.find(in.CertificateArn)
	if err != nil {
		return nil, err
	}
	detail := c.detail
	detail.InUseBy = append([]string{}, users...)
	detail.DomainValidationOptions = slices.Clone(detail.DomainValidationOptions)
	return &acm.DescribeCertificateOutput{Certificate: &detail}, nil
}

// GetCertificate gives out the certificate itself.
func (s *Service) GetCertificate(_ eventual.Reader, in *acm.GetCertificateInput) (*acm.GetCertificateOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.find(in.CertificateArn)
	if err != nil {
		return nil, err
	}
	if c.pem == "" {
		return nil, wire.Errorf("RequestInProgressException", "Certificate %s is not issued yet", *in.CertificateArn)
	}
	out := &acm.GetCertificateOutput{Certificate: &c.pem}
	if c.chain != "" {
		out.CertificateChain = &c.chain
	}
	return out, nil
}

// keysByDefault are those that are listed if no others are asked for.
var keysByDefault = []types.KeyAlgorithm{types.KeyAlgorithmRsa1024, types.KeyAlgorithmRsa2048}

// ListCertificates lists certificates in the order in which they came to be.
func (s *Service) ListCertificates(_ eventual.Reader, in *acm.ListCertificatesInput) (*acm.ListCertificatesOutput, error) {
	used := s.usedBy()
	s.mu.Lock()
	defer s.mu.Unlock()
	limit := 1000
	if in.MaxItems != nil {
		if limit = int(*in.MaxItems); limit < 1 || limit > 1000 {
			return nil, wire.Errorf("ValidationException", "1 validation error detected: Value '%d' at 'maxItems' failed to satisfy constraint: Member must be between 1 and 1000", limit)
		}
	}
	keys := keysByDefault
	if in.Includes != nil && len(in.Includes.KeyTypes) > 0 {
		keys = in.Includes.KeyTypes
	}
	var found []*certificate
	for _, c := range s.certificates {
		s.settle(c)
		if slices.Contains(keys, c.detail.KeyAlgorithm) && (len(in.CertificateStatuses) == 0 || slices.Contains(in.CertificateStatuses, c.detail.Status)) {
			found = append(found, c)
		}
	}
	key := func(c *certificate) string {
		return c.detail.CreatedAt.Format("2006-01-02T15:04:05.000000000Z") + *c.detail.CertificateArn
	}
	slices.SortFunc(found, func(a, b *certificate) int { return cmp.Compare(key(a), key(b)) })
	page, next, err := paging.Cut(found, key, in.NextToken, limit)
	if err != nil {
		return nil, wire.Errorf("InvalidArgsException", "%v", err)
	}
	out := &acm.ListCertificatesOutput{CertificateSummaryList: []types.CertificateSummary{}, NextToken: next}
	for _, c := range page {
		out.CertificateSummaryList = append(out.CertificateSummaryList, c.summary(used))
	}
	return out, nil
}

// usedBy says which certificates are in use. It asks without the lock.
func (s *Service) usedBy() map[string]bool {
	s.mu.Lock()
	arns := slices.Collect(maps.Keys(s.certificates))
	s.mu.Unlock()
	used := map[string]bool{}
	for _, arn := range arns {
		used[arn] = len(s.users(arn)) > 0
	}
	return used
}

func (c *certificate) summary(used map[string]bool) types.CertificateSummary {
	d := c.detail
	one := types.CertificateSummary{
		CertificateArn: d.CertificateArn, DomainName: d.DomainName, SubjectAlternativeNameSummaries: d.SubjectAlternativeNames,
		HasAdditionalSubjectAlternativeNames: new(false), Status: d.Status, Type: d.Type, KeyAlgorithm: d.KeyAlgorithm,
		InUse: new(used[*d.CertificateArn]), RenewalEligibility: d.RenewalEligibility,
		CreatedAt: d.CreatedAt, IssuedAt: d.IssuedAt, ImportedAt: d.ImportedAt, NotBefore: d.NotBefore, NotAfter: d.NotAfter,
	}
	for _, usage := range d.KeyUsages {
		one.KeyUsages = append(one.KeyUsages, usage.Name)
	}
	for _, usage := range d.ExtendedKeyUsages {
		one.ExtendedKeyUsages = append(one.ExtendedKeyUsages, usage.Name)
	}
	return one
}

const maxTags = 50

var tagText = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$`)

// newTags is old with more.
func newTags(old map[string]string, more []types.Tag) (map[string]string, error) {
	tags := maps.Clone(old)
	if tags == nil {
		tags = map[string]string{}
	}
	for _, t := range more {
		key, value := deref(t.Key), deref(t.Value)
		if key == "" || len(key) > 128 || len(value) > 256 || !tagText.MatchString(key) || !tagText.MatchString(value) || strings.HasPrefix(strings.ToLower(key), "aws:") {
			return nil, wire.Errorf("InvalidTagException", "'%.140s' = '%.260s' is not a tag that can be set", key, value)
		}
		tags[key] = value
	}
	if len(tags) > maxTags {
		return nil, wire.Errorf("TooManyTagsException", "A certificate can have at most %d tags", maxTags)
	}
	return tags, nil
}

// AddTagsToCertificate adds tags; present keys get the new value.
func (s *Service) AddTagsToCertificate(_ eventual.Reader, in *acm.AddTagsToCertificateInput) (*acm.AddTagsToCertificateOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.find(in.CertificateArn)
	if err != nil {
		return nil, err
	}
	if c.tags, err = addTags(c.tags, in.Tags); err != nil {
		return nil, err
	}
	return &acm.AddTagsToCertificateOutput{}, nil
}

// addTags keeps the old tags if the new ones cannot be.
func addTags(old map[string]string, more []types.Tag) (map[string]string, error) {
	tags, err := newTags(old, more)
	if err != nil {
		return old, err
	}
	return tags, nil
}

// RemoveTagsFromCertificate removes tags: those with a value only if it is theirs.
func (s *Service) RemoveTagsFromCertificate(_ eventual.Reader, in *acm.RemoveTagsFromCertificateInput) (*acm.RemoveTagsFromCertificateOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.find(in.CertificateArn)
	if err != nil {
		return nil, err
	}
	c.tags = maps.Clone(c.tags)
	for _, t := range in.Tags {
		if t.Value == nil || *t.Value == c.tags[deref(t.Key)] {
			delete(c.tags, deref(t.Key))
		}
	}
	return &acm.RemoveTagsFromCertificateOutput{}, nil
}

// ListTagsForCertificate lists the tags of a certificate.
func (s *Service) ListTagsForCertificate(_ eventual.Reader, in *acm.ListTagsForCertificateInput) (*acm.ListTagsForCertificateOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.find(in.CertificateArn)
	if err != nil {
		return nil, err
	}
	out := &acm.ListTagsForCertificateOutput{Tags: []types.Tag{}}
	for _, key := range slices.Sorted(maps.Keys(c.tags)) {
		out.Tags = append(out.Tags, types.Tag{Key: new(key), Value: new(c.tags[key])})
	}
	return out, nil
}
