// Package idleconn tells whether an idle connection can still be used. It never blocks and takes nothing from the
// connection, so that a client need not keep a goroutine reading on each idle connection.
//
// It sees what has arrived so far. The other end may close at the very moment when the next request is sent;
// that race is a fact of keep-alive, and no check can remove it.
package idleconn

import (
	"net"
	"syscall"
)

// Probe looks at one connection. It is used by one goroutine at a time.
type Probe struct {
	raw  syscall.RawConn
	look func(fd uintptr) bool // made once, since it is used before each request
	seen *bool
}

// New returns the probe of a TCP connection. The probe of any other connection says that it is alive.
func New(conn net.Conn) Probe {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return Probe{}
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return Probe{}
	}
	alive, one := new(bool), make([]byte, 1)
	look := func(fd uintptr) bool {
		_, _, err := syscall.Recvfrom(int(fd), one, syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		*alive = err == syscall.EAGAIN
		return true // never wait
	}
	return Probe{raw: raw, look: look, seen: alive}
}

// Alive is true while the other end has neither closed the connection nor sent anything unasked.
func (p Probe) Alive() bool {
	if p.raw == nil {
		return true
	}
	*p.seen = false
	return p.raw.Read(p.look) == nil && *p.seen
}
