// Package dataplane is the moving part of the emulated Application Load Balancer: nodes that listen
// on real sockets, match rules, draw weighted target groups, check health and proxy real bytes.
//
// A Node is the address of one load balancer in one availability zone. The control API decides when each
// node learns of a change and calls Apply (listeners and rules), ApplyGroup (settings of a
// target group), ApplyTargets (who is registered) or RemoveGroup; between these calls a node knows nothing of
// the outside, so that nodes of one load balancer can disagree for a while exactly as real ones do.
//
// The package never delays anything on its own account, never talks to an API and never repeats a
// request. What a client sees in each situation is stated in the table of errors.go.
//
// Start reading at config.go (what a node can be told), then node.go, route.go (which action), proxy.go (the
// way of one request), health.go (who is healthy).
package dataplane
