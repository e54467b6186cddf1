package nlb

import (
	"io"
	"sync"
	"syscall"
)

// buffers are lent to flows while they move bytes. A flow that waits holds none, so that what a node holds on to grows with what it moves and
// not with who is connected.
var buffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// lentReader reads from a socket into buffers of its own.
type lentReader struct{ raw syscall.RawConn }

// next waits for something to read, at most 64 KB or one datagram, and hands it to use. It keeps to the read deadline of the socket.
func (r lentReader) next(use func([]byte) error) error {
	buffer, n := (*[64 << 10]byte)(nil), 0
	var failed error
	err := r.raw.Read(func(fd uintptr) bool {
		buffer = buffers.Get().(*[64 << 10]byte)
		for {
			if n, failed = syscall.Read(int(fd), buffer[:]); failed != syscall.EINTR {
				break
			}
		}
		if failed != syscall.EAGAIN {
			return true
		}
		buffers.Put(buffer)
		buffer = nil
		return false
	})
	if buffer != nil {
		defer buffers.Put(buffer)
	}
	switch {
	case err != nil:
		return err
	case failed != nil:
		return failed
	}
	// Not within Read, which keeps the socket from being closed until it returns.
	return use(buffer[:n])
}

// move copies from a socket until its end.
func (r lentReader) move(to io.Writer) (err error) {
	ended := false
	for err == nil && !ended {
		err = r.next(func(b []byte) error {
			ended = len(b) == 0
			if ended {
				return nil
			}
			_, err := to.Write(b)
			return err
		})
	}
	return err
}
