package dataplane

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// TrustStore is the authorities whose clients a listener lets in, and what they have revoked. It never changes, and several nodes can share it.
type TrustStore struct {
	authorities *x509.CertPool
	revoked     map[string][]*Revocations // by the names of those who have issued them, in DER
}

// NewTrustStore makes a trust store. Whatever certificate it is given is trusted for itself, also that of an authority which another one has
// signed, unless that other one is given as well and has revoked it.
func NewTrustStore(authorities []*x509.Certificate, lists []*Revocations) *TrustStore {
	t := &TrustStore{authorities: x509.NewCertPool(), revoked: map[string][]*Revocations{}}
	for _, list := range lists {
		issuer := string(list.signed.RawIssuer)
		t.revoked[issuer] = append(t.revoked[issuer], list)
	}
	for _, one := range authorities {
		revoked := len(t.revoked[string(one.RawIssuer)]) > 0 &&
			slices.ContainsFunc(authorities, func(above *x509.Certificate) bool { return !above.Equal(one) && t.lost(one, above) })
		if !revoked {
			t.authorities.AddCert(one)
		}
	}
	return t
}

// Revocations is what one list revokes. It never changes.
type Revocations struct {
	signed  *x509.RevocationList // without its entries
	serials map[string]struct{}
}

// NewRevocations keeps of a list what has to be looked up in it.
func NewRevocations(list *x509.RevocationList) *Revocations {
	r := &Revocations{signed: new(*list), serials: make(map[string]struct{}, len(list.RevokedCertificateEntries))}
	for _, one := range list.RevokedCertificateEntries {
		r.serials[string(one.SerialNumber.Bytes())] = struct{}{}
	}
	r.signed.RevokedCertificateEntries = nil
	//lint:ignore SA1019 what is not to be kept is the same entries once more
	r.signed.RevokedCertificates = nil
	return r
}

// Raw is the list in DER, as it was given.
func (r *Revocations) Raw() []byte { return r.signed.Raw }

// admit says why a client with this chain of certificates, its own one first, is not let in, nil if it is.
//
// Revocation is looked up for every certificate of which the issuer has a list; one of which nobody has a list is not revoked. A list whose time is
// over still counts.
func (t *TrustStore) admit(presented []*x509.Certificate, ignoreExpiry bool) error {
	now := time.Now()
	for _, one := range presented {
		if err := supported(one); err != nil {
			return err
		}
	}
	leaf := new(*presented[0])
	if ignoreExpiry && now.After(leaf.NotAfter) {
		leaf.NotAfter = now // which says nothing of the authorities: they must be valid still
	}
	between := x509.NewCertPool()
	for _, one := range presented[1:] {
		between.AddCert(one)
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots: t.authorities, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return err
	}
	for _, chain := range chains {
		if err = t.current(chain); err == nil {
			return nil
		}
	}
	return err
}

// current says which certificate of a chain is revoked, nil if none is.
func (t *TrustStore) current(chain []*x509.Certificate) error {
	for i, one := range chain[:len(chain)-1] {
		if t.lost(one, chain[i+1]) {
			return fmt.Errorf("certificate %X of %s is revoked", one.SerialNumber, one.Issuer)
		}
	}
	return nil
}

// lost says whether an authority has revoked a certificate.
func (t *TrustStore) lost(one, authority *x509.Certificate) bool {
	if !bytes.Equal(one.RawIssuer, authority.RawSubject) {
		return false
	}
	return slices.ContainsFunc(t.revoked[string(one.RawIssuer)], func(list *Revocations) bool {
		if _, found := list.serials[string(one.SerialNumber.Bytes())]; !found {
			return false
		}
		// Only those who are in it pay for the signature. An authority of the same name with another key has revoked nothing here; one that must
		// not sign lists has not said either that the certificate is good.
		err := list.signed.CheckSignatureFrom(authority)
		return err == nil || errors.As(err, new(x509.ConstraintViolationError))
	})
}

// supported says whether AWS takes a certificate of this kind: X.509 version 3 with a key of RSA from 2048 to 8192 bits or on one of three curves.
func supported(c *x509.Certificate) error {
	if c.Version != 3 {
		return fmt.Errorf("a certificate has version %d of X.509, which must be 3", c.Version)
	}
	switch key := c.PublicKey.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits >= 2048 && bits <= 8192 {
			return nil
		}
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
			return nil
		}
	}
	return fmt.Errorf("a certificate has a key that is not supported (%s)", c.PublicKeyAlgorithm)
}
