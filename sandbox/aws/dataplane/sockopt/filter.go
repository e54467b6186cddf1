package sockopt

import (
	"cmp"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"

	"golang.org/x/net/bpf"
)

// ErrTooLong is the error of a filter that does not fit into a program for the kernel.
var ErrTooLong = errors.New("the filter has too many addresses")

// Filter says whose attempts to connect a listening IPv4 socket notices. Those of all others are dropped: they see no SYN-ACK and no RST, and
// time out. The zero value drops everybody's. Connections that are made already are never touched.
type Filter struct {
	// Sources may connect. IPv6 blocks are left out.
	Sources []netip.Prefix
	// Denied may not, whatever Sources say.
	Denied []netip.Addr
	// Relays lets sockets in that Relay has marked, whatever their address.
	Relays bool
}

// Everybody is the filter that drops nothing.
var Everybody = Filter{Sources: []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0)}}

// DropsNothing says whether no program is needed.
func (f Filter) DropsNothing() bool {
	return len(f.Denied) == 0 && slices.ContainsFunc(f.Sources, func(p netip.Prefix) bool { return p.Addr().Is4() && p.Bits() == 0 })
}

// What a program sees of a segment: its own header from 0 on, that of IP from networkHeader on.
const (
	networkHeader = 0xfff00000 // SKF_NET_OFF, which is negative
	ipTOS         = networkHeader + 1
	ipSource      = networkHeader + 12
	tcpFlags      = 13

	flagSYN, flagACK = 0x02, 0x10

	keep = 0xffffffff
	drop = 0

	// relayMark is the type of service of connections that Relay has marked: the code point of local use with all bits set.
	relayMark = 0xfc
	// longest is how many instructions the kernel takes.
	longest = 4096
)

// program is the filter for the kernel:
//
//	no SYN, or with ACK? keep
//	marked as relayed?   keep
//	source is denied?    drop
//	source is in a block? keep
//	drop
func (f Filter) program() ([]bpf.RawInstruction, error) {
	is := func(value uint32) bpf.Instruction { // else skips the next one
		return bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: value, SkipTrue: 1}
	}
	p := []bpf.Instruction{
		bpf.LoadAbsolute{Off: tcpFlags, Size: 1},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: flagSYN | flagACK},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: flagSYN, SkipTrue: 1},
		bpf.RetConstant{Val: keep},
	}
	if f.Relays {
		p = append(p, bpf.LoadAbsolute{Off: ipTOS, Size: 1}, is(relayMark), bpf.RetConstant{Val: keep})
	}
	p = append(p, bpf.LoadAbsolute{Off: ipSource, Size: 4})
	for _, a := range f.Denied {
		if a = a.Unmap(); a.Is4() {
			p = append(p, is(number(a)), bpf.RetConstant{Val: drop})
		}
	}
	for _, block := range disjoint(f.Sources) {
		first := number(block.Addr())
		last := first | uint32(1<<(32-block.Bits())-1)
		p = append(p,
			bpf.JumpIf{Cond: bpf.JumpLessThan, Val: first, SkipTrue: 2},
			bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: last, SkipTrue: 1},
			bpf.RetConstant{Val: keep})
	}
	p = append(p, bpf.RetConstant{Val: drop})
	if len(p) > longest {
		return nil, ErrTooLong
	}
	return bpf.Assemble(p)
}

func number(a netip.Addr) uint32 { b := a.As4(); return binary.BigEndian.Uint32(b[:]) }

// disjoint are the IPv4 blocks of a list that are in no other one of it, sorted.
func disjoint(blocks []netip.Prefix) []netip.Prefix {
	var sorted, kept []netip.Prefix
	for _, b := range blocks {
		if b.Addr().Is4() && b.IsValid() {
			sorted = append(sorted, b.Masked())
		}
	}
	slices.SortFunc(sorted, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	for _, b := range sorted {
		if len(kept) == 0 || !kept[len(kept)-1].Overlaps(b) {
			kept = append(kept, b)
		}
	}
	return kept
}
