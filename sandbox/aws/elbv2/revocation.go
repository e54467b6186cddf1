package elbv2

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

const maxRevokedEntries = 500_000 // per trust store

// revocation is a list of revoked certificates that was added to a trust store.
type revocation struct {
	shown  types.DescribeTrustStoreRevocation
	object storedObject
	list   *dataplane.Revocations
}

// parseAuthorities reads a bundle of certificates in PEM, all of them of authorities.
func parseAuthorities(text []byte) (all []*x509.Certificate, err error) {
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			if len(bytes.TrimSpace(rest)) > 0 {
				return nil, errors.New("it holds something that is not PEM")
			}
			break
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		switch {
		case block.Type != "CERTIFICATE":
			return nil, fmt.Errorf("it holds a %.40s", block.Type)
		case err != nil:
			return nil, fmt.Errorf("certificate %d: %w", len(all)+1, err)
		case !certificate.IsCA:
			return nil, fmt.Errorf("certificate %d is not that of an authority", len(all)+1)
		}
		all = append(all, certificate)
	}
	if len(all) == 0 {
		return nil, errors.New("it holds no certificate")
	}
	return all, nil
}

// parseRevoked reads a list of revoked certificates, in PEM or DER, and counts them.
func parseRevoked(text []byte) (*dataplane.Revocations, int64, error) {
	if block, _ := pem.Decode(text); block != nil {
		text = block.Bytes
	}
	list, err := x509.ParseRevocationList(text)
	if err != nil {
		return nil, 0, err
	}
	return dataplane.NewRevocations(list), int64(len(list.RevokedCertificateEntries)), nil
}

// AddTrustStoreRevocations reads lists of revoked certificates from S3: all of them, or none if one cannot be.
func (s *Service) AddTrustStoreRevocations(r eventual.Reader, in *elb.AddTrustStoreRevocationsInput) (*elb.AddTrustStoreRevocationsOutput, error) {
	added, total, broken := s.newRevocations(in.RevocationContents)
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.trustStore(r, in.TrustStoreArn)
	if err != nil {
		return nil, err
	}
	if broken != nil {
		return nil, broken
	}
	v := t.value.Get()
	if total += *v.TotalRevokedEntries; total > maxRevokedEntries {
		return nil, tooManyRevoked()
	}
	out := &elb.AddTrustStoreRevocationsOutput{}
	for _, one := range added {
		t.added++
		one.shown.RevocationId, one.shown.TrustStoreArn = new(t.added), new(t.arn)
		t.revocations[t.added] = one
		out.TrustStoreRevocations = append(out.TrustStoreRevocations, types.TrustStoreRevocation{
			RevocationId: one.shown.RevocationId, TrustStoreArn: new(t.arn), RevocationType: one.shown.RevocationType,
			NumberOfRevokedEntries: one.shown.NumberOfRevokedEntries,
		})
	}
	v.TotalRevokedEntries = &total
	t.value.Put(v)
	s.changeTrustStore(t, "AddTrustStoreRevocations "+t.arn)
	return out, nil
}

// newRevocations reads lists and counts what they revoke, until it is more than a trust store can have. It must be called without the
// lock: a list can be megabytes.
func (s *Service) newRevocations(contents []types.RevocationContent) (added []revocation, total int64, err error) {
	if len(contents) == 0 {
		return nil, 0, wire.Errorf("ValidationError", "At least one revocation file must be specified")
	}
	for _, c := range contents {
		one, err := s.newRevocation(c)
		if err != nil {
			return nil, 0, err
		}
		added = append(added, one)
		if total += *one.shown.NumberOfRevokedEntries; total > maxRevokedEntries {
			return nil, 0, tooManyRevoked()
		}
	}
	return added, total, nil
}

func tooManyRevoked() error {
	return wire.Errorf("TooManyTrustStoreRevocationEntries", "The maximum number of revoked certificates of a trust store, %d, would be exceeded", maxRevokedEntries)
}

