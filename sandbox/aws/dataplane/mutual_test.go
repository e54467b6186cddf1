package dataplane

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane/certtest"
)

// mutualWorld is a node with one HTTPS listener that asks for certificates, and a target that tells which headers about them it has got.
type mutualWorld struct {
	*world
	listener Listener
	seen     chan http.Header
}

func newMutualWorld(t *testing.T) *mutualWorld {
	t.Helper()
	w := &mutualWorld{world: newWorld(t), seen: make(chan http.Header, 1)}
	app := w.serve("app")
	app.on(func(rw http.ResponseWriter, r *http.Request) {
		about := http.Header{}
		for name, values := range r.Header {
			if strings.Contains(strings.ToLower(name), "cert") {
				about[name] = values
			}
		}
		w.seen <- about
		_, _ = io.WriteString(rw, "hello "+r.Proto)
	})
	w.healthyGroup("g", app.Target)
	w.listener = Listener{Port: 8080, Protocol: HTTPS, Certificates: []tls.Certificate{certificate(t, "a.example.com")}, Default: Action{Forward: &Forward{Groups: []WeightedGroup{{ARN: "g"}}}}}
	return w
}

func (w *mutualWorld) asking(m MutualTLS) {
	w.Helper()
	w.listener.Mutual = &m
	w.apply(NodeConfig{Listeners: []Listener{w.listener}})
}

// as asks once as a client with this certificate, which it shows whatever the node says whom it trusts. Nil: it has none.
func (w *mutualWorld) as(client *tls.Certificate, protocol string, adjust ...func(*http.Request)) (about http.Header, version string, err error) {
	w.Helper()
	config := &tls.Config{InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	if protocol == "HTTP/1.1" {
		config.MaxVersion = tls.VersionTLS12 // where the client hears in the handshake that it is refused, and not after it
	}
	if client != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return client, nil }
	}
	var protocols http.Protocols
	protocols.SetHTTP1(protocol == "HTTP/1.1")
	protocols.SetHTTP2(protocol == "HTTP/2.0")
	transport := &http.Transport{TLSClientConfig: config, Protocols: &protocols}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(w.Context(), http.MethodGet, "https://"+w.at.String()+"/", nil)
	if err != nil {
		w.Fatal(err)
	}
	for _, f := range adjust {
		f(r)
	}
	res, err := transport.RoundTrip(r)
	if err != nil {
		return nil, "", err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		w.Fatalf("answered %s", res.Status)
	}
	return <-w.seen, res.Proto, nil
}

var bothProtocols = []string{"HTTP/1.1", "HTTP/2.0"}

func trusting(authorities ...*certtest.Authority) *TrustStore {
	var all []*x509.Certificate
	for _, one := range authorities {
		all = append(all, one.Certificate)
	}
	return NewTrustStore(all, nil)
}

