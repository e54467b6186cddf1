// Package ec2 is the part of Amazon EC2 that load balancing needs: VPCs with subnets in several zones, route tables and
// internet gateways; security groups and prefix lists; instances and their network interfaces with secondary addresses;
// Elastic IP addresses.
//
// Operations takes and returns the SDK's own input and output structs. An operation that changes something is a function that
// checks a request and returns what carries it out (operation.go), so that nothing is ever left half done, and a dry run is the check
// alone. What it keeps are immutable values in tables (table.go), of which another reader may see an older version for a while.
//
// The network of Config is there at start. A kubelet in the same process starts its machines and takes addresses for its pods
// with the methods in machine.go; the load balancing service asks with those in balancer.go; what security groups permit is
// asked with Passes.
//
// It carries no traffic and knows nothing of load balancers but that they own interfaces. Routes and internet gateways are kept, and say
// which subnets are public; no packet goes by them.
package ec2
