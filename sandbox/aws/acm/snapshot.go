package acm

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/acm/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/snapshot"
)

// kept is the state of the service as it is kept on the disk.
type kept struct {
	Certificates []keptCertificate `json:"certificates"`
	Requests     map[string]string `json:"requests"`
}

// keptCertificate is a certificate with its key in PKCS #8, if it has been issued.
type keptCertificate struct {
	Detail types.CertificateDetail `json:"detail"`
	Tags   map[string]string       `json:"tags"`
	PEM    string                  `json:"pem,omitempty"`
	Chain  string                  `json:"chain,omitempty"`
	DER    [][]byte                `json:"der,omitempty"`
	Key    []byte                  `json:"key,omitempty"`
}

// Export tells everything that the service has.
func (s *Service) Export() (json.RawMessage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := kept{Requests: s.requests}
	for _, arn := range slices.Sorted(maps.Keys(s.certificates)) {
		c := s.certificates[arn]
		s.settle(c)
		one := keptCertificate{Detail: c.detail, Tags: c.tags, PEM: c.pem, Chain: c.chain}
		if c.pair != nil {
			key, err := x509.MarshalPKCS8PrivateKey(c.pair.PrivateKey)
			if err != nil {
				return nil, fmt.Errorf("the key of %s: %w", arn, err)
			}
			one.DER, one.Key = c.pair.Certificate, key
		}
		k.Certificates = append(k.Certificates, one)
	}
	return json.Marshal(k)
}

// Import takes over what another service has exported. This one must have nothing yet.
func (s *Service) Import(text json.RawMessage) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := kept{Requests: s.requests}
	if err := snapshot.Decode(text, &k); err != nil {
		return err
	}
	for _, one := range k.Certificates {
		arn := deref(one.Detail.CertificateArn)
		c := &certificate{detail: one.Detail, tags: one.Tags, pem: one.PEM, chain: one.Chain}
		if len(one.DER) > 0 {
			key, err := x509.ParsePKCS8PrivateKey(one.Key)
			if err != nil {
				return fmt.Errorf("the key of %s: %w", arn, err)
			}
			leaf, err := x509.ParseCertificate(one.DER[0])
			if err != nil {
				return fmt.Errorf("certificate %s: %w", arn, err)
			}
			c.pair = &tls.Certificate{Certificate: one.DER, PrivateKey: key, Leaf: leaf}
		}
		s.certificates[arn] = c
	}
	return nil
}
