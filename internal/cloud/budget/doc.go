// Package budget decides which AWS call may be made now. AWS gives an account and region a few calls a
// second, shared by everything that runs there; the order in which they are spent is a matter of safety,
// so all of them are spent here.
//
// Each call takes one token from every bucket that AWS counts it in: its category's and the account's.
// Lanes rank the calls. A lane may take a token only while the bucket holds more than what is reserved
// for the lanes above it, so that the last tokens are always those of traffic. When AWS throttles, the
// refill is halved at once and grows back steadily (additive increase, multiplicative decrease), which
// shares the account fairly with programs that we do not see.
//
// The arithmetic (bucket.go, limits.go) takes time as an argument and holds no lock; Budget (budget.go)
// adds the queue of those who may wait. The package knows nothing of the AWS SDK.
package budget
