// Package certtest makes authorities, certificates of clients and lists of revoked ones, for tests of mutual TLS.
package certtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"
)

// Authority signs certificates.
type Authority struct {
	testing.TB
	Certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	above       [][]byte // the authorities between it and the root, itself first
	serial      int64
}

// New makes an authority that nobody else has signed.
func New(t testing.TB, name string) *Authority {
	t.Helper()
	a := &Authority{TB: t, key: Key(t)}
	a.Certificate = a.sign(authority(name), authority(name), a.key)
	return a
}

// Sub makes an authority that is signed by this one; its clients show its certificate after theirs.
func (a *Authority) Sub(name string) *Authority {
	a.Helper()
	sub := &Authority{TB: a.TB, key: Key(a)}
	template := authority(name)
	template.SerialNumber = a.next()
	sub.Certificate = a.sign(template, a.Certificate, sub.key)
	sub.above = append([][]byte{sub.Certificate.Raw}, a.above...)
	return sub
}

func authority(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

// next is the number of one more certificate.
func (a *Authority) next() *big.Int {
	a.serial++
	return big.NewInt(0x100 + a.serial)
}

// Key makes a key on the curve P-256.
func Key(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *Authority) sign(template, parent *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	a.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), a.key)
	if err != nil {
		a.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		a.Fatal(err)
	}
	return certificate
}

// Client makes a certificate for a client, good for an hour unless it is changed.
func (a *Authority) Client(name string, change ...func(*x509.Certificate)) tls.Certificate {
	a.Helper()
	template := &x509.Certificate{
		SerialNumber: a.next(), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, f := range change {
		f(template)
	}
	key := Key(a)
	leaf := a.sign(template, a.Certificate, key)
	return tls.Certificate{Certificate: append([][]byte{leaf.Raw}, a.above...), PrivateKey: key, Leaf: leaf}
}

// Expired makes a certificate whose time is over.
func Expired(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }

// PEM is the certificate of the authority.
func (a *Authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate.Raw})
}

// Revoke makes a list of revoked certificates.
func (a *Authority) Revoke(revoked ...*x509.Certificate) []byte {
	a.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour)}
	for _, one := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: one.SerialNumber, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.Certificate, a.key)
	if err != nil {
		a.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}
