package sockopt

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// Filters says whether the kernel takes filters at all.
const Filters = true

// SetFilter gives a listening socket a filter, in the place of the one that it has. Connections that it accepts from then on have the filter
// as well, until ClearFilter. It fails where the kernel takes no such program; then the socket has no filter.
func SetFilter(socket syscall.Conn, f Filter) error {
	if f.DropsNothing() {
		ClearFilter(socket)
		return nil
	}
	raw, err := f.program()
	if err == nil {
		program := make([]unix.SockFilter, len(raw))
		for i, r := range raw {
			program[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
		}
		err = control(socket, func(fd int) error {
			return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
		})
	}
	if err != nil {
		ClearFilter(socket)
	}
	return err
}

// ClearFilter takes a socket its filter, if it has one.
func ClearFilter(socket syscall.Conn) {
	_ = control(socket, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0) })
}

// Deafen lets a connected socket drop whatever comes in, acknowledgements among it, until ClearFilter: to both ends it is as if a cable had been
// pulled.
func Deafen(socket syscall.Conn) error {
	nothing := [1]unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K}}
	return control(socket, func(fd int) error {
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &nothing[0]})
	})
}

// Dropped is how many segments a listening socket has dropped so far. A client that is dropped sends the same one again and again.
func Dropped(socket syscall.Conn) (segments uint32) {
	_ = control(socket, func(fd int) error {
		// The option gives an array of 32-bit numbers, for which package unix has no type. The ninth, SK_MEMINFO_DROPS, is where
		// the structure of another option has its field Lost.
		info, err := unix.GetsockoptTCPInfo(fd, unix.SOL_SOCKET, unix.SO_MEMINFO)
		if err == nil {
			segments = info.Lost
		}
		return err
	})
	return segments
}

// Relay marks the connection that a socket is going to make, for filters that let relays in. It is to be called before the connect.
func Relay(fd uintptr) {
	_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TOS, relayMark)
}

// SharePorts lets the kernel choose the source port when a socket connects and not when it is bound, so that one address can have more than 28,000
// connections in all, as long as no target has that many.
func SharePorts(fd uintptr) {
	_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
}

// Look asks the kernel about a TCP connection; it is false where it does not tell.
func Look(socket syscall.Conn) (i Info, ok bool) {
	const closed = 7 // TCP_CLOSE
	err := control(socket, func(fd int) error {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			i = Info{Closed: info.State == closed, Segments: uint64(info.Segs_in)}
		}
		return err
	})
	return i, err == nil
}

func control(socket syscall.Conn, f func(fd int) error) error {
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = f(int(fd)) })
	return errors.Join(err, failed)
}
