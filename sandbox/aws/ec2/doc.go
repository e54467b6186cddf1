// Package ec2 is the part of Amazon EC2 that load balancing needs: one VPC with subnets in several
// zones, security groups, instances and their network interfaces with secondary addresses.
//
// Handlers take and return the SDK's own input and output structs (see Operations). The network itself
// is made at start from Config; instances and pod addresses come from the Go methods in instances.go,
// since in a sandbox a kubelet, not a user of the API, starts them. What security groups permit is
// asked with Passes.
//
// It carries no traffic and knows nothing of load balancers but that they own interfaces.
package ec2
