package dataplane

import (
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

// upgrade is the protocol to which a request wants to change, as WebSocket does, or empty. HTTP/2 is not among them.
func upgrade(r *http.Request) string {
	to := r.Header.Get("Upgrade")
	if to == "" || !r.ProtoAtLeast(1, 1) || r.ProtoMajor != 1 || r.ContentLength != 0 || !named(r.Header["Connection"], "Upgrade") {
		return ""
	}
	if slices.Contains([]string{"h2c", "h2"}, strings.ToLower(to)) {
		return ""
	}
	return to
}

// tunnel passes on the answer that changes the protocol, and then bytes in both directions until somebody closes, nothing moves for the
// idle timeout, or the target or the listener leaves.
func (x *exchange) tunnel(u *upstream, res *http.Response, t *target, p *pool, f *forward) error {
	if in := x.client.inspected; in != nil {
		in.tunnel.Store(true) // what comes now are no requests
	}
	conn, early, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		return err
	}
	x.begun = true
	defer conn.Close()
	h := http.Header{"Connection": {"Upgrade"}, "Upgrade": res.Header["Upgrade"]}
	x.headers(h, res, t, p, f)
	_ = conn.SetDeadline(time.Time{})
	_ = u.conn.SetDeadline(time.Time{})
	_, _ = early.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	_ = h.Write(early)
	_, _ = early.WriteString("\r\n")
	if err := early.Flush(); err != nil {
		return nil // the client has gone, which is no failure of the target
	}

	ctx, cancel := context.WithCancel(x.socket.tunnels)
	defer cancel()
	idle := time.AfterFunc(x.routes.attributes.IdleTimeout, cancel)
	defer idle.Stop()
	moving := func() { idle.Reset(x.routes.attributes.IdleTimeout) }
	ended := make(chan struct{}, 2)
	carry := func(to net.Conn, from io.Reader) {
		_, _ = io.Copy(to, &movingReader{from, moving})
		ended <- struct{}{}
	}
	go carry(u.conn, early.Reader)
	go carry(conn, io.MultiReader(io.LimitReader(u.r, int64(u.r.Buffered())), u.conn))
	left := 2
	select {
	case <-ctx.Done():
	case <-ended:
		left--
	}
	_ = conn.Close()
	_ = u.conn.Close()
	for range left {
		<-ended
	}
	return nil
}

// movingReader notes that something moves.
type movingReader struct {
	from   io.Reader
	moving func()
}

// Read reads, and notes it.
func (r *movingReader) Read(p []byte) (int, error) {
	n, err := r.from.Read(p)
	if n > 0 {
		r.moving()
	}
	return n, err
}
