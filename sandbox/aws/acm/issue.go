package acm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/acm/types"
)

// lifetime is for how long AWS issues certificates.
const lifetime = 198 * 24 * time.Hour

// issue makes the key and the certificate. Whatever key was asked for, it is one on the curve P-256, of
// which making is cheap; what the API says of it is what was asked for.
func (s *Service) issue(c *certificate, at time.Time) {
	pair, err := sign(c.names(), at)
	if err != nil {
		c.detail.Status, c.detail.FailureReason = types.CertificateStatusFailed, types.FailureReasonOther
		return
	}
	c.pair = &pair
	c.pem = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}))
	c.chain = c.pem
	c.detail.Status, c.detail.IssuedAt = types.CertificateStatusIssued, new(at.UTC())
	c.describe(pair.Leaf)
	c.detail.Issuer = new("Amazon")
}

func sign(names []string, at time.Time) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: at.Add(-time.Hour), NotAfter: at.Add(lifetime),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}

// describe tells what stands in a certificate.
func (c *certificate) describe(leaf *x509.Certificate) {
	c.detail.NotBefore, c.detail.NotAfter = new(leaf.NotBefore.UTC()), new(leaf.NotAfter.UTC())
	c.detail.Serial = new(colons(leaf.SerialNumber.Bytes()))
	c.detail.Subject, c.detail.Issuer = new("CN="+leaf.Subject.CommonName), new(leaf.Issuer.String())
	c.detail.SignatureAlgorithm = new(strings.ReplaceAll(strings.ToUpper(leaf.SignatureAlgorithm.String()), "-", "WITH"))
	c.detail.ExtendedKeyUsages = []types.ExtendedKeyUsage{{Name: types.ExtendedKeyUsageNameTlsWebServerAuthentication, OID: new("1.3.6.1.5.5.7.3.1")}}
	c.detail.KeyUsages = []types.KeyUsage{{Name: types.KeyUsageNameDigitalSignature}}
}

func colons(serial []byte) string {
	parts := make([]string, len(serial))
	for i, b := range serial {
		parts[i] = fmt.Sprintf("%02x", b)
	}
	return strings.Join(parts, ":")
}

// keyAlgorithm is ACM's name for a kind of key, empty for one that it does not take.
func keyAlgorithm(key crypto.PublicKey) types.KeyAlgorithm {
	switch k := key.(type) {
	case *rsa.PublicKey:
		switch bits := k.N.BitLen(); bits {
		case 1024, 2048, 3072, 4096:
			return types.KeyAlgorithm(fmt.Sprintf("RSA_%d", bits))
		}
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return types.KeyAlgorithmEcPrime256v1
		case elliptic.P384():
			return types.KeyAlgorithmEcSecp384r1
		case elliptic.P521():
			return types.KeyAlgorithmEcSecp521r1
		}
	}
	return ""
}
