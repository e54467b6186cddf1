// Package dataplane is the moving part of the emulated Application Load Balancer: nodes that listen
// on real sockets, match rules, draw weighted target groups, check health and proxy real bytes.
//
// A Node is the address of one load balancer in one availability zone. The control API decides when each
// node learns of a change and calls Apply (listeners and rules), ApplyGroup (settings of a
// target group), ApplyTargets (who is registered) or RemoveGroup; between these calls a node knows nothing of
// the outside, so that nodes of one load balancer can disagree for a while exactly as real ones do.
//
// The node of a Network Load Balancer is that of package nlb; it is told what it needs to know in the same words. Both ask a Firewall,
// one connection and one hop at a time, what security groups let pass.
//
// The package never delays anything on its own account, never talks to an API and never repeats a
// request. What a client sees in each situation is stated in the table of errors.go.
//
// # Assumptions
//
// Where AWS says nothing, or sources disagree, a node does this:
//
//   - A group that has only targets in their first check answers 503; as soon as one of them is found unhealthy, and none
//     is healthy, it fails open to all of them.
//   - All weights 0: 503.
//   - A failed connect is not tried again with another target.
//   - An idle connection that the target has closed before the request came is not used. What remains is the true race: the target closes
//     while the request is on its way, and the client sees 502, for GET as well.
//   - Draining targets are not checked.
//   - Query strings are compared as sent, without decoding.
//   - A removed listener closes its port at once and its connections as their requests end (after 60 s at the latest).
//   - A regular expression, in a condition or a transform, matches when it is found anywhere; a transform replaces the first match.
//     A url-rewrite sees path and query, a host-header-rewrite the host without its port.
//   - An error page for a client of gRPC is status 200 with the grpc-status that the protocol maps the HTTP status to.
//   - A redirect to a URL longer than 8 KB is answered 500.
//   - An upgraded connection is closed in both directions as soon as one side ends it.
//   - In slow start a target's share grows from nothing to a full one; where everybody is in slow start, shares are relative.
//   - A claim of a token that is a list has to hold all configured values. A key set is fetched again after 5 minutes, or when a token names a key
//     that it does not have. A key set that cannot be fetched makes tokens invalid: 401.
//   - Issuers are asked on the loopback interface only, and their certificates are not verified.
//   - A stickiness cookie is not renewed by a response that the node makes itself.
//
// # Not modelled
//
// Several requests at a time on one HTTP/2 connection to a target, and its trailers on HTTP/1.1; server push; anomaly mitigation; the renewal of
// logins by refresh tokens, and the public keys with which targets verify who a user is; desync mitigation modes beyond what net/http refuses. Header names
// arrive in canonical case. What net/http itself refuses (a request that does not parse, an unknown transfer coding, an unknown
// version of HTTP, headers above 128 KB) gets the right status, but a plain-text page without the header Server. A new idle time-out
// holds for client connections of listeners that are opened after it.
//
// The kernel completes TCP handshakes on its own: a client that security groups do not admit sees a connection on which nothing ever comes
// (package blackhole), where in a VPC its connect attempt would time out.
//
// Start reading at config.go (what a node can be told), then node.go, route.go (which action), proxy.go (the
// way of one request; http2.go and tunnel.go are its side roads), group.go (which target), health.go (who is healthy).
package dataplane
