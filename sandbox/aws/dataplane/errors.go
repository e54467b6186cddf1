package dataplane

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
)

// Which situation gives which answer:
//
//	460  the client closed the connection before it had an answer (nobody receives this one)
//	400  the request breaks a limit, makes no sense or is too dangerous (package desync), or its body ended early
//	401  no valid token, the user is not authenticated and not to be, or the issuer has refused the user
//	405  TRACE
//	408  the client sent no more of its request for the idle timeout
//	413  a body of more than 1 MB for a function
//	414  the request line is longer than 16 KB
//	463  X-Forwarded-For holds more than 30 addresses
//	464  HTTP/1.1 to a group that speaks HTTP/2 or gRPC, gRPC to one that speaks HTTP/1.1, other methods than POST to gRPC
//	500  a transform makes something of the request that is none; a redirect to a URL longer than 8 KB (an assumption);
//	     the issuer of tokens cannot be reached, or says more of a user than the cookies of a session can hold
//	502  connect refused or reset, or no route; TLS handshake with the target; the connection ended or was reset
//	     with the request outstanding; the response makes no sense, or has more than 32 KB of headers;
//	     the deregistration delay ended with the request in flight; the target is a function, of which there are none
//	501  a transfer coding that is not known
//	503  the group has no registered target, only targets in their first check, or only draining ones; all weights are 0
//	504  no connection within 10 s; no answer within the idle timeout
//	505  a version of HTTP that is not known
//	561  the issuer of tokens answers with an error
//
// Once the status line of the target has been passed on, a failure can only be shown by closing the client's connection.
const (
	statusClientClosed     = 460
	statusTooManyAddresses = 463
	statusWrongProtocol    = 464
)

// The limits of requests.
const (
	requestLineLimit    = 16 << 10
	oneHeaderLimit      = 16 << 10
	requestHeadersLimit = 64 << 10
	forwardedForLimit   = 30
	redirectLimit       = 8 << 10
	// requestsPerConnection is after how many requests a client's connection is closed.
	requestsPerConnection = 10_000
)

// statusOf maps what went wrong between node and target to the answer for the client.
func statusOf(err error) int {
	var body *bodyError
	switch {
	case errors.Is(err, errClientGone):
		return statusClientClosed
	case errors.As(err, &body) && isTimeout(body.err):
		return http.StatusRequestTimeout
	case errors.As(err, &body):
		return http.StatusBadRequest
	case errors.Is(err, errHandshake), errors.Is(err, errCut), errors.Is(err, errHeaderLimit):
		return http.StatusBadGateway
	case errors.Is(err, errLeft):
		return http.StatusServiceUnavailable
	case isTimeout(err):
		return http.StatusGatewayTimeout
	}
	return http.StatusBadGateway
}

// bodyError is a failure to read the body of the request from the client.
type bodyError struct{ err error }

func (e *bodyError) Error() string { return "cannot read the request body: " + e.err.Error() }
func (e *bodyError) Unwrap() error { return e.err }

// pages holds the bodies of the answers that a node makes itself.
var pages = func() map[int][]byte {
	all := map[int][]byte{}
	for _, status := range []int{301, 302, 400, 401, 405, 408, 413, 414, statusTooManyAddresses, statusWrongProtocol, 500, 501, 502, 503, 504, 505, statusIssuer} {
		title := strconv.Itoa(status)
		if text := http.StatusText(status); text != "" {
			title = fmt.Sprintf("%d %s", status, text)
		}
		switch status {
		case 503:
			title = "503 Service Temporarily Unavailable"
		case 504:
			title = "504 Gateway Time-out"
		}
		all[status] = fmt.Appendf(nil, "<html>\r\n<head><title>%[1]s</title></head>\r\n<body>\r\n<center><h1>%[1]s</h1></center>\r\n</body>\r\n</html>\r\n", title)
	}
	return all
}()

// refuse answers a request by the node itself because something is wrong.
func (x *exchange) refuse(status int) {
	x.node.generated[status].Add(1)
	if x.group != nil {
		x.group.count(status)
	}
	if status == statusClientClosed {
		panic(http.ErrAbortHandler) // nobody is there to read
	}
	x.own(status, "text/html", pages[status])
}

// own writes a response that comes from the load balancer.
func (x *exchange) own(status int, contentType string, body []byte) {
	h := x.w.Header()
	h["Server"] = serverName
	x.dress(h)
	if x.grpc() {
		h.Set("Content-Type", "application/grpc")
		h.Set("Grpc-Status", strconv.Itoa(grpcStatus(status)))
		h.Set("Grpc-Message", http.StatusText(status))
		x.w.WriteHeader(http.StatusOK)
		return
	}
	if contentType == "" {
		h["Content-Type"] = nil // and do not guess
	} else {
		h.Set("Content-Type", contentType)
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	x.w.WriteHeader(status)
	_, _ = x.w.Write(body)
}

// grpcStatus is what a client of gRPC sees instead of an HTTP status: the mapping that the protocol recommends to clients.
func grpcStatus(status int) int {
	switch status {
	case 200:
		return 0
	case 400:
		return 13 // INTERNAL
	case 401:
		return 16 // UNAUTHENTICATED
	case 403:
		return 7 // PERMISSION_DENIED
	case 404:
		return 12 // UNIMPLEMENTED
	case 429, 502, 503, 504:
		return 14 // UNAVAILABLE
	}
	return 2 // UNKNOWN
}

var serverName = []string{"awselb/2.0"}
