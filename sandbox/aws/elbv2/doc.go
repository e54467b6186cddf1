// Package elbv2 is the emulated Elastic Load Balancing API (version 2015-12-01): load balancers,
// listeners, rules, target groups and targets, with AWS's validation, defaults and error codes.
//
// It keeps two states apart. What the API says is in loadBalancer, listener, rule and targetGroup.
// What each load balancer node acts on is in node: a change travels to each node for itself, at a moment
// drawn from the profile (propagate.go), and no API tells when it has arrived. Health goes the
// other way: nodes report, and target health as the API shows it is their aggregate (health.go).
//
// Bytes are carried by package dataplane, which New is given as a function that makes a Node. Whether
// the caller may call at all, and how often, was decided before an operation runs.
//
// Start reading at service.go; loadbalancer.go, listener.go, rule.go, targetgroup.go and target.go hold the
// operations of one kind each.
package elbv2
