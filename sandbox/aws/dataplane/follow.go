package dataplane

import "net"

// Follower is a Firewall that wants to know of the connections that were made, because it may cut them later.
type Follower interface {
	// Follow tells of a connection of a node whose first packet has passed. It must not block. Nobody tells when it ends.
	Follow(conn *net.TCPConn, p Packet)
}

// Follow tells a firewall of a connection, if it wants to know.
func Follow(wall Firewall, conn net.Conn, p Packet) {
	follower, wants := wall.(Follower)
	if tcp, ok := conn.(*net.TCPConn); wants && ok {
		follower.Follow(tcp, p)
	}
}
