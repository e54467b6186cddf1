// Package consistency holds the emulated AWS to its word: it checks what callers were answered, and what load balancer
// nodes acted on, against a small model of what AWS promises.
//
// The claims, as the model states them (window is read.window of the profile, lag the delay of a kind of change; each
// with the greatest value that its distribution has, times the scale):
//
//	fresh        a read shows the newest state, or within the window after a change the one before it; a resource
//	             younger than the window may be missing, one that is deleted is never shown
//	monotonic    one caller never sees an older state after a newer one (profile typical, not pessimistic)
//	dependent    a write that needs a resource fails with NotFound only if a read might have missed it
//	answer       a write's own answer shows the new state
//	permutation  SetRulePriorities is one change: no reader and no node has a part of it
//	order        a node takes the versions of a listener in order, possibly skipping, and none before it was accepted
//	lag          a node acts on a change when its lag is over, at the latest
//	weights      a request is answered by the version of the rules that its node had when it came, by a group of weight
//	             above 0, and stays with it to the end
//	drained      a deregistered target is sent no new request when the node's lag is over
//	throttle     a refused call changes nothing and costs nothing: it is refused exactly when the calls that were let in
//	             have left less than one token
//
// A History is made of the journal (calls and events of nodes) and of what callers were answered. Check is a pure function of
// it. Calls that overlap in time are tried in each order (package porcupine); a history is refused only if no order explains it.
//
// Not claimed: that one caller sees its own write at once, and anything about reads of two resources together, except for
// rules that have changed places.
//
// Start reading at book.go, the model of what is read; nodes.go holds nodes to the order that it finds, applied.go what the journal says of
// nodes (of Network Load Balancers too), requests.go what went through them; buckets.go is the model of throttling.
package consistency
