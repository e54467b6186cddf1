package dataplane

import "time"

// TargetUsage is what one node has sent to one target.
type TargetUsage struct {
	// Requests handed to the target.
	Requests uint64
	// InFlight counts requests that have chosen the target and are not over, those still connecting included.
	InFlight uint64
	// Status counts the target's own responses by class: Status[2] is 2xx.
	Status [6]uint64
	// ConnectErrors counts requests (not among Requests) for which no connection could be made; BrokenResponses those whose
	// connection ended, timed out or made no sense before the response was complete.
	ConnectErrors, BrokenResponses uint64
	// TLSErrors counts those whose connection was made, and whose TLS handshake failed.
	TLSErrors uint64
	// FirstRequest and LastRequest are when the first and the newest request were handed over, LastDone when
	// the newest answer was complete. Zero: never.
	FirstRequest, LastRequest, LastDone time.Time
}

// and is the usage of two targets together; nothing of them is in flight any more.
func (u TargetUsage) and(other TargetUsage) TargetUsage {
	u.Requests += other.Requests
	for class, n := range other.Status {
		u.Status[class] += n
	}
	u.ConnectErrors += other.ConnectErrors
	u.BrokenResponses += other.BrokenResponses
	u.TLSErrors += other.TLSErrors
	if !other.FirstRequest.IsZero() && (u.FirstRequest.IsZero() || other.FirstRequest.Before(u.FirstRequest)) {
		u.FirstRequest = other.FirstRequest
	}
	if other.LastRequest.After(u.LastRequest) {
		u.LastRequest = other.LastRequest
	}
	if other.LastDone.After(u.LastDone) {
		u.LastDone = other.LastDone
	}
	return u
}

// Stats is what a node has done since it began.
type Stats struct {
	LoadBalancer, Zone string
	// ConfigVersion is the NodeConfig in force.
	ConfigVersion uint64
	// Requests that a listener received.
	Requests uint64
	// Generated counts the responses that the node made itself because of an error, by status (502, 503,
	// 504, 460 ...). Fixed responses and redirects are counted apart.
	Generated        map[int]uint64
	Fixed, Redirects uint64
	// ClientConnections are open now, NewConnections were made in all. Rejected ones could not be accepted.
	ClientConnections        int64
	NewConnections, Rejected uint64
	// Processed are the bytes from and to clients.
	Processed uint64
	// ClientTLSErrors are handshakes that have failed.
	ClientTLSErrors uint64
	// NonCompliant are requests that RFC 7230 does not allow (package desync), let in or not.
	NonCompliant uint64
	// InvalidForwarded and InvalidDropped are requests with header names that are invalid for a load balancer.
	InvalidForwarded, InvalidDropped uint64
	// TargetConnections are open now, NewTargetConnections were made in all; health checks are not among them.
	TargetConnections    int64
	NewTargetConnections uint64
	// RuleEvaluations are rules that were looked at, the default ones left out.
	RuleEvaluations uint64
	// NonSticky are requests with a stickiness cookie whose target gets no requests any more.
	NonSticky uint64
	// GRPC are requests of gRPC.
	GRPC uint64
	// RedirectsTooLong are redirects to URLs of more than 8 KB.
	RedirectsTooLong uint64
	// IPv6Requests came from clients with such an address.
	IPv6Requests uint64
	// Groups tells how many requests each group was drawn for, by ARN. Of the groups that were removed it names the newest 100; those before have one sum
	// without a name, and so have their targets.
	Groups map[string]GroupStats
	// Targets holds each target that the node knows or has known: one by one the newest 10,000 of those that are gone, and of the others their sum
	// for each group, without a key.
	Targets []TargetStats
	// Network holds what only a Network Load Balancer counts. Nil for others. Requests are new flows there, and Generated is empty.
	Network *NetworkStats `json:",omitempty"`
}

// NetworkStats are the counts of a node of a Network Load Balancer, with the meaning of its CloudWatch metrics.
type NetworkStats struct {
	// By protocol, TCP, TLS or UDP: flows that are open, flows that began, and bytes to and from targets.
	ActiveFlows, NewFlows, ProcessedBytes map[Protocol]uint64
	// Packets are segments and datagrams from clients and targets.
	Packets uint64
	// Flows that ended by an RST, by who sent it.
	ClientResets, TargetResets, ELBResets uint64
	// TLS handshakes that did not succeed.
	ClientTLSErrors, TargetTLSErrors uint64
	// PortAllocationErrors counts connects to targets for which no source port was left.
	PortAllocationErrors uint64
	// UnhealthyRoutingFlows went to a target of a group that failed open.
	UnhealthyRoutingFlows uint64
	// BlockedInbound and BlockedOutbound are new flows that security groups dropped, by protocol: from clients, and to targets.
	BlockedInbound, BlockedOutbound map[Protocol]uint64
}

// GroupStats is what became of the requests for a group on one node.
type GroupStats struct {
	// Requests for which the group was chosen, by weight or by cookie.
	Requests uint64
	// Generated counts those that the node had to answer itself, by status.
	Generated map[int]uint64
	// Opened are requests that were routed while the group had failed open.
	Opened uint64
	// Times are those that targets took until their answers began, after the whole request was sent.
	Times []Measured `json:",omitempty"`
	// Routing and DNS: the group has the healthy targets that are asked for, so that it does not fail open, and its zone stays in DNS.
	Routing, DNS bool
}

// Measured is a value and how often it was measured.
type Measured struct {
	Seconds float64
	Count   uint64
}

// TargetStats is the usage of one registration of a target.
type TargetStats struct {
	Group  string
	Target TargetKey
	// Gone is true when the node no longer knows this registration.
	Gone   bool
	Health TargetHealth
	Usage  TargetUsage
	// Draining targets get no new requests. Anomalous and Mitigated are as in HealthChange.
	Draining, Anomalous, Mitigated bool
}
