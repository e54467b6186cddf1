package dataplane

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// This file speaks HTTP/2 and gRPC to targets; shared.go knows which connections there are.

// http2Client makes a client of a connection to a target. If that is secured, it has been before.
func http2Client(ctx context.Context, conn net.Conn) (*http.ClientConn, error) {
	return http2Targets.NewClientConn(context.WithValue(ctx, connKey{}, conn), "http", "target:80")
}

type connKey struct{}

// http2Targets speaks HTTP/2 on the connection that comes with the context.
var http2Targets = func() *http.Transport {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	return &http.Transport{
		Protocols: &protocols, DisableCompression: true, MaxResponseHeaderBytes: responseHeaderLimit,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return ctx.Value(connKey{}).(net.Conn), nil },
	}
}()

// targetTLS is how TLS is spoken to targets: a load balancer does not verify them.
func targetTLS(http2 bool) *tls.Config {
	c := &tls.Config{InsecureSkipVerify: true}
	if http2 {
		c.NextProtos = []string{"h2"}
	}
	return c
}

// errSilent is a target that has sent nothing for the idle timeout.
var errSilent = fmt.Errorf("the target is silent: %w", context.DeadlineExceeded)

// multiplexed makes one attempt over an HTTP/2 connection; fit says whether the connection can be used again.
func (x *exchange) multiplexed(u *upstream, t *target, p *pool, f *forward) (fit bool, err error) {
	ctx, cancel := context.WithCancelCause(x.r.Context())
	defer cancel(nil)
	watch := time.AfterFunc(u.idleTimeout, func() { cancel(errSilent) })
	defer watch.Stop()
	moving := func() { watch.Reset(u.idleTimeout) }
	body := &clientBody{movingBody{from: x.r.Body, moving: moving}}

	sent := time.Now() // its body may still be on the way when the answer begins
	res, err := u.h2.RoundTrip(x.outgoing(ctx, t, p, body))
	if err != nil {
		err = x.cause(ctx, u, err)
		t.usage.broke(err)
		return false, err
	}
	defer res.Body.Close()
	if err := sensible(res.StatusCode); err != nil {
		t.usage.broke(err)
		return false, err
	}
	moving()
	t.group.times.add(time.Since(sent))
	t.usage.status[res.StatusCode/100].Add(1)
	res.Body = &movingBody{from: res.Body, moving: moving}
	x.head(res, t, p, f)
	if err := x.body(res); err != nil {
		err = x.cause(ctx, u, err)
		t.usage.broke(err)
		return false, err
	}
	x.trailer(res)
	return u.alive(), nil
}

// cause is why an attempt has failed: the first of all who may have ended it.
func (x *exchange) cause(ctx context.Context, u *upstream, err error) error {
	var fromClient *bodyError
	switch {
	case errors.As(err, &fromClient), errors.Is(err, errClientGone):
		return err
	case u.cause.Load() != nil:
		return *u.cause.Load()
	case x.r.Context().Err() != nil:
		return errClientGone
	case ctx.Err() != nil:
		u.cause.CompareAndSwap(nil, &errSilent) // nobody knows whether the other streams of the connection get answers
		return context.Cause(ctx)
	}
	return err
}

// outgoing is the request as the target gets it.
func (x *exchange) outgoing(ctx context.Context, t *target, p *pool, body io.ReadCloser) *http.Request {
	maps.DeleteFunc(x.r.Trailer, func(name string, _ []string) bool { return x.reserved(name) }) // names only; the values are yet to come
	r := &http.Request{
		Method: x.r.Method, Host: x.host(), Header: http.Header{"User-Agent": nil}, // nil: none is invented
		ContentLength: x.r.ContentLength, Trailer: x.r.Trailer, Proto: "HTTP/2.0", ProtoMajor: 2,
	}
	path, query, _ := strings.Cut(x.uri, "?")
	r.URL = &url.URL{Scheme: strings.ToLower(string(p.settings.Protocol)), Host: t.at.String(), Opaque: "", RawQuery: query, ForceQuery: strings.HasSuffix(x.uri, "?")}
	if unescaped, err := url.PathUnescape(path); err == nil {
		r.URL.Path, r.URL.RawPath = unescaped, path
	} else {
		r.URL.Path = path
	}
	if x.r.ContentLength != 0 {
		r.Body = body
	}
	add := func(name, value string) { r.Header[name] = append(r.Header[name], value) }
	x.passed(add)
	x.added(add)
	if strings.EqualFold(x.r.Header.Get("Te"), "trailers") {
		r.Header.Set("Te", "trailers")
	}
	return r.WithContext(ctx)
}

// movingBody notes that something moves.
type movingBody struct {
	from   io.ReadCloser
	moving func()
}

// Read reads, and notes it.
func (b *movingBody) Read(p []byte) (int, error) {
	n, err := b.from.Read(p)
	b.moving()
	return n, err
}

// Close closes the body.
func (b *movingBody) Close() error { return b.from.Close() }

// clientBody is a moving body whose failures are the client's.
type clientBody struct{ movingBody }

// Read reads, and says whose failure it was.
func (b *clientBody) Read(p []byte) (int, error) {
	n, err := b.movingBody.Read(p)
	if err != nil && err != io.EOF {
		err = &bodyError{err}
	}
	return n, err
}

// askHTTP2 is a health check over HTTP/2; for gRPC it calls the method that the path names, with an empty message, and the answer is the status
// of gRPC.
func (pr *probe) askHTTP2(ctx context.Context, conn net.Conn, host string) (int, error) {
	client, err := http2Client(ctx, conn)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	to, err := url.Parse("http://" + host + pr.key.check.Path)
	if err != nil {
		return 0, err
	}
	request := &http.Request{Method: http.MethodGet, URL: to, Host: host, Header: http.Header{"User-Agent": {"ELB-HealthChecker/2.0"}}}
	rpc := pr.key.check.Version == GRPC
	if rpc {
		request.Method = http.MethodPost
		request.Header["Content-Type"], request.Header["Te"] = []string{"application/grpc"}, []string{"trailers"}
		message := make([]byte, 5) // not compressed, of length 0
		request.Body, request.ContentLength = io.NopCloser(bytes.NewReader(message)), int64(len(message))
	}
	res, err := client.RoundTrip(request.WithContext(ctx))
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	if !rpc {
		return res.StatusCode, nil
	}
	if _, err := io.Copy(io.Discard, io.LimitReader(res.Body, 1<<20)); err != nil {
		return 0, err
	}
	status := res.Trailer.Get("Grpc-Status")
	if status == "" {
		status = res.Header.Get("Grpc-Status")
	}
	return strconv.Atoi(status)
}
