package kubelet

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"k8s.io/client-go/rest"
)

// endpoint is an HTTPS server on loopback that only the API server may use: what it does there it does for users whom
// it has authorized. Others, who may be other users of this machine, have no certificate that its authority signed.
type endpoint struct {
	server http.Server
	port   uint16
	done   sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool // also those that handlers have taken over, which the server does not close
}

// serve starts an endpoint at a real address. Its requests' contexts end with ctx.
func serve(ctx context.Context, at netip.AddrPort, identity *tls.Config, handler http.Handler) (*endpoint, error) {
	l, err := (&net.ListenConfig{KeepAlive: -1}).Listen(ctx, "tcp4", at.String())
	if err != nil {
		return nil, fmt.Errorf("cannot listen at %s for the API server: %w", at, err)
	}
	e := &endpoint{port: at.Port(), conns: map[net.Conn]bool{}}
	e.server = http.Server{
		Handler: handler, TLSConfig: identity, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: 30 * time.Second,
		BaseContext: func(net.Listener) context.Context { return ctx },
		// Connections are upgraded to SPDY and WebSocket, which HTTP/2 does not allow.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	e.done.Go(func() { _ = e.server.ServeTLS(tracked{l, e}, "", "") })
	return e, nil
}

// close ends all that goes on, at once.
func (e *endpoint) close() {
	_ = e.server.Close()
	e.mu.Lock()
	for c := range e.conns {
		go c.Close() // which takes mu
	}
	e.mu.Unlock()
	e.done.Wait()
}

// tracked is a listener that remembers its open connections.
type tracked struct {
	net.Listener
	e *endpoint
}

func (t tracked) Accept() (net.Conn, error) {
	c, err := t.Listener.Accept()
	if err != nil {
		return nil, err
	}
	conn := &trackedConn{Conn: c, e: t.e}
	t.e.mu.Lock()
	defer t.e.mu.Unlock()
	t.e.conns[conn] = true
	return conn, nil
}

type trackedConn struct {
	net.Conn
	e *endpoint
}

func (c *trackedConn) Close() error {
	c.e.mu.Lock()
	delete(c.e.conns, c)
	c.e.mu.Unlock()
	return c.Conn.Close()
}

// newIdentity makes what the endpoints show to the API server, which does not check it, and how they know it: by the
// authority that signed its own certificate. It is nil if the API server has none.
func newIdentity(api *rest.Config) (*tls.Config, error) {
	config := rest.CopyConfig(api)
	if err := rest.LoadTLSFiles(config); err != nil {
		return nil, fmt.Errorf("kubelet: cannot read the API server's authority: %w", err)
	}
	if len(config.CAData) == 0 {
		return nil, nil
	}
	clients := x509.NewCertPool()
	if !clients.AppendCertsFromPEM(config.CAData) {
		return nil, errors.New("kubelet: the API server's authority is not a PEM certificate")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("kubelet: cannot make a key: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "lockstep sandbox kubelet"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("kubelet: cannot make a certificate: %w", err)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12,
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients, NextProtos: []string{"http/1.1"},
	}, nil
}
