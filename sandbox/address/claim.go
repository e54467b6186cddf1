package address

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"syscall"
)

// VPC is the address space of one sandbox: the mapping, and the claim on its octet.
type VPC struct {
	Mapping
	guard net.Listener
}

// guardPort is the port of the guard listener. As the real port of "low port 0" it serves no VPC port
// wherever low ports are moved, and the guard's address is the VPC's network address, which is
// given to nobody.
const guardPort = lowPortOffset

const firstOctet, lastOctet = 1, 254

// Claim takes the lowest octet that no other sandbox on this machine holds. The claim is a
// listener at 127.k.0.0:64000 that never accepts: unlike a lock file it has exactly the scope of
// what it guards, the network namespace, whoever the other users are, and the kernel frees it when the process dies.
// It fails if all 254 octets are taken, or if this system has no loopback addresses besides 127.0.0.1.
func Claim() (*VPC, error) {
	for k := firstOctet; k <= lastOctet; k++ {
		if vpc, err := claim(uint8(k)); !errors.Is(err, syscall.EADDRINUSE) {
			return vpc, err
		}
	}
	return nil, allInUse()
}

// claimHigh is Claim for the highest octet: far from those that sandboxes begin with, and want back after a restart.
func claimHigh() (*VPC, error) {
	for k := lastOctet; k >= firstOctet; k-- {
		if vpc, err := claim(uint8(k)); !errors.Is(err, syscall.EADDRINUSE) {
			return vpc, err
		}
	}
	return nil, allInUse()
}

func allInUse() error {
	return fmt.Errorf("all %d sandbox networks (127.1.0.0/16 to 127.254.0.0/16) are in use on this machine: end a sandbox with `lockstep sandbox down`", lastOctet)
}

// ClaimOctet takes a certain octet. It fails if another sandbox holds it.
func ClaimOctet(k uint8) (*VPC, error) {
	vpc, err := claim(k)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("the sandbox network 127.%d.0.0/16 is in use: end the sandbox that has it with `lockstep sandbox down`", k)
	}
	return vpc, err
}

func claim(k uint8) (*VPC, error) {
	m := Mapping{Octet: k}
	at := netip.AddrPortFrom(m.Loopback().Addr(), guardPort)
	guard, err := listen(at)
	if err != nil {
		return nil, fmt.Errorf("cannot claim %s for a sandbox at %s (the whole of 127.0.0.0/8 must be bindable, as it is on Linux): %w", m.CIDR(), at, err)
	}
	m.LowPortsMoved, err = forbidden(netip.AddrPortFrom(m.Loopback().Addr(), 80))
	if err != nil {
		_ = guard.Close()
		return nil, err
	}
	return &VPC{Mapping: m, guard: guard}, nil
}

// Release gives the octet back. It is safe to call it twice.
func (v *VPC) Release() error {
	if err := v.guard.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("cannot release %s: %w", v.CIDR(), err)
	}
	return nil
}

// forbidden tries whether this process may not bind an address and port, those below 1024 for example. What another program has, at all addresses of the
// machine, may be bound: systems ask for the right to do so first.
func forbidden(at netip.AddrPort) (bool, error) {
	l, err := listen(at)
	switch {
	case err == nil:
		return false, l.Close()
	case errors.Is(err, fs.ErrPermission):
		return true, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return false, nil
	default:
		return false, fmt.Errorf("cannot find out whether ports below 1024 can be used, by listening at %s: %w", at, err)
	}
}

func listen(at netip.AddrPort) (net.Listener, error) {
	return net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(at))
}
