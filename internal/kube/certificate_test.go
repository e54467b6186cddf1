package kube

import (
	"bytes"
	"crypto/x509"
	"testing"
	"time"
)

func trusted(t *testing.T, data map[string][]byte, host string, now time.Time) error {
	t.Helper()
	c, err := servingCertificate(data)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(data[keyAuthority]) {
		t.Fatal("the authority is not a certificate")
	}
	_, err = c.Leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: roots, CurrentTime: now})
	return err
}

func TestCertificatesAreMadeOnceAndRenewedInTime(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	hosts := []string{"lockstep.system.svc", "127.0.0.1"}
	first, changed, err := renewed(nil, hosts, start)
	if err != nil || !changed {
		t.Fatalf("nothing is made from nothing: %v, %v", changed, err)
	}
	for _, host := range hosts {
		if err := trusted(t, first, host, start); err != nil {
			t.Errorf("%s is not trusted: %v", host, err)
		}
	}
	same, changed, err := renewed(first, hosts, start.Add(time.Hour))
	if err != nil || changed || !bytes.Equal(same[keyServing], first[keyServing]) {
		t.Errorf("an hour later the certificates change: %v, %v", changed, err)
	}

	old := start.Add(300 * 24 * time.Hour)
	next, changed, err := renewed(first, hosts, old)
	if err != nil || !changed {
		t.Fatalf("a serving certificate with 65 days left is not renewed: %v", err)
	}
	if !bytes.Equal(next[keyAuthority], first[keyAuthority]) {
		t.Error("the authority changes with the serving certificate")
	}
	if err := trusted(t, next, hosts[0], old); err != nil {
		t.Error(err)
	}
}

func TestARenewedAuthorityStillTrustsTheOldCertificates(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	hosts := []string{"lockstep.system.svc"}
	first, _, err := renewed(nil, hosts, start)
	if err != nil {
		t.Fatal(err)
	}
	late := start.Add(authorityValidity * 3 / 4)
	before, _, err := renewed(first, hosts, start.Add(authorityValidity/2))
	if err != nil {
		t.Fatal(err)
	}
	after, changed, err := renewed(before, hosts, late)
	if err != nil || !changed || bytes.Equal(after[keyAuthority], before[keyAuthority]) {
		t.Fatalf("the authority is not renewed: %v, %v", changed, err)
	}
	mixed := map[string][]byte{keyAuthority: after[keyAuthority], keyServing: before[keyServing], keyServingKey: before[keyServingKey]}
	if err := trusted(t, mixed, hosts[0], start.Add(authorityValidity/2)); err != nil {
		t.Errorf("a replica that still serves the old certificate is not trusted: %v", err)
	}
	if err := trusted(t, after, hosts[0], late); err != nil {
		t.Error(err)
	}
}

func TestAReplicaWithAnotherAddressIsAddedToTheCertificate(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	first, _, err := renewed(nil, []string{"127.0.0.1"}, now)
	if err != nil {
		t.Fatal(err)
	}
	second, changed, err := renewed(first, []string{"127.0.0.2"}, now)
	if err != nil || !changed {
		t.Fatalf("the certificate is not made anew: %v", err)
	}
	for _, host := range []string{"127.0.0.1", "127.0.0.2"} {
		if err := trusted(t, second, host, now); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
}
