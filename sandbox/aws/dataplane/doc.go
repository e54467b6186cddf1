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
//   - The headers that a listener wants in responses replace those of the target, and are in the pages of the node as well.
//   - An anomaly is what measure.go says; what AWS decides by is not known. A target in an anomaly keeps a sixteenth of its share.
//   - Which requests are dangerous is what package desync finds. What nobody can delimit (two lengths that differ, a coding that is none) is refused
//     in mode monitor too. A request line without a version is HTTP/0.9, and its answer has no head.
//   - A URL with a % that escapes nothing is 400. A space or control character in a URL is escaped on its way to the target.
//   - A function is answered for as if it had failed: 502, or 413 for a body of more than 1 MB.
//   - In mutual TLS every certificate of a trust store is trusted for itself, also one that another authority has signed, unless one of the same store
//     has revoked it. A certificate whose issuer has no list of revoked ones is not revoked, and a list whose time is over still counts. Only the
//     client's own certificate may have expired where expiry is ignored. Passthrough lets in clients without a certificate; one that is no certificate
//     at all is refused there too.
//   - A connection keeps what was found out about its client when it was made, whatever becomes of the listener and its trust store. Headers
//     about certificates that clients write are dropped by listeners that ask for certificates, and passed on by all others.
//
// # Not modelled
//
// Server push; functions; logs. Header names arrive in canonical case. Headers of
// more than 128 KB over HTTP/2 are refused by net/http, with a page of its own. Client connections that speak HTTP/2 keep the idle time-out that
// was in force when their listener was opened. Nothing limits the number of connections.
//
// On other systems than Linux a client that security groups do not admit sees a connection on which nothing ever comes (package blackhole),
// where in a VPC, and on Linux (Door), its attempt to connect times out. A port that no listener has is refused by the kernel, also where
// security groups would drop. All connections are tracked: those that a rule for everybody has let in outlive the rule as well, where
// AWS may cut them at once.
//
// Start reading at config.go (what a node can be told), then node.go, entrance.go, mutual.go and inspect.go (who gets in), route.go (which action), proxy.go (the
// way of one request; request.go and response.go are its two halves, http2.go and tunnel.go its side roads), group.go (which target), health.go
// (who is healthy), measure.go (what is counted).
package dataplane
