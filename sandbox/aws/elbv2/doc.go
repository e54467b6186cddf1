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
// Every operation of the SDK is there. Kept and shown, without any effect on traffic: capacity reservations, pools of addresses, secondary and IPv6
// addresses, QUIC and TCP_QUIC listeners, groups of functions, and load balancers outside of the first VPC. Security policies are names: the local TLS library decides. Certificates are those that ACM has issued; for server
// certificates of IAM, which is not here, one that the emulator signs is shown.
//
// Not modelled: gateway load balancers, groups of IPv6 targets, sharing of trust stores between accounts, mutual TLS of Network Load Balancers. Nodes answer on IPv4 only, so of the
// rules of a Network Load Balancer those for IPv4 count. What is deleted is gone for every reader at once. How nodes agree on the health of a target
// is a guess: healthy when all say so, unhealthy when one does. Guesses too, where AWS documents none: how long trust stores and reservations take, how
// much can be reserved, and the codes for a GRPC group on an HTTP listener (UnsupportedProtocol) and for subnets without IPv6 (InvalidSubnet).
//
// Start reading at service.go; loadbalancer.go, listener.go, rule.go, targetgroup.go, target.go and truststore.go hold the
// operations of one kind each, mutual.go what becomes of trust stores, network.go what only Network Load Balancers have, quota.go how many targets there can be.
package elbv2
