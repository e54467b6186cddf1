package dataplane

import (
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"sync"
	"time"
)

// hopByHop are the headers that belong to one connection and are not passed on, besides those that the
// header Connection names. Expect is answered by the node itself.
var hopByHop = map[string]bool{
	"Connection": true, "Keep-Alive": true, "Proxy-Connection": true, "Te": true, "Trailer": true,
	"Transfer-Encoding": true, "Upgrade": true, "Expect": true, "Content-Length": true,
}

// named says whether the header Connection names a header.
func named(connection []string, header string) bool {
	for _, line := range connection {
		for token := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(token), header) {
				return true
			}
		}
	}
	return false
}

// request writes the request to the target.
func (x *exchange) request(u *upstream) error {
	r, w := x.r, u.w
	write := func(parts ...string) {
		for _, p := range parts {
			_, _ = w.WriteString(p) // errors stick to w, and show at Flush
		}
	}
	line := func(name, value string) { write(name, ": ", value, "\r\n") }
	write(r.Method, " ", x.uri, " HTTP/1.1\r\nHost: ", x.host(), "\r\n")
	x.passed(line)
	x.added(line)
	switch {
	case x.upgrade != "":
		write("Connection: Upgrade\r\nUpgrade: ", x.upgrade, "\r\n")
	case r.ContentLength > 0:
		line("Content-Length", strconv.FormatInt(r.ContentLength, 10))
	case r.ContentLength < 0:
		write("Transfer-Encoding: chunked\r\n")
		for name := range x.r.Trailer {
			if !x.reserved(name) {
				line("Trailer", name)
			}
		}
	case r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch:
		write("Content-Length: 0\r\n")
	}
	write("\r\n")
	if r.ContentLength == 0 {
		return w.Flush()
	}
	return x.requestBody(u)
}

// passed writes the headers of the client that go on to the target.
func (x *exchange) passed(line func(name, value string)) {
	connection := x.r.Header["Connection"]
	invalid := false
	for name, values := range x.r.Header {
		if hopByHop[name] || x.overwritten(name) || len(connection) > 0 && named(connection, name) {
			continue
		}
		if strange(name) {
			invalid = true
			if x.routes.attributes.DropInvalidHeaders {
				continue
			}
		}
		for _, v := range values {
			line(name, v)
		}
	}
	x.passedRaw(line, invalid)
}

// passedRaw writes the headers that net/http would not take as headers, and counts whether there were any that a load balancer calls invalid.
func (x *exchange) passedRaw(line func(name, value string), invalid bool) {
	if x.verdict != nil {
		for _, f := range x.verdict.Raw {
			invalid = invalid || strange(f.Name)
			// What has a meaning here is not passed on by people who write it in a strange way, such as with a space behind it.
			if !x.reserved(textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(f.Name))) && !(strange(f.Name) && x.routes.attributes.DropInvalidHeaders) {
				line(f.Name, f.Value)
			}
		}
		if x.routes.attributes.PreserveHost {
			for _, host := range x.verdict.Hosts {
				line("Host", host)
			}
		}
	}
	if !invalid {
		return
	}
	if x.routes.attributes.DropInvalidHeaders {
		x.node.invalidDropped.Add(1)
	} else {
		x.node.invalidForwards.Add(1)
	}
}

// ours says whether a header is for load balancers to write: what clients put in unusual places is not passed on.
func ours(name string) bool {
	return hopByHop[name] || name == "Host" || strings.HasPrefix(name, "X-Forwarded-") || strings.HasPrefix(name, "X-Amzn-")
}

// reserved is ours for a listener, which may have names of its own for some headers.
func (x *exchange) reserved(name string) bool { return ours(name) || x.overwritten(name) }

// strange says whether the name of a header is invalid for a load balancer.
func strange(name string) bool {
	for _, c := range []byte(name) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-') {
			return true
		}
	}
	return false
}

// overwritten says whether the node writes a header itself, so that the client's is not copied.
func (x *exchange) overwritten(name string) bool {
	switch name {
	case "X-Forwarded-For":
		return x.routes.attributes.ForwardedFor != ForwardedForPreserve
	case "X-Forwarded-Proto", "X-Forwarded-Port", "X-Amzn-Trace-Id":
		return true
	case x.listener.versionHeader, x.listener.cipherHeader:
		return x.routes.attributes.TLSHeaders
	}
	return x.listener.mutual != nil && x.listener.mutual.owns(name)
}

