// Package canary decides what a Rollout with the canary strategy over an ALB does next. Decide is a pure
// function from a Snapshot (what Kubernetes holds, what AWS shows, the time) to a Decision: the
// operations that are safe now, the status to publish, and what is waited for. It has no clock, client,
// goroutine or log, and calling it twice with the same snapshot gives the same decision.
//
// It never trusts what was written: a weight counts when AWS shows it in every rule, a pod is gone when
// AWS no longer names it. Acts that cannot be taken back (re-pointing a Service, promotion, scaling down)
// need the settle time and a second, fresh look that still agrees: such an act is first only named in
// Wait.Confirm, and becomes an operation when the next snapshot was read after Wait.Fresh and names it in
// Confirming. Round does these looks one after the other.
//
//	decision, err := canary.Round(func(notBefore time.Time) (canary.Snapshot, error) {
//		return observe(ctx, key, notBefore)
//	})
//
// Where to start reading: Decide (decide.go) lists the questions in order, gates.go holds the laws as
// small functions, and the tests are named after the rows of the walk through a rollout.
package canary
