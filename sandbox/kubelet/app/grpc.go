package app

import (
	"encoding/binary"
	"io"
	"net/http"
	"strings"
	"time"
)

// grpcPrefix begins the paths of the gRPC health protocol. Of its calls only Check is there.
const grpcPrefix = "/grpc.health.v1.Health/"

// Of gRPC's status codes.
const (
	grpcOK            = "0"
	grpcUnimplemented = "12"
)

// protocols that a server speaks: HTTP/2 without TLS for gRPC, for clients that begin with it.
var protocols = func() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	return p
}()

// isGRPC reports whether a request is a call by gRPC of the health protocol.
func isGRPC(r *http.Request) bool {
	return r.ProtoMajor == 2 && strings.HasPrefix(r.URL.Path, grpcPrefix) && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
}

// answerGRPC says whether the application serves. Every service is known; one whose name begins with live is asked for
// life alone, as a health path is.
func (p *Process) answerGRPC(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "application/grpc")
	h.Set("Trailer", "Grpc-Status")
	if r.URL.Path != grpcPrefix+"Check" {
		h.Set("Grpc-Status", grpcUnimplemented)
		return
	}
	const largest = 1 << 10
	body, _ := io.ReadAll(io.LimitReader(r.Body, largest))
	now := time.Now().UnixNano()
	const serving, notServing = 1, 2
	status := byte(serving)
	if p.unhealthy(now) || now < p.readyAt.Load() && !strings.HasPrefix(grpcService(body), "live") {
		status = notServing
	}
	_, _ = w.Write([]byte{0, 0, 0, 0, 2, 1 << 3, status})
	h.Set("Grpc-Status", grpcOK)
}

// grpcService is the name in a HealthCheckRequest, whose field 1 it is; empty when there is none.
func grpcService(frame []byte) string {
	const head = 5
	if len(frame) < head+2 || frame[head] != 1<<3|2 {
		return ""
	}
	size, n := binary.Uvarint(frame[head+1:])
	if name := frame[head+1+max(n, 0):]; n > 0 && size <= uint64(len(name)) {
		return string(name[:size])
	}
	return ""
}
