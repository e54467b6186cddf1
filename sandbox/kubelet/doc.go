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
// # Commands
//
// In pods that are to complete (restartPolicy Never or OnFailure, as those of Jobs are) a container of busybox, alpine, bash,
// debian or ubuntu with a command runs it as a process of this machine, and so does every container for which the manifest
// asks for the application "command", unless [Config].NoCommands refuses them. Packages local and logs say what such a process gets, and what it leaves. It has the
// rights of whoever runs the sandbox: a manifest is a program here.
//
// Commands that probes, hooks and kubectl exec run beside a simulated application are simulated, too, by package shell.
// A program that it does not have is taken for done in a hook, and finds in a probe what a health check would.
//
// # Volumes
//
// What such a command mounts of emptyDir, configMap, secret, downwardAPI and projected volumes (with tokens that the API server
// makes) is in a folder of the pod, which goes with it; package volume says how it looks. A process cannot be given other files
// at /etc/app than the machine has there, so that a mountPath is found at $CONTAINER_SANDBOX_MOUNT_POINT/etc/app, and the text of the
// command, of its variables and of what is run by exec is changed to lead there: an event says so. What a program itself holds for a path
// (in its code, in a file of a ConfigMap) is not changed. That is for the manifest to write with the variable, which is
// not set on real nodes, and so names the same path on both.
//
// Volumes are read anew once a minute (at scale 1), and when the pod's labels or annotations change. What is missing holds the pod
// up, with FailedMount, unless it is optional; so does a volume of another kind. An emptyDir that is then found to hold more than its sizeLimit evicts the
// pod, also one in memory, which on a real node cannot become larger. Neither readOnly nor fsGroup is enforced: a process that is to have
// another view of files, or files of another group, needs rights that a sandbox does not ask for.
//
// # What the API server asks
//
// Each node listens at its loopback address (its ExternalIP) for kubectl logs, exec, attach and port-forward, and lets nobody in
// but the API server: see endpoint.go. The metrics API is found through an APIService: see metrics.go.
//
// # Failures
//
// [Kubelet.FailNode] and [Kubelet.FailZone] take nodes away, as in a partition or with their instance, and [Kubelet.RestoreNode]
// and [Kubelet.RestoreZone] bring them back; [Kubelet.DrainNode] drains as kubectl drain does. What the cluster makes of it,
// taints, evictions and budgets, is the real controllers' doing.
//
// # What is not modelled
//
// A kubelet that is started anew on a cluster starts every pod anew, with new addresses.
//
// Volumes that a simulated application mounts (but those of the downward API), of commands those of other kinds than above, limits of resources, UDP ports, changes of
// a running container's image, evictions by a node under pressure or for limits of ephemeral-storage.
package kubelet
