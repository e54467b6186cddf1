package dataplane

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// answer reads the header of the response; interim responses (1xx) are left out.
func (x *exchange) answer(u *upstream) (*http.Response, error) {
	for {
		u.budget = responseHeaderLimit
		res, err := http.ReadResponse(u.r, x.r)
		u.budget = -1
		if err != nil {
			return nil, err
		}
		changes := res.StatusCode == http.StatusSwitchingProtocols
		switch {
		case changes && x.upgrade != "":
			return res, nil
		case changes, res.StatusCode < 100, res.StatusCode >= 200:
			return res, sensible(res.StatusCode)
		}
	}
}

// sensible is nil for the status of a final response.
func sensible(status int) error {
	if status < 200 || status > 599 {
		return fmt.Errorf("the target answered with status %d", status)
	}
	return nil
}

// head passes on the header of the response.
func (x *exchange) head(res *http.Response, t *target, p *pool, f *forward) {
	x.headers(x.w.Header(), res, t, p, f)
	x.begun = true
	x.w.WriteHeader(res.StatusCode)
}

// headers fills in what the client sees of the headers of a response, with the cookies of the node.
func (x *exchange) headers(h http.Header, res *http.Response, t *target, p *pool, f *forward) {
	connection := res.Header["Connection"]
	for name, values := range res.Header {
		if hopByHop[name] || len(connection) > 0 && named(connection, name) {
			continue
		}
		if before := h[name]; name == "Set-Cookie" && len(before) > 0 {
			values = slices.Concat(before, values) // a session that was renewed
		}
		h[name] = values
	}
	if length := res.Header["Content-Length"]; length != nil {
		h["Content-Length"] = length // as sent: it also counts for HEAD and 304, which have no body
	}
	if h["Content-Type"] == nil {
		h["Content-Type"] = nil // keeps net/http from guessing
	}
	now := x.start
	if f.stickiness > 0 {
		x.node.cookie.setCookies(h, groupCookies, now, f.stickiness, t.group.arn)
	}
	app := p.settings.AppCookie
	switch {
	case p.settings.Stickiness > 0:
		x.node.cookie.setCookies(h, targetCookies, now, p.settings.Stickiness, t.group.arn, t.key.ID, strconv.Itoa(int(t.key.Port)))
	case app.Name != "" && len(f.groups) == 1 && slices.ContainsFunc(res.Cookies(), func(c *http.Cookie) bool { return c.Name == app.Name }):
		x.node.cookie.setCookies(h, [2]string{appCookie}, now, app.Lasts, t.group.arn, t.key.ID, strconv.Itoa(int(t.key.Port)))
	}
	x.dress(h)
}

// dress gives a response the headers that the listener wants in all of them.
func (x *exchange) dress(h http.Header) {
	for _, f := range x.listener.response {
		h[f.Name] = []string{f.Value}
	}
	if x.listener.withoutServer {
		delete(h, "Server")
	}
}

// trailer passes on what the target has said after the body.
func (x *exchange) trailer(res *http.Response) {
	if len(res.Trailer) > 0 {
		_ = http.NewResponseController(x.w).Flush() // a body that is still held back would be sent with its length, which leaves no room for it
	}
	for name, values := range res.Trailer {
		if !hopByHop[name] {
			x.w.Header()[http.TrailerPrefix+name] = values
		}
	}
}

// body passes on the body of the response. A client that takes nothing of it for the idle timeout has gone, over HTTP/1 as with all that is sent.
func (x *exchange) body(res *http.Response) error {
	if res.ContentLength == 0 {
		return nil
	}
	buffer := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buffer)
	stream, control := res.ContentLength < 0, http.NewResponseController(x.w)
	for {
		n, readErr := res.Body.Read(buffer[:])
		if n > 0 {
			if x.client.inspected == nil {
				_ = control.SetWriteDeadline(time.Now().Add(x.routes.attributes.IdleTimeout)) // of the stream, which ends soon
			}
			if _, err := x.w.Write(buffer[:n]); err != nil {
				return errClientGone
			}
			if stream && readErr == nil {
				if err := control.Flush(); err != nil {
					return errClientGone
				}
			}
		}
		if readErr == io.EOF {
			return nil
		}
		if readErr != nil {
			return readErr
		}
	}
}
