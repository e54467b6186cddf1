package kube

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"time"
)

// How long certificates are valid, and that they are renewed when a third of that is left.
const (
	authorityValidity = 10 * 365 * 24 * time.Hour
	servingValidity   = 365 * 24 * time.Hour
	// clockSkew is how far the API server's clock may be behind ours.
	clockSkew = time.Hour
)

// The keys of the Secret that holds the certificates.
const (
	keyAuthority    = "ca.crt"
	keyAuthorityKey = "ca.key"
	keyServing      = "tls.crt"
	keyServingKey   = "tls.key"
)

// renewed returns the Secret's data with what is missing, expires soon or does not cover a host made anew,
// and whether anything was. An authority that is replaced stays in the bundle until it expires, so that
// replicas which still serve its certificates are trusted meanwhile.
func renewed(data map[string][]byte, hosts []string, now time.Time) (map[string][]byte, bool, error) {
	next := map[string][]byte{}
	for _, key := range []string{keyAuthority, keyAuthorityKey, keyServing, keyServingKey} {
		next[key] = data[key]
	}
	changed := false
	authority, err := tls.X509KeyPair(next[keyAuthority], next[keyAuthorityKey])
	if err != nil || ageing(authority.Leaf, now) {
		cert, key, err := issue(&x509.Certificate{
			Subject: pkix.Name{CommonName: "lockstep webhooks"}, IsCA: true, BasicConstraintsValid: true,
			NotAfter: now.Add(authorityValidity), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		}, nil, now)
		if err != nil {
			return nil, false, err
		}
		next[keyAuthority] = append(cert, unexpired(data[keyAuthority], now)...)
		next[keyAuthorityKey] = key
		if authority, err = tls.X509KeyPair(next[keyAuthority], key); err != nil {
			return nil, false, err
		}
		changed = true
	}
	serving, err := tls.X509KeyPair(next[keyServing], next[keyServingKey])
	if err != nil || changed || ageing(serving.Leaf, now) || !covers(serving.Leaf, hosts) {
		template := &x509.Certificate{
			Subject: pkix.Name{CommonName: hosts[0]}, NotAfter: now.Add(servingValidity),
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		}
		names := slices.Clone(hosts)
		if err == nil {
			// Another replica may be reached by other names.
			names = append(names, serving.Leaf.DNSNames...)
			for _, ip := range serving.Leaf.IPAddresses {
				names = append(names, ip.String())
			}
		}
		slices.Sort(names)
		for _, name := range slices.Compact(names) {
			if ip := net.ParseIP(name); ip != nil {
				template.IPAddresses = append(template.IPAddresses, ip)
			} else {
				template.DNSNames = append(template.DNSNames, name)
			}
		}
		if next[keyServing], next[keyServingKey], err = issue(template, &authority, now); err != nil {
			return nil, false, err
		}
		changed = true
	}
	return next, changed, nil
}

// issue makes a key and a certificate for it, signed by the authority, or by itself when there is none.
func issue(template *x509.Certificate, authority *tls.Certificate, now time.Time) (certificate, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot make a key: %w", err)
	}
	template.NotBefore = now.Add(-clockSkew)
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)); err != nil {
		return nil, nil, fmt.Errorf("cannot make a serial number: %w", err)
	}
	parent, signer := template, any(private)
	if authority != nil {
		parent, signer = authority.Leaf, authority.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, private.Public(), signer)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot sign the certificate of %s: %w", template.Subject.CommonName, err)
	}
	keyDER, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot encode a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}), nil
}

// ageing says that less than a third of a certificate's life is left.
func ageing(c *x509.Certificate, now time.Time) bool {
	return now.After(c.NotAfter.Add(-c.NotAfter.Sub(c.NotBefore) / 3))
}

func covers(c *x509.Certificate, hosts []string) bool {
	for _, host := range hosts {
		if c.VerifyHostname(host) != nil {
			return false
		}
	}
	return true
}

// unexpired keeps the certificates of a bundle that are still valid.
func unexpired(bundle []byte, now time.Time) []byte {
	var kept bytes.Buffer
	for block, rest := pem.Decode(bundle); block != nil; block, rest = pem.Decode(rest) {
		if c, err := x509.ParseCertificate(block.Bytes); err == nil && now.Before(c.NotAfter) {
			_ = pem.Encode(&kept, block)
		}
	}
	return kept.Bytes()
}

// servingCertificate reads the serving certificate of a Secret.
func servingCertificate(data map[string][]byte) (*tls.Certificate, error) {
	if len(data[keyServing]) == 0 {
		return nil, errors.New("the Secret has no serving certificate")
	}
	c, err := tls.X509KeyPair(data[keyServing], data[keyServingKey])
	if err != nil {
		return nil, fmt.Errorf("cannot use the serving certificate: %w", err)
	}
	return &c, nil
}
