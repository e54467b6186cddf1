package credentials

import (
	"crypto/x509"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"testing"
)

var serviceIP = net.IPv4(172, 20, 0, 1)

func TestServingCertificateIsTrustedUnderEveryName(t *testing.T) {
	c, err := Ensure(t.TempDir(), serviceIP)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(c.Authority) {
		t.Fatal("the authority is not a PEM certificate")
	}
	content, err := os.ReadFile(c.ServingCert)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(content)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"127.0.0.1", "localhost", "kubernetes.default.svc", "172.20.0.1"} {
		if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); err != nil {
			t.Errorf("as %s: %v", name, err)
		}
	}
}

// Kubelets take the API server's certificate for proof of who asks: it must be good for clients, and the one that is
// shown to everybody must not be.
func TestOnlyTheClientCertificateIsGoodForClients(t *testing.T) {
	c, err := Ensure(t.TempDir(), serviceIP)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(c.Authority)
	for path, want := range map[string]bool{c.ClientCert: true, c.ServingCert: false} {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(content)
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		_, err = cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		if (err == nil) != want {
			t.Errorf("%s: as a client: %v, want trusted = %v", filepath.Base(path), err, want)
		}
	}
}

func TestSecondStartKeepsTheCredentials(t *testing.T) {
	dir := t.TempDir()
	first, err := Ensure(dir, serviceIP)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Ensure(dir, serviceIP)
	if err != nil {
		t.Fatal(err)
	}
	if first.AdminToken != second.AdminToken || string(first.Authority) != string(second.Authority) {
		t.Error("the second start made new credentials, so old kubeconfigs are locked out")
	}
	if first.AdminToken == first.ManagerToken {
		t.Error("administrator and controller manager share one token")
	}
}

func TestInterruptedCreationIsRepeated(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), []byte("half a certif"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Ensure(dir, serviceIP)
	if err != nil {
		t.Fatal(err)
	}
	if block, _ := pem.Decode(c.Authority); block == nil {
		t.Error("the half-written authority was kept")
	}
}

func TestDamagedTokensAreNamed(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "tokens.csv"), []byte("abc,somebody,1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Ensure(dir, serviceIP); err == nil {
		t.Fatal("a token file without our users was accepted")
	}
}
