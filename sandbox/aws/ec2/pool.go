package ec2

import "net/netip"

// pool is a block of addresses and which of them are used. It is guarded by Service.mu.
type pool struct {
	prefix netip.Prefix
	// cursor is the address given out last. It only moves forward (and wraps), so that a released
	// address is not soon another pod's.
	cursor netip.Addr
	used   map[netip.Addr]bool
}

// withheld is how many addresses at the beginning of each subnet AWS keeps for itself; the last one is a fifth.
const withheld = 4

func newPool(prefix netip.Prefix) *pool {
	p := &pool{prefix: prefix, used: map[netip.Addr]bool{}}
	p.rewind()
	return p
}

func (p *pool) rewind() {
	p.cursor = p.prefix.Addr()
	for range withheld - 1 {
		p.cursor = p.cursor.Next()
	}
}

// take gives out an address; ok is false when the pool is full.
func (p *pool) take() (a netip.Addr, ok bool) {
	if p.free() <= 0 {
		return netip.Addr{}, false
	}
	for {
		p.cursor = p.cursor.Next()
		if !p.prefix.Contains(p.cursor) || !p.prefix.Contains(p.cursor.Next()) {
			p.rewind()
			continue
		}
		if !p.used[p.cursor] {
			p.used[p.cursor] = true
			return p.cursor, true
		}
	}
}

// takeBut is take, but for addresses that are to be avoided as long as there are others.
func (p *pool) takeBut(avoid func(netip.Addr) bool) (a netip.Addr, ok bool) {
	var avoided []netip.Addr
	for {
		a, ok = p.take()
		if ok && avoid(a) {
			avoided = append(avoided, a)
			continue
		}
		if !ok && len(avoided) > 0 {
			a, ok, avoided = avoided[0], true, avoided[1:]
		}
		for _, b := range avoided {
			p.give(b)
		}
		return a, ok
	}
}

// gives says whether an address is one that the pool may give out, used or not.
func (p *pool) gives(a netip.Addr) bool {
	if !p.prefix.Contains(a) || !p.prefix.Contains(a.Next()) {
		return false
	}
	first := p.prefix.Addr()
	for range withheld {
		if a == first {
			return false
		}
		first = first.Next()
	}
	return true
}

func (p *pool) give(a netip.Addr) { delete(p.used, a) }

// free is the number of addresses that are left.
func (p *pool) free() int {
	bits := p.prefix.Addr().BitLen() - p.prefix.Bits()
	return 1<<min(bits, 30) - withheld - 1 - len(p.used)
}
