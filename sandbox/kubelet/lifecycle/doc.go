// Package lifecycle is the life of one pod on a node as a pure state machine: what a kubelet does
// next, given what it has seen so far and the time.
//
// A [Machine] takes [Input]s (the pod object changed, an image was pulled, a process exited, a
// probe answered) and returns [Work]: the actions to carry out now and the time to look again. It
// reads no clock, starts nothing and talks to nobody, so that every life cycle can be told, and
// tested, as a transcript in virtual time (see testdata).
//
// A container goes through these stages:
//
//	held ──> pulling ──> creating ──> running ──> stopping ──> exited
//	            │  ^                     │                        │
//	            v  │                     └────────(crash)────────>│
//	         pullFailed                                           │
//	            ^──────────────── pulling again <── back-off ─────┘
//
// held: an init container before it has not finished. stopping: the preStop hook, then SIGTERM,
// then, at the end of the grace period, SIGKILL. Whether an exited container comes back is the
// pod's restart policy; when, is its back-off: at once the first time, then after 10, 20, 40 ...
// 300 s, forgotten after ten quiet minutes.
package lifecycle
