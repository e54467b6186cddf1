// Package sockopt is what load balancer nodes ask of the kernel beyond what package net offers: to drop connection attempts before anybody
// answers them, to count segments, and to share source ports. On other systems than Linux it offers the same and does nothing; each function
// says what that means.
//
// It knows sockets and addresses as they really are, and nothing of a VPC. Start reading at filter.go.
package sockopt
