// Package rehearsal runs a release in a sandbox under load and says how many requests it lost.
//
// A rehearsal applies manifests, runs Lockstep's controller as a process of its own against the sandbox's
// API server and emulated AWS, sends open-loop load through the load balancer, changes the image while it
// watches, and writes a Report: requests per status and version, the way of every weight change, the AWS
// calls, and when each old ReplicaSet got its last request and lost its pods. Everything it reports is read
// from the outside (the API server, the journal of AWS, the load balancer's nodes), never from the controller.
//
// Start reading at Demo.
package rehearsal