func revocations(t *testing.T, text []byte) *Revocations {
	t.Helper()
	block, _ := pem.Decode(text)
	list, err := x509.ParseRevocationList(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return NewRevocations(list)
}

// Mode verify lets in whom the trust store is good for, and nobody else.
func TestVerifiedClients(t *testing.T) {
	t.Parallel()
	w := newMutualWorld(t)
	root, stranger := certtest.New(t, "root"), certtest.New(t, "root") // of the same name
	between := root.Sub("between")
	deep := between.Sub("2").Sub("3").Sub("4")
	good, revoked, expired := root.Client("good"), root.Client("revoked"), root.Client("expired", certtest.Expired)
	lost := between.Sub("lost")
	store := NewTrustStore([]*x509.Certificate{root.Certificate}, []*Revocations{
		revocations(t, root.Revoke(revoked.Leaf)), revocations(t, stranger.Revoke(good.Leaf)), revocations(t, between.Revoke(lost.Certificate)),
	})
	foreign, below, ofLost, tooDeep := stranger.Client("foreign"), between.Client("below"), lost.Client("of lost"), deep.Client("too deep")
	early := root.Client("early", func(c *x509.Certificate) { c.NotBefore = time.Now().Add(30 * time.Minute) })
	server := root.Client("server", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	for _, c := range []struct {
		name                 string
		client               *tls.Certificate
		verified, unexpiring bool // whether it gets in, and whether if expiry is ignored
	}{
		{"good", &good, true, true},
		{"none", nil, false, false},
		{"signed by a stranger of the same name", &foreign, false, false},
		{"signed by an authority that the client shows", &below, true, true},
		{"of an authority that is revoked", &ofLost, false, false},
		{"revoked", &revoked, false, false},
		{"expired", &expired, false, true},
		{"not yet valid", &early, false, false},
		{"for servers", &server, false, false},
		{"with too many others", &tooDeep, false, false},
		{"of a kind that is not supported", edwards(root), false, false},
		{"garbage", garbage(good, func([]byte) []byte { return []byte("garbage") }), false, false},
		{"cut off", garbage(good, func(der []byte) []byte { return der[:len(der)/2] }), false, false},
		{"empty", garbage(good, func([]byte) []byte { return nil }), false, false},
		{"altered", garbage(good, func(der []byte) []byte { der[len(der)-5] ^= 1; return der }), false, false},
	} {
		for _, ignore := range []bool{false, true} {
			w.asking(MutualTLS{Verify: true, Trust: store, IgnoreExpiry: ignore})
			want := c.verified
			if ignore {
				want = c.unexpiring
			}
			for _, protocol := range bothProtocols {
				before := w.node.Stats().ClientTLSErrors
				about, version, err := w.as(c.client, protocol)
				switch {
				case (err == nil) != want:
					t.Errorf("%s, expiry ignored %t, over %s: %v", c.name, ignore, protocol, err)
				case err == nil && (version != protocol || len(about) != 5):
					t.Errorf("%s: over %s the target was told %v", c.name, version, about)
				case err != nil:
					w.eventually("the failed handshake is counted: "+c.name, func() bool { return w.node.Stats().ClientTLSErrors > before }) // clients may try again
				}
			}
		}
	}
	w.asking(MutualTLS{Verify: true})
	if _, _, err := w.as(&good, "HTTP/1.1"); err == nil {
		t.Error("somebody was let in though nobody is trusted")
	}
}

// An authority of the trust store that another one of it has revoked is not trusted, whether clients show its certificate or not.
func TestRevokedAuthorities(t *testing.T) {
	t.Parallel()
	root, stranger := certtest.New(t, "root"), certtest.New(t, "root")
	good, lost := root.Sub("good"), root.Sub("lost")
	store := NewTrustStore([]*x509.Certificate{root.Certificate, good.Certificate, lost.Certificate}, []*Revocations{
		revocations(t, root.Revoke(lost.Certificate)), revocations(t, stranger.Revoke(good.Certificate)), revocations(t, root.Revoke(root.Certificate)),
	})
	for _, c := range []struct {
		of       *certtest.Authority
		admitted bool
	}{{root, true}, {good, true}, {lost, false}} {
		client := c.of.Client("client")
		var chain []*x509.Certificate
		for _, der := range client.Certificate {
			one, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			chain = append(chain, one)
		}
		for _, shown := range [][]*x509.Certificate{chain, chain[:1]} {
			if err := store.admit(shown, false); (err == nil) != c.admitted {
				t.Errorf("a client of %s that shows %d certificates: %v", c.of.Certificate.Subject, len(shown), err)
			}
		}
	}
}

// edwards is a certificate whose key AWS does not take.
func edwards(a *certtest.Authority) *tls.Certificate {
	a.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		a.Fatal(err)
	}
	own := a.Client("edwards")
	template := *own.Leaf
	template.PublicKey, template.SignatureAlgorithm = public, x509.UnknownSignatureAlgorithm
	// The chain does not matter: the key is looked at first.
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, public, private)
	if err != nil {
		a.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}
}

// garbage shows something else in place of a certificate.
func garbage(c tls.Certificate, change func(der []byte) []byte) *tls.Certificate {
	return &tls.Certificate{Certificate: [][]byte{change(bytes.Clone(c.Certificate[0]))}, PrivateKey: c.PrivateKey, Leaf: c.Leaf}
}

