// Package aws is an emulated AWS account: the control APIs of ELBv2, EC2 and what stands around them (STS,
// ACM, WAFv2, WAF Regional, Shield, the tagging API, Route 53, CloudWatch, Global Accelerator, instance
// metadata) over AWS's real wire protocols, and load balancers that carry real traffic.
//
//	vpc, err := address.Claim()
//	...
//	emulator, err := aws.New(aws.Config{VPC: vpc.Mapping, Zones: zones, Profile: typical, Seed: 7})
//	go emulator.Serve(listener)      // AWS_ENDPOINT_URL=http://<listener>
//	defer emulator.Close()
//
// An unmodified SDK or CLI that is pointed at the endpoint finds a VPC with subnets, a security group for
// nodes and nothing else. A kubelet adds instances and pod addresses with the Go methods of EC2.
//
// The way of one request: serve.go reads it and finds the service (services.go lists them), signature.go
// tells who asks, the faults, the policies and the token buckets may refuse it, package wire turns it into
// the SDK's own input struct, the operation of the service's package runs, wire writes the answer, and the
// journal keeps a record.
//
// What AWS has no API for (when a node has taken a change, where a load balancer really listens) is told
// under the path /_lockstep/ (admin.go) and by Go methods, never by an AWS call.
//
// One process is one account in one region: a request that is signed for another region is refused, but for those to
// services that are global. What is not modelled of a service stands in the doc of its package; calls of it are refused, counted and
// listed by NotModelled.
package aws
