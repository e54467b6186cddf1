// Package thirdparty runs programs of other projects, as they are, on a sandbox: the claim that the emulated AWS is made
// for strangers is theirs to prove, and these know nothing of it. Each gets a kubeconfig, AWS_ENDPOINT_URL, keys and the
// flags that its own documentation names, and is judged by what it brings about.
//
//	program                         what it does here
//	Argo Rollouts, two releases     a canary behind an ALB that Lockstep's load balancer half keeps, with verified weights;
//	                                its kubectl plugin drives both of them, and Lockstep in their place
//	external-dns                    records for an Ingress and weighted ones for Services in a hosted zone
//	cloud-provider-aws              a Network Load Balancer with nodes as targets for a Service
//
// Each program is built from its published module by a folder of its own, which holds nothing but go.mod and go.sum: they need
// different releases of the Kubernetes libraries, so one module cannot build them all, and replace directives count only in
// a main module. Where a program's newest release needs a newer Go than Lockstep does, the newest one that does not is taken.
//
// The tests use Lockstep as a user does, through bin/lockstep: 'make thirdparty' builds that first. They are no part of 'make test',
// since building the programs takes many minutes the first time.
//
// The nodes of a sandbox have no kube-proxy, so the test of cloud-provider-aws serves the node ports itself.
package thirdparty