// What targets are told in mode verify, whatever the client says of itself.
func TestVerifiedClientIsTold(t *testing.T) {
	t.Parallel()
	w := newMutualWorld(t)
	root := certtest.New(t, "root")
	client := root.Client("", func(c *x509.Certificate) {
		c.SerialNumber.SetInt64(0x03a5b1)
		c.NotBefore, c.NotAfter = time.Date(2023, 9, 21, 1, 50, 17, 0, time.UTC), time.Date(2024, 9, 20, 1, 50, 17, 0, time.FixedZone("", 3600))
		c.Subject = pkix.Name{Country: []string{"US"}, Province: []string{"Washington"}, Organization: []string{"mTLS, Inc"}, CommonName: "client_.com\r\nX-Evil: 1"}
	})
	spoof := func(r *http.Request) {
		for _, name := range CertificateHeaders {
			r.Header.Add(name, "spoofed")
		}
		r.Header.Add("X-Amzn-Mtls-Clientcert-Anything", "spoofed")
		r.Header.Add("Client-Cert", "spoofed")
		if r.URL.Path == "/connection" { // which HTTP/2 does not have
			r.Header.Add("Connection", CertificateHeaders[3])
		}
	}
	leaf := url.PathEscape(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: client.Leaf.Raw})))
	leaf = strings.NewReplacer("%2F", "/", "%2B", "+", "%3D", "=").Replace(leaf)
	want := http.Header{
		"X-Amzn-Mtls-Clientcert-Serial-Number": {"03A5B1"},
		"X-Amzn-Mtls-Clientcert-Issuer":        {"CN=root"},
		"X-Amzn-Mtls-Clientcert-Subject":       {`CN=client_.com\0D\0AX-Evil: 1,O=mTLS\, Inc,ST=Washington,C=US`},
		"X-Amzn-Mtls-Clientcert-Validity":      {"NotBefore=2023-09-21T01:50:17Z;NotAfter=2024-09-20T00:50:17Z"},
		"X-Amzn-Mtls-Clientcert-Leaf":          {leaf},
		"Client-Cert":                          {"spoofed"}, // which is nobody's
	}
	mode := MutualTLS{Verify: true, Trust: trusting(root), IgnoreExpiry: true}
	w.asking(mode)
	for _, protocol := range bothProtocols {
		about, _, err := w.as(&client, protocol, spoof)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, about); diff != "" {
			t.Errorf("over %s (-want +got):\n%s", protocol, diff)
		}
	}
	mode.HeaderNames = map[string]string{"X-Amzn-Mtls-Clientcert-Leaf": "client-cert"}
	w.asking(mode)
	delete(want, "X-Amzn-Mtls-Clientcert-Leaf")
	want["Client-Cert"] = []string{leaf}
	about, _, err := w.as(&client, "HTTP/1.1", func(r *http.Request) { r.URL.Path = "/connection" }, spoof)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, about); diff != "" {
		t.Errorf("with another name (-want +got):\n%s", diff)
	}
}

// Mode passthrough lets everybody in and tells targets the whole chain.
func TestPassedThroughClients(t *testing.T) {
	t.Parallel()
	w := newMutualWorld(t)
	w.asking(MutualTLS{})
	sub := certtest.New(t, "root").Sub("sub")
	expired, deep := sub.Client("expired", certtest.Expired), sub.Sub("2").Sub("3").Sub("4").Client("deep")
	spoof := func(r *http.Request) { r.Header.Add("X-Amzn-Mtls-Clientcert", "spoofed") }
	for _, protocol := range bothProtocols {
		about, _, err := w.as(nil, protocol, spoof)
		if err != nil || len(about) > 0 {
			t.Errorf("without a certificate over %s: %v, %v", protocol, about, err)
		}
		about, _, err = w.as(&expired, protocol, spoof)
		if err != nil || len(about) != 1 || len(about["X-Amzn-Mtls-Clientcert"]) != 1 {
			t.Fatalf("over %s: %v, %v", protocol, about, err)
		}
		text, err := url.PathUnescape(about["X-Amzn-Mtls-Clientcert"][0])
		if err != nil {
			t.Fatal(err)
		}
		var chain [][]byte
		for block, rest := pem.Decode([]byte(text)); block != nil; block, rest = pem.Decode(rest) {
			chain = append(chain, block.Bytes)
		}
		if !slices.EqualFunc(chain, expired.Certificate, bytes.Equal) {
			t.Errorf("over %s the chain is\n%s", protocol, text)
		}
	}
	for name, client := range map[string]*tls.Certificate{"garbage": garbage(expired, func([]byte) []byte { return []byte{0x30, 0x80} }), "5 certificates": &deep} {
		if _, _, err := w.as(client, "HTTP/1.1"); err == nil {
			t.Errorf("%s was let in", name)
		}
	}
}