func (s *Service) newRevocation(c types.RevocationContent) (revocation, error) {
	one := revocation{object: storedObject{deref(c.S3Bucket), deref(c.S3Key), deref(c.S3ObjectVersion)}}
	if c.RevocationType != "" && c.RevocationType != types.RevocationTypeCrl {
		return one, invalidEnum("revocationContents.revocationType", c.RevocationType)
	}
	if one.object.Bucket == "" || one.object.Key == "" {
		return one, wire.Errorf("ValidationError", "The S3 bucket and the S3 key of a revocation file must be specified")
	}
	text, ok := s.object(one.object)
	if !ok {
		return one, wire.Errorf("RevocationContentNotFound", "The revocation file s3://%s/%s was not found", one.object.Bucket, one.object.Key)
	}
	list, count, err := parseRevoked(text)
	if err != nil {
		return one, wire.Errorf("InvalidRevocationContent", "The revocation file s3://%s/%s is not valid: %v", one.object.Bucket, one.object.Key, err)
	}
	one.list = list
	one.shown = types.DescribeTrustStoreRevocation{RevocationType: types.RevocationTypeCrl, NumberOfRevokedEntries: &count}
	return one, nil
}

// RemoveTrustStoreRevocations removes lists by id: all of them, or none if one is not there.
func (s *Service) RemoveTrustStoreRevocations(r eventual.Reader, in *elb.RemoveTrustStoreRevocationsInput) (*elb.RemoveTrustStoreRevocationsOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.trustStore(r, in.TrustStoreArn)
	if err != nil {
		return nil, err
	}
	left := maps.Clone(t.revocations)
	for _, id := range in.RevocationIds {
		if _, ok := t.revocations[id]; !ok {
			return nil, noRevocation(id)
		}
		delete(left, id)
	}
	t.revocations = left
	v := t.value.Get()
	v.TotalRevokedEntries = new(int64(0))
	for _, one := range left {
		*v.TotalRevokedEntries += *one.shown.NumberOfRevokedEntries
	}
	t.value.Put(v)
	s.changeTrustStore(t, "RemoveTrustStoreRevocations "+t.arn)
	return &elb.RemoveTrustStoreRevocationsOutput{}, nil
}

func noRevocation(id int64) error {
	return wire.Errorf("RevocationIdNotFound", "The revocation ID '%d' was not found", id)
}

// DescribeTrustStoreRevocations lists the lists of a trust store, all or by id.
func (s *Service) DescribeTrustStoreRevocations(r eventual.Reader, in *elb.DescribeTrustStoreRevocationsInput) (*elb.DescribeTrustStoreRevocationsOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.trustStore(r, in.TrustStoreArn)
	if err != nil {
		return nil, err
	}
	ids := slices.Sorted(maps.Keys(t.revocations))
	if len(in.RevocationIds) > 0 {
		ids = slices.Compact(slices.Sorted(slices.Values(in.RevocationIds)))
	}
	all := []types.DescribeTrustStoreRevocation{}
	for _, id := range ids {
		one, ok := t.revocations[id]
		if !ok {
			return nil, noRevocation(id)
		}
		all = append(all, one.shown)
	}
	key := func(v types.DescribeTrustStoreRevocation) string { return fmt.Sprintf("%020d", *v.RevocationId) }
	found, next, err := page(all, key, in.Marker, in.PageSize)
	if err != nil {
		return nil, err
	}
	return &elb.DescribeTrustStoreRevocationsOutput{TrustStoreRevocations: found, NextMarker: next}, nil
}

// GetTrustStoreRevocationContent tells where a list was read.
func (s *Service) GetTrustStoreRevocationContent(r eventual.Reader, in *elb.GetTrustStoreRevocationContentInput) (*elb.GetTrustStoreRevocationContentOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.trustStore(r, in.TrustStoreArn)
	if err != nil {
		return nil, err
	}
	one, ok := t.revocations[deref(in.RevocationId)]
	if !ok {
		return nil, noRevocation(deref(in.RevocationId))
	}
	return &elb.GetTrustStoreRevocationContentOutput{Location: s.location(one.object)}, nil
}
