// Package elbv2 is the emulated Elastic Load Balancing API (version 2015-12-01): load balancers,
// listeners, rules, target groups and targets, with AWS's validation, defaults and error codes.
//
// It keeps two states apart. What the API says is in loadBalancer, listener, rule and targetGroup.
// What each load balancer node acts on is in node: a change travels to each node for itself, at a moment
// drawn from the profile (propagate.go), and no API tells when it has arrived. Health goes the
// other way: nodes report, and target health as the API shows it is their aggregate (health.go).
//
// Bytes are carried by packages dataplane and nlb, which New is given as a function that makes a Node. Whether
// the caller may call at all, and how often, was decided before an operation runs.
//
// Not modelled: gateway load balancers, lambda targets, dual stack and what depends on it (rules on Network Load Balancers, IPv6 groups).
// QUIC and TCP_QUIC listeners carry datagrams by addresses and ports, not by connection ids. A target that is an instance is seen to have
// stopped or ended when its health is asked for. How nodes agree on the health of a target is a guess: healthy when all say so, unhealthy
// when one does.
//
// Start reading at service.go; loadbalancer.go, listener.go, rule.go, targetgroup.go and target.go hold the
// operations of one kind each, network.go what only Network Load Balancers have.
package elbv2