// added writes the headers that a load balancer adds.
func (x *exchange) added(line func(name, value string)) {
	a := &x.routes.attributes
	if a.ForwardedFor == ForwardedForAppend {
		peer := x.client.address
		if a.ForwardedClientPort {
			peer = x.client.peer.String()
		}
		if before := x.r.Header["X-Forwarded-For"]; len(before) > 0 {
			line("X-Forwarded-For", strings.Join(before, ", ")+", "+peer)
		} else {
			line("X-Forwarded-For", peer)
		}
	}
	proto := "http"
	if x.listener.protocol == HTTPS {
		proto = "https"
	}
	line("X-Forwarded-Proto", proto)
	line("X-Forwarded-Port", x.listener.portText)
	line("X-Amzn-Trace-Id", x.traceID())
	if a.TLSHeaders && x.r.TLS != nil {
		line(x.listener.versionHeader, strings.Replace(tls.VersionName(x.r.TLS.Version), "TLS 1.", "TLSv1.", 1))
		line(x.listener.cipherHeader, cipherName(x.r.TLS.CipherSuite))
	}
	if m := x.listener.mutual; m != nil && x.client.identity != nil {
		m.write(x.client.identity, line)
	}
}

// cipherName is the name that OpenSSL gives a cipher suite: ECDHE-RSA-AES128-GCM-SHA256. Those of TLS 1.3 have the same name everywhere.
func cipherName(suite uint16) string {
	name := tls.CipherSuiteName(suite)
	exchange, cipher, older := strings.Cut(strings.TrimPrefix(name, "TLS_"), "_WITH_")
	if !older {
		return name
	}
	cipher = strings.NewReplacer("AES_", "AES", "_CBC_SHA", "-SHA", "3DES_EDE", "DES-CBC3", "CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305", "_", "-").Replace(cipher)
	if exchange == "RSA" {
		return cipher
	}
	return strings.ReplaceAll(exchange, "_", "-") + "-" + cipher
}

// The headers that tell targets how the client's connection is secured.
const (
	tlsVersionHeader = "X-Amzn-Tls-Version"
	tlsCipherHeader  = "X-Amzn-Tls-Cipher-Suite"
)

// traceID continues the client's trace, or begins one.
func (x *exchange) traceID() string {
	var began [4]byte
	binary.BigEndian.PutUint32(began[:], uint32(x.start.Unix()))
	var random [12]byte
	binary.BigEndian.PutUint32(random[:], uint32(x.node.draw()))
	binary.BigEndian.PutUint64(random[4:], x.node.draw())
	id := append(make([]byte, 0, 40), "1-"...)
	id = append(hex.AppendEncode(id, began[:]), '-')
	return continueTrace(x.r.Header.Get("X-Amzn-Trace-Id"), string(hex.AppendEncode(id, random[:])))
}

// continueTrace puts id into the trace that the client has begun: as its Self field, or as Root of a new one.
func continueTrace(before, id string) string {
	if before == "" {
		return "Root=" + id
	}
	fields := []string{"Self=" + id}
	hasRoot := false
	for field := range strings.SplitSeq(before, ";") {
		field = strings.TrimSpace(field)
		hasRoot = hasRoot || strings.HasPrefix(field, "Root=")
		if field != "" && !strings.HasPrefix(field, "Self=") {
			fields = append(fields, field)
		}
	}
	if !hasRoot {
		fields[0] = "Root=" + id
	}
	return strings.Join(fields, ";")
}

// host is the Host header for the target, in lower case: on the ports 80 and 443 without a port, elsewhere with the listener's.
func (x *exchange) host() string {
	host := x.hostname
	if x.routes.attributes.PreserveHost || host == "" {
		return host
	}
	host = strings.ToLower(host)
	if x.listener.port == 80 || x.listener.port == 443 {
		return withoutPort(host)
	}
	if colon := strings.LastIndexByte(host, ':'); colon > strings.LastIndexByte(host, ']') {
		return host
	}
	return host + ":" + x.listener.portText
}

// buffers are for bodies.
var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// requestBody passes on the body, framed anew.
func (x *exchange) requestBody(u *upstream) error {
	buffer := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buffer)
	chunked := x.r.ContentLength < 0
	control := http.NewResponseController(x.w)
	for {
		_ = control.SetReadDeadline(time.Now().Add(x.routes.attributes.IdleTimeout))
		n, readErr := x.r.Body.Read(buffer[:])
		if n > 0 {
			if chunked {
				_, _ = fmt.Fprintf(u.w, "%x\r\n", n)
			}
			_, err := u.w.Write(buffer[:n])
			if chunked {
				_, err = u.w.WriteString("\r\n")
			}
			if err != nil {
				return err
			}
		}
		switch {
		case readErr == io.EOF:
			_ = control.SetReadDeadline(time.Time{})
			if chunked {
				_, _ = u.w.WriteString("0\r\n")
				for name, values := range x.r.Trailer {
					for _, v := range values {
						if !x.reserved(name) {
							_, _ = u.w.WriteString(name + ": " + v + "\r\n")
						}
					}
				}
				_, _ = u.w.WriteString("\r\n")
			}
			return u.w.Flush()
		case readErr != nil:
			return &bodyError{readErr}
		}
		if chunked {
			// Somebody who sends in pieces wants them to arrive.
			if err := u.w.Flush(); err != nil {
				return err
			}
		}
	}
}