// Clients hear whom the listener trusts if it says so, and no session is resumed.
func TestAdvertisedAuthorities(t *testing.T) {
	t.Parallel()
	w := newMutualWorld(t)
	root := certtest.New(t, "root")
	client := root.Client("client")
	for _, c := range []struct {
		mode MutualTLS
		want [][]byte
	}{
		{MutualTLS{Verify: true, Trust: trusting(root)}, nil},
		{MutualTLS{Verify: true, Trust: trusting(root), AdvertiseAuthorities: true}, [][]byte{root.Certificate.RawSubject}},
	} {
		w.asking(c.mode)
		var heard [][]byte
		config := &tls.Config{InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
		config.GetClientCertificate = func(request *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			heard = request.AcceptableCAs
			return &client, nil
		}
		for range 2 {
			conn, err := tls.Dial("tcp", w.at.String(), config)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			if _, err := io.Copy(io.Discard, conn); err != nil {
				t.Fatal(err)
			}
			<-w.seen
			if conn.ConnectionState().DidResume {
				t.Error("a session was resumed")
			}
			_ = conn.Close()
		}
		if diff := cmp.Diff(c.want, heard); diff != "" {
			t.Errorf("advertised (-want +got):\n%s", diff)
		}
	}
}

// A connection stays what it was when it was made, and no client can name itself after the listener has changed.
func TestChangedListenerKeepsConnections(t *testing.T) {
	t.Parallel()
	w := newMutualWorld(t)
	w.apply(NodeConfig{Listeners: []Listener{w.listener}})
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer transport.CloseIdleConnections()
	w.client.Transport = transport
	ask := func() http.Header {
		r, err := http.NewRequestWithContext(w.Context(), http.MethodGet, "https://"+w.at.String()+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Amzn-Mtls-Clientcert-Subject", "CN=admin")
		if status, _, _ := w.do(r); status != http.StatusOK {
			t.Fatalf("status %d", status)
		}
		return <-w.seen
	}
	if about := ask(); len(about) != 1 {
		t.Errorf("a listener that asks for no certificates does not look at the headers about them, and has passed on %v", about)
	}
	w.asking(MutualTLS{Verify: true, Trust: trusting(certtest.New(t, "root"))})
	if about := ask(); len(about) != 0 {
		t.Errorf("the target was told %v", about)
	}
	if opened := w.node.Stats().NewConnections; opened != 1 {
		t.Errorf("%d connections were made", opened)
	}
}

// Names of certificates, in the words of RFC 2253.
func TestDistinguishedName(t *testing.T) {
	for want, name := range map[string]pkix.RDNSequence{
		"":                                {},
		"CN=a+OU=b,C=US":                  {{part("2.5.4.6", "US")}, {part("2.5.4.3", "a"), part("2.5.4.11", "b")}},
		`O=\#1 \"\<\;\>\+\\\ `:            {{part("2.5.4.10", `#1 "<;>+\ `)}},
		`O=\ `:                            {{part("2.5.4.10", " ")}},
		`O=M\C3\BCller\7F`:                {{part("2.5.4.10", "Müller\x7f")}},
		"UID=me,DC=example,DC=com":        {{part("0.9.2342.19200300.100.1.25", "com")}, {part("0.9.2342.19200300.100.1.25", "example")}, {part("0.9.2342.19200300.100.1.1", "me")}},
		"2.5.4.5=#130131,CN=n":            {{part("2.5.4.3", "n")}, {part("2.5.4.5", "1")}},
		"2.5.4.3=#020105":                 {{part("2.5.4.3", 5)}},
		"emailAddress=a@example.com,CN=m": {{part("2.5.4.3", "m")}, {part("1.2.840.113549.1.9.1", "a@example.com")}},
	} {
		der, err := asn1.Marshal(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := distinguishedName(der); got != want {
			t.Errorf("want %s, got %s", want, got)
		}
	}
	if got := distinguishedName([]byte("no name\r\n")); got != "#6e6f206e616d650d0a" {
		t.Errorf("garbage is %q", got)
	}
}

// FuzzDistinguishedName takes whatever stands in a certificate for a name: nothing of it can end a header.
func FuzzDistinguishedName(f *testing.F) {
	for _, seed := range []string{"", "garbage\r\n", "0\x0c1\n0\x08\x06\x03U\x04\x03\x0c\x01\n", "0\x0b1\t0\x07\x06\x03U\x04\x03\x05\x00", "0\x801\x80"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		for _, char := range []byte(distinguishedName(der)) {
			if char < ' ' || char > '~' {
				t.Fatalf("%q of %x is in a header", char, der)
			}
		}
	})
}

func part(oid string, value any) pkix.AttributeTypeAndValue {
	var id asn1.ObjectIdentifier
	for digits := range strings.SplitSeq(oid, ".") {
		var n int
		_, _ = fmt.Sscan(digits, &n)
		id = append(id, n)
	}
	return pkix.AttributeTypeAndValue{Type: id, Value: value}
}
