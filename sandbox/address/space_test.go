package address

import (
	"net/netip"
	"slices"
	"testing"
)

func TestASpaceServesTheNetworksOfOtherVPCs(t *testing.T) {
	own, err := Claim()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = own.Release() }()
	s := NewSpace(own.Mapping)
	at := netip.MustParseAddrPort("192.168.3.4:80")
	if real := s.Real(at); real.IsValid() {
		t.Errorf("%s is served at %s before its network is annexed", at, real)
	}
	var releases []func()
	for _, a := range []string{"192.168.3.4", "192.168.9.9", "10.99.0.4", own.CIDR().Addr().Next().String()} {
		release, err := s.Annex(netip.MustParseAddr(a))
		if err != nil {
			t.Fatal(err)
		}
		releases = append(releases, release)
	}
	if n := len(*s.annexes.Load()); n != 2 {
		t.Errorf("%d networks are claimed for two", n)
	}
	seen := map[netip.AddrPort]string{}
	for _, text := range []string{"192.168.3.4:80", "192.168.9.4:80", "10.99.3.4:80", "192.168.3.4:8080", netip.AddrPortFrom(own.CIDR().Addr().Next(), 80).String()} {
		at := netip.MustParseAddrPort(text)
		real := s.Real(at)
		if !real.Addr().IsLoopback() || s.Virtual(real) != at || s.VirtualAddr(s.RealAddr(at.Addr())) != at.Addr() || s.RealAddr(at.Addr()) != real.Addr() {
			t.Errorf("%s is served at %s, which is %s", at, real, s.Virtual(real))
		}
		if other, ok := seen[real]; ok {
			t.Errorf("%s and %s are both served at %s", text, other, real)
		}
		seen[real] = text
	}
	within := s.Served(netip.MustParsePrefix("192.168.3.0/24"))
	if want := s.RealAddr(netip.MustParseAddr("192.168.3.0")); len(within) != 1 || within[0] != netip.PrefixFrom(want, 24) {
		t.Errorf("192.168.3.0/24 is served in %v", within)
	}
	around := s.Served(netip.MustParsePrefix("10.0.0.0/8"))
	for _, want := range []netip.Prefix{own.Loopback(), netip.PrefixFrom(s.RealAddr(netip.MustParseAddr("10.99.0.0")), 16), netip.MustParsePrefix("10.0.0.0/8")} {
		if !slices.Contains(around, want) {
			t.Errorf("10.0.0.0/8 is served in %v, not in %s", around, want)
		}
	}
	if got := s.Served(netip.MustParsePrefix("203.0.113.0/24")); len(got) != 1 || got[0].String() != "203.0.113.0/24" {
		t.Errorf("a block outside became %v", got)
	}
	for _, a := range []string{"127.0.0.1", "fd00::1"} {
		if _, err := s.Annex(netip.MustParseAddr(a)); err == nil {
			t.Errorf("%s can be annexed", a)
		}
	}

	octet := (*s.annexes.Load())[0].at.Octet
	releases[0]()
	releases[0]()
	if !s.Real(at).IsValid() {
		t.Error("one of two who had annexed a network has taken it from the other")
	}
	releases[1]()
	if real := s.Real(at); real.IsValid() {
		t.Errorf("a network that nobody needs is served at %s", real)
	}
	free, err := ClaimOctet(octet)
	if err != nil {
		t.Fatalf("a network that nobody needs is kept: %v", err)
	}
	_ = free.Release()

	octet = (*s.annexes.Load())[0].at.Octet
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	releases[2]() // changes nothing any more
	if _, err := s.Annex(at.Addr()); err == nil {
		t.Error("a space that is closed annexes networks")
	}
	again, err := ClaimOctet(octet)
	if err != nil {
		t.Fatalf("a closed space keeps its networks: %v", err)
	}
	_ = again.Release()
}
