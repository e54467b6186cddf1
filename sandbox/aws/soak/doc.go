// Package soak holds an emulated AWS under bad clients for a long time and measures what the process keeps: goroutines, sockets and
// memory have to stay where they were after the first quarter. It has tests only:
//
//	go test ./sandbox/aws/soak                                                     seconds, with every other test
//	LOCKSTEP_SOAK=10m go test -run '^$' -bench Soak -benchtime 1x -timeout 30m ./sandbox/aws/soak
//
// Network Load Balancers have a soak of their own, in package nlb. Scale is another benchmark of this package: many load balancers, rules
// and targets at the same time.
package soak
