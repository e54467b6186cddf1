package proxyproto

import (
	"encoding/hex"
	"net/netip"
	"testing"
)

// The bytes are taken from the tables of the specification, by hand.
func TestHeaders(t *testing.T) {
	const signature = "0d0a0d0a000d0a515549540a"
	for _, c := range []struct {
		name string
		got  []byte
		want string
	}{
		{"health-checks-name-nobody", Local(), signature + "20" + "00" + "0000"},
		{"ipv4", Header(netip.MustParseAddrPort("10.1.2.3:40000"), netip.MustParseAddrPort("10.0.0.9:443")),
			signature + "21" + "11" + "000c" + "0a010203" + "0a000009" + "9c40" + "01bb"},
		{"ipv6-and-ipv4-mixed", Header(netip.MustParseAddrPort("[2001:db8::1]:1"), netip.MustParseAddrPort("10.0.0.9:2")),
			signature + "21" + "21" + "0024" + "20010db8000000000000000000000001" + "00000000000000000000ffff0a000009" + "0001" + "0002"},
		{"a-mapped-address-is-ipv4", Header(netip.MustParseAddrPort("[::ffff:10.1.2.3]:40000"), netip.MustParseAddrPort("10.0.0.9:443")),
			signature + "21" + "11" + "000c" + "0a010203" + "0a000009" + "9c40" + "01bb"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := hex.EncodeToString(c.got); got != c.want {
				t.Errorf("header %s, want %s", got, c.want)
			}
		})
	}
}
