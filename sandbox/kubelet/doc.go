// Package kubelet plays the nodes of a sandbox's cluster: it registers them, places pods on them and
// lives the pods' lives, in one process for all nodes.
//
// Pods are real where it matters for traffic: every container port is a listener on the loopback
// address that stands for the pod's VPC address (package address), answered by a simulated application (package
// app), probed over the network, and stopped as real processes are stopped. What happens when is
// decided by the pure state machine of package lifecycle; this package carries it out and writes it to
// the API server.
//
//	vpc, err := address.Claim()
//	k, err := kubelet.New(kubelet.Config{API: config, VPC: vpc.Mapping, Addresses: ec2, Scale: 0.1})
//	go k.Run(ctx)
//	<-k.Ready()
//
// Start reading at [Kubelet.Run], then pod.go.
//
// A pod costs one goroutine per listener and no polling: every wait is a timer.
//
// # Time
//
// What manifests say (probe periods, grace periods, preStop sleeps) and a kubelet's own back-offs are
// real time. Config.Scale multiplies what the sandbox makes up: the pull of an image, the start-up of a process.
//
// # Placing
//
// There is no kube-scheduler. Pods are spread, per owner, evenly over zones and then over nodes. Node selectors,
// required node affinity, taints, cordons and the number of pods per node are respected; resource requests,
// pod affinity and topology spread constraints are not read.
//
// # What is not modelled
//
// A kubelet that is started anew on a cluster starts every pod anew, with new addresses.
//
// Commands (other than a plain sleep), exec and gRPC probes, exec hooks (other than a plain sleep), postStart hooks, volumes, resources,
// UDP ports, changes of a running container's image, evictions.
package kubelet
