// Package simulation runs the whole decision core of both halves of Lockstep, as it is in production, in a
// model world with virtual time, and checks the laws of docs/laws.md at every step.
//
// One seed decides everything: the size of the rollout, its steps and settings, how slow AWS is, what
// people do and when, and which faults happen (crashes between any two operations, a late call of a
// former leader, throttling for minutes, stale reads, slow watches, lost pods, a foreign hand on the
// annotation, other stacks and another cluster in the account). The same seed gives the same run, down to the last
// event. Most runs begin with what other controllers have deployed (takeover.go), the rest with nothing.
//
//	report := simulation.Run(simulation.Options{Config: simulation.Drawn(7)})
//	fmt.Println(report.Violation, report.Reached)
//
// The world is small: a versioned store with a watch cache (store.go), ReplicaSets and pods (workload.go),
// AWS as its API shows it (aws.go), as the nodes of the load balancer act (node.go), and as an account that is
// shared with others (account.go). The controllers
// (delivery.go, balancing.go, binding.go) only gather snapshots and carry out operations; everything that
// they decide comes from a Brain, which is that of production unless a test breaks it on purpose. Whether
// a request would have been lost is judged on every node at every change (judge.go, laws.go).
//
// It proves nothing about the gathering and carrying out of the real controllers, nor about AWS: the
// integration tests and rehearsals do. It sends no requests; it asks at every change what would become
// of one. A group cookie of a sticky client is taken to last for its duration from the first response.
//
// Start reading at Run (run.go).
package simulation
