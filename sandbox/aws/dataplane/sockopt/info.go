package sockopt

// Info is what the kernel knows of a TCP connection.
type Info struct {
	// Closed is true when the kernel has given the connection up, which before we close it means an RST from the peer.
	Closed bool
	// Segments have come in so far.
	Segments uint64
}
