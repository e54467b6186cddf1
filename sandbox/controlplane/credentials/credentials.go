// Package credentials makes and keeps what proves identity in the sandbox's control plane: a certificate
// authority, the API server's serving certificate and the one that it shows to kubelets and aggregated APIs, the key
// that signs service account tokens, and the bearer tokens of the administrator and of the controller manager.
//
// Everything lies in one directory and is made once: a control plane that is started again in the same
// directory keeps its authority and its tokens, so clients that hold an old kubeconfig stay welcome. Nothing
// here is fit for a cluster that others can reach: the tokens lie in plain files, readable by their owner only.
//
// Start reading at [Ensure].
package credentials

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// lifetime of all certificates: longer than any sandbox lives, so that nothing has to renew them.
const lifetime = 10 * 365 * 24 * time.Hour

// Credentials are the files that the API server and the controller manager are started with. All paths are
// within the directory given to [Ensure].
type Credentials struct {
	// Authority is the PEM certificate that signed the serving certificate; clients trust it.
	Authority []byte
	// ServingCert and ServingKey are what the API server shows its clients. The certificate names 127.0.0.1,
	// ::1, localhost and the in-cluster names of the Service kubernetes.
	ServingCert, ServingKey string
	// ClientCert and ClientKey are what the API server shows where it is the client. The authority has signed nothing
	// else that is good for clients, so whoever shows a certificate of it is the API server.
	ClientCert, ClientKey string
	// ServiceAccountKey signs and verifies the tokens of service accounts.
	ServiceAccountKey string
	// TokenFile lists all bearer tokens in the API server's CSV format.
	TokenFile string
	// AdminToken belongs to user lockstep-admin; ManagerToken to system:kube-controller-manager. Both are in
	// group system:masters, which RBAC never refuses and priority and fairness never queues.
	AdminToken, ManagerToken string
}

// Ensure returns the credentials in dir, and makes them first when there are none. serviceIP is the cluster
// address of the Service kubernetes, which the serving certificate must name.
func Ensure(dir string, serviceIP net.IP) (Credentials, error) {
	c := Credentials{
		ServingCert:       filepath.Join(dir, "serving.crt"),
		ServingKey:        filepath.Join(dir, "serving.key"),
		ClientCert:        filepath.Join(dir, "client.crt"),
		ClientKey:         filepath.Join(dir, "client.key"),
		ServiceAccountKey: filepath.Join(dir, "service-account.key"),
		TokenFile:         filepath.Join(dir, "tokens.csv"),
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Credentials{}, fmt.Errorf("cannot make the directory of the credentials: %w", err)
	}
	// The tokens are written last, so their presence says that all the rest is complete.
	tokens, err := os.ReadFile(c.TokenFile)
	if errors.Is(err, fs.ErrNotExist) {
		if err := c.create(dir, serviceIP); err != nil {
			return Credentials{}, err
		}
		tokens, err = os.ReadFile(c.TokenFile)
	}
	if err != nil {
		return Credentials{}, fmt.Errorf("cannot read the bearer tokens: %w", err)
	}
	if c.AdminToken, c.ManagerToken, err = parseTokens(tokens); err != nil {
		return Credentials{}, fmt.Errorf("cannot use %s: %w; remove it to have new credentials made", c.TokenFile, err)
	}
	if c.Authority, err = os.ReadFile(filepath.Join(dir, "ca.crt")); err != nil {
		return Credentials{}, fmt.Errorf("cannot read the certificate authority: %w", err)
	}
	return c, nil
}

// create writes all files. It overwrites what an interrupted start left.
func (c Credentials) create(dir string, serviceIP net.IP) error {
	authority, authorityKey, err := newAuthority()
	if err != nil {
		return fmt.Errorf("cannot make a certificate authority: %w", err)
	}
	serving, servingKey, err := newServing(authority, authorityKey, serviceIP)
	if err != nil {
		return fmt.Errorf("cannot make a serving certificate: %w", err)
	}
	client, clientKey, err := newClient(authority, authorityKey)
	if err != nil {
		return fmt.Errorf("cannot make a client certificate: %w", err)
	}
	accountKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("cannot make the key of service accounts: %w", err)
	}
	servingPEM, err := keyPEM(servingKey)
	if err != nil {
		return err
	}
	clientPEM, err := keyPEM(clientKey)
	if err != nil {
		return err
	}
	accountPEM, err := keyPEM(accountKey)
	if err != nil {
		return err
	}
	files := []struct {
		path    string
		content []byte
	}{
		{filepath.Join(dir, "ca.crt"), certPEM(authority.Raw)},
		{c.ServingCert, certPEM(serving)},
		{c.ServingKey, servingPEM},
		{c.ClientCert, certPEM(client)},
		{c.ClientKey, clientPEM},
		{c.ServiceAccountKey, accountPEM},
		{c.TokenFile, formatTokens(newToken(), newToken())},
	}
	for _, f := range files {
		if err := os.WriteFile(f.path, f.content, 0o600); err != nil {
			return fmt.Errorf("cannot keep credentials: %w", err)
		}
	}
	return nil
}

// newAuthority makes a certificate authority and its key. The key is not kept: it signs two certificates.
func newAuthority() (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := certificate("lockstep sandbox authority")
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	authority, err := x509.ParseCertificate(der)
	return authority, key, err
}

// newServing makes the API server's certificate (DER) and key.
func newServing(authority *x509.Certificate, authorityKey *ecdsa.PrivateKey, serviceIP net.IP) ([]byte, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := certificate("kube-apiserver")
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	template.DNSNames = []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}
	template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback, serviceIP}
	der, err := x509.CreateCertificate(rand.Reader, template, authority, key.Public(), authorityKey)
	return der, key, err
}

// newClient makes the certificate (DER) and key of the API server as a client.
func newClient(authority *x509.Certificate, authorityKey *ecdsa.PrivateKey) ([]byte, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := certificate("kube-apiserver-client")
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	der, err := x509.CreateCertificate(rand.Reader, template, authority, key.Public(), authorityKey)
	return der, key, err
}

// certificate is what all templates have in common. It is valid from an hour ago, so that a clock which is
// set back a little does not lock everybody out.
func certificate(name string) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		panic(err) // crypto/rand.Reader never fails on the systems that we run on
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(lifetime),
	}
}

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func keyPEM(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("cannot encode a private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

func newToken() string {
	var b [24]byte
	_, _ = rand.Read(b[:]) // never fails: see crypto/rand.Read
	return hex.EncodeToString(b[:])
}

// formatTokens writes the API server's token file: token, user, uid, groups. parseTokens is its inverse.
func formatTokens(admin, manager string) []byte {
	return fmt.Appendf(nil, "%s,lockstep-admin,lockstep-admin,system:masters\n%s,system:kube-controller-manager,system:kube-controller-manager,system:masters\n", admin, manager)
}

func parseTokens(file []byte) (admin, manager string, err error) {
	for line := range strings.Lines(string(file)) {
		token, rest, _ := strings.Cut(strings.TrimSpace(line), ",")
		switch user, _, _ := strings.Cut(rest, ","); user {
		case "lockstep-admin":
			admin = token
		case "system:kube-controller-manager":
			manager = token
		}
	}
	if admin == "" || manager == "" {
		return "", "", errors.New("it lacks the token of lockstep-admin or of system:kube-controller-manager")
	}
	return admin, manager, nil
}
