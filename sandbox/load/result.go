package load

import (
	"net/netip"
	"time"
)

// Result is what became of the requests. In JSON, times are RFC 3339 and durations milliseconds.
type Result struct {
	// Started is the moment of the first request, Ended that of the last answer (zero while running).
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended,omitzero"`
	// Rate asked for, in requests per second.
	Rate float64 `json:"rate"`

	// Intended = Sent + Saturation.Unsent + those still under way; Sent = Answered + those with a transport error.
	Intended uint64 `json:"intended"`
	Sent     uint64 `json:"sent"`
	// Answered requests have a complete response, of any status.
	Answered uint64 `json:"answered"`
	// Failed requests were sent and had a transport error or an answer from 500 on (with Fail4xx: from 400 on).
	// Unsent requests are not among them.
	Failed uint64 `json:"failed"`

	// Status counts answers by status, Errors failures by kind.
	Status map[int]uint64  `json:"status"`
	Errors map[Kind]uint64 `json:"errors"`
	// Versions counts answers by the version that the application told; answers without one are not in it.
	Versions map[string]Version `json:"versions"`
	// Nodes counts by address of the load balancer.
	Nodes map[netip.AddrPort]Node `json:"nodes"`
	// Seconds are the same counts for each second of the run, by the moment the request should have been sent.
	Seconds []Second `json:"seconds"`

	// Latency of answered requests, from the moment each should have been sent to the end of the answer.
	Latency Latency `json:"latency"`
	// Lateness of all sent requests: how long after that moment the client began with it. It is part of Latency,
	// and it is the client's own doing (no CPU, no connection).
	Lateness Latency `json:"lateness"`

	Saturation Saturation `json:"saturation"`
	// Connections opened, and requests sent on one that had been used before.
	Connections Connections `json:"connections"`
	// FailedLookups counts look-ups of the addresses that failed or gave none.
	FailedLookups uint64 `json:"failedLookups"`

	// Failures are the first ones in detail.
	Failures []Failure `json:"failures"`
}

// Second is one second of the run.
type Second struct {
	// Second since Started.
	Second   int               `json:"second"`
	Sent     uint64            `json:"sent"`
	Failed   uint64            `json:"failed"`
	Unsent   uint64            `json:"unsent,omitempty"`
	Status   map[int]uint64    `json:"status"`
	Versions map[string]uint64 `json:"versions,omitempty"`
	Errors   map[Kind]uint64   `json:"errors,omitempty"`
	// Slowest is the longest latency of an answered request, in milliseconds.
	Slowest float64 `json:"slowest"`
}

// Version is what one version of the application answered.
type Version struct {
	Answered uint64 `json:"answered"`
	Failed   uint64 `json:"failed"`
	// First and Last are the moments of its first and its last answer.
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
}

// Node is what came of the requests to one address.
type Node struct {
	Sent   uint64 `json:"sent"`
	Failed uint64 `json:"failed"`
	// Opened counts the connections that were opened to it, or tried. An address that has left DNS gets requests on old
	// connections, and no new ones.
	Opened uint64 `json:"opened"`
}

// Saturation tells where this client, and not the server, was the limit.
type Saturation struct {
	// Delayed requests found all connections busy and had to wait.
	Delayed uint64 `json:"delayed"`
	// Unsent requests were never sent, since their time was over before a connection was free.
	Unsent uint64 `json:"unsent"`
}

// Connections counts connections.
type Connections struct {
	Opened uint64 `json:"opened"`
	Reused uint64 `json:"reused"`
}

// Latency holds percentiles in milliseconds. They are exact to about 3 %, Max is exact.
type Latency struct {
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p999"`
	Max  float64 `json:"max"`
	Mean float64 `json:"mean"`
}

// Failure is one failed request.
type Failure struct {
	// Intended is when it should have been sent, Ended when it had failed.
	Intended time.Time      `json:"intended"`
	Ended    time.Time      `json:"ended"`
	Node     netip.AddrPort `json:"node"`
	Kind     Kind           `json:"kind"`
	// Status is 0 when there was no answer.
	Status int `json:"status,omitempty"`
	// Version of the application, when it answered.
	Version string `json:"version,omitempty"`
	// Server is the header of that name: awselb/2.0 when the load balancer itself has answered.
	Server string `json:"server,omitempty"`
	// Error is the transport error in words.
	Error string `json:"error,omitempty"`
	// Reused is true when the request was sent on a connection that had been used before.
	Reused bool `json:"reused,omitempty"`
}

// Kind of a failure.
type Kind string

// The kinds of failures.
const (
	// BadStatus: an answer that counts as failed.
	BadStatus Kind = "status"
	// Refused: nobody listens at the node's address.
	Refused Kind = "refused"
	// Reset: the connection was reset.
	Reset Kind = "reset"
	// Closed: the connection was closed before the answer began; Truncated: within the answer.
	Closed    Kind = "closed"
	Truncated Kind = "truncated"
	// Timeout: no complete answer within Config.Timeout.
	Timeout Kind = "timeout"
	// Unreachable: no route to the node.
	Unreachable Kind = "unreachable"
	// Malformed: the answer is not HTTP.
	Malformed Kind = "malformed"
	// ClientLimit: this machine has no more ports or file handles.
	ClientLimit Kind = "client-limit"
	// Other: see the Error of the failure.
	Other Kind = "other"
)
