package dataplane

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
)

// MutualTLS is what an HTTPS listener does with certificates of clients. The connections that were there before it changed stay as they are.
type MutualTLS struct {
	// Verify lets in only clients with a certificate that is good for the trust store: the handshake fails for all others. Off, mode
	// passthrough: clients are asked for a certificate, and targets are told which, if any.
	Verify bool
	// Trust is for Verify. Nil: nobody is trusted.
	Trust *TrustStore
	// IgnoreExpiry lets in clients whose certificate, and nothing else, has expired.
	IgnoreExpiry bool
	// AdvertiseAuthorities tells clients the names of the authorities of the trust store.
	AdvertiseAuthorities bool
	// HeaderNames are routing.http.request.x_amzn_mtls_*.header_name, by the names of CertificateHeaders that they replace.
	HeaderNames map[string]string
}

// CertificateHeaders are the headers that tell targets of a client's certificate: the first one in mode passthrough, the others in mode verify.
var CertificateHeaders = [...]string{
	certificateHeaderPrefix, certificateHeaderPrefix + "-Serial-Number", certificateHeaderPrefix + "-Issuer", certificateHeaderPrefix + "-Subject",
	certificateHeaderPrefix + "-Validity", certificateHeaderPrefix + "-Leaf",
}

const certificateHeaderPrefix = "X-Amzn-Mtls-Clientcert"

// The published limits of what clients send: certificates, and bytes of them.
const (
	certificateChainLimit   = 4
	certificateMessageLimit = 64 << 10
)

// mutual is MutualTLS, compiled.
type mutual struct {
	MutualTLS
	names [len(CertificateHeaders)]string
}

// identity is what targets are told of a client: the values of CertificateHeaders, empty for those that it has not.
type identity [len(CertificateHeaders)]string

var errChainLimit = errors.New("the client has sent more certificates than a load balancer takes")

// compileMutual makes a TLS configuration ask for certificates.
func compileMutual(m MutualTLS, config *tls.Config) *mutual {
	out := &mutual{MutualTLS: m}
	if m.Trust == nil {
		out.Trust = NewTrustStore(nil, nil)
	}
	for i, name := range CertificateHeaders {
		out.names[i] = http.CanonicalHeaderKey(cmp.Or(m.HeaderNames[name], name))
	}
	config.SessionTicketsDisabled = true // AWS resumes no sessions here, and who is revoked would otherwise stay
	config.ClientAuth = tls.RequestClientCert
	if m.Verify {
		config.ClientAuth = tls.RequireAnyClientCert // which are then looked at by admit
	}
	if m.Verify && m.AdvertiseAuthorities {
		config.ClientCAs = out.Trust.authorities
	}
	config.VerifyConnection = func(state tls.ConnectionState) error { return out.admit(state.PeerCertificates) }
	return out
}

func (m *mutual) admit(presented []*x509.Certificate) error {
	size := 0
	for _, one := range presented {
		size += len(one.Raw)
	}
	switch {
	case len(presented) > certificateChainLimit || size > certificateMessageLimit:
		return errChainLimit
	case !m.Verify:
		return nil
	}
	return m.Trust.admit(presented, m.IgnoreExpiry)
}

// identify tells what targets hear of a client that was let in.
func (m *mutual) identify(presented []*x509.Certificate) *identity {
	switch {
	case len(presented) == 0:
		return nil
	case !m.Verify:
		var chain strings.Builder
		for _, one := range presented {
			chain.WriteString(escapedPEM(one))
		}
		return &identity{0: chain.String()}
	}
	const iso8601 = "2006-01-02T15:04:05Z"
	leaf := presented[0]
	return &identity{
		1: fmt.Sprintf("%02X", leaf.SerialNumber.Bytes()),
		2: distinguishedName(leaf.RawIssuer),
		3: distinguishedName(leaf.RawSubject),
		4: "NotBefore=" + leaf.NotBefore.UTC().Format(iso8601) + ";NotAfter=" + leaf.NotAfter.UTC().Format(iso8601),
		5: escapedPEM(leaf),
	}
}

// write adds the headers about a client to a request.
func (m *mutual) write(id *identity, line func(name, value string)) {
	for i, value := range id {
		if value != "" {
			line(m.names[i], value)
		}
	}
}

// owns says whether a header is for the listener to write, so that clients cannot.
func (m *mutual) owns(name string) bool {
	return strings.HasPrefix(name, certificateHeaderPrefix) || slices.Contains(m.names[:], name)
}

// escapedPEM is a certificate in PEM as it stands in a header: escaped as in a URL, but for + = and /.
func escapedPEM(c *x509.Certificate) string {
	var b strings.Builder
	for _, char := range pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) {
		if isUnreserved(char) || strings.IndexByte("+=/", char) >= 0 {
			b.WriteByte(char)
		} else {
			fmt.Fprintf(&b, "%%%02X", char)
		}
	}
	return b.String()
}

// identityOf is what was found about a client when its connection was secured.
func identityOf(conn net.Conn) *identity {
	if over, ok := conn.(*tls.Conn); ok {
		if client, ok := over.NetConn().(*metered); ok {
			return client.identity
		}
	}
	return nil
}
