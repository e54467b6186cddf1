package nlb

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
)

// bufferSize is what one read takes at most.
const bufferSize = 64 << 10

// buffers are lent to flows while they move bytes. A flow that waits holds none, so that what a node holds on to grows with what it moves and
// not with who is connected.
var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// lentReader reads from a socket into buffers of its own.
type lentReader struct{ raw syscall.RawConn }

// next waits for something to read, at most 64 KB or one datagram, and hands it to use. It keeps to the read deadline of the socket.
func (r lentReader) next(use func([]byte) error) error {
	buffer, n := (*[bufferSize]byte)(nil), 0
	var failed error
	err := r.raw.Read(func(fd uintptr) bool {
		buffer = buffers.Get().(*[bufferSize]byte)
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

// splices are the flows whose bytes the kernel moves at present, at half the cost and for two file handles each. A bound keeps flows
// that fall silent meanwhile from using the handles up.
var splices = make(chan struct{}, 64)

const (
	// bulk is how many reads in a row must have filled their buffer before bytes are spliced.
	bulk = 2
	// spliced is how much is moved before it is counted, and turns how often before a read tells anew whether there is much.
	spliced = 4 << 20
	turns   = 16
)

// move copies from a socket until its end, and counts what is written.
func move(to io.Writer, from *net.TCPConn, moved *atomic.Uint64) error {
	raw, err := from.SyscallConn()
	if err != nil {
		return err
	}
	r := lentReader{raw}
	plain, _ := to.(*net.TCPConn)
	for full, ended := 0, false; err == nil && !ended; {
		err = r.next(func(b []byte) error {
			if ended = len(b) == 0; ended {
				return nil
			}
			if full++; len(b) < bufferSize {
				full = 0
			}
			n, err := to.Write(b)
			moved.Add(uint64(n))
			return err
		})
		if plain != nil && full >= bulk && err == nil {
			ended, err = splice(plain, from, moved)
		}
	}
	return err
}

// splice lets the kernel move what comes, until the end or for some turns; nothing when too many flows do that.
func splice(to, from *net.TCPConn, moved *atomic.Uint64) (ended bool, err error) {
	select {
	case splices <- struct{}{}:
	default:
		return false, nil
	}
	defer func() { <-splices }()
	for range turns {
		n, err := to.ReadFrom(&io.LimitedReader{R: from, N: spliced})
		moved.Add(uint64(n))
		if n < spliced || err != nil {
			return true, err
		}
	}
	return false, nil
}
