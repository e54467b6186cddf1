package aws

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/address"
)

// Of an instance that was terminated long ago nothing is known any more. Its host can be removed all the same.
func TestAHostOutlivesItsInstance(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e, err := New(Config{VPC: address.Mapping{Octet: 77}, WithoutTraffic: true})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = e.Close() }()
		h, err := e.AddHost(Host{Name: "shop", Ports: map[uint16]netip.AddrPort{80: netip.MustParseAddrPort("127.0.0.1:3000")}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.carryOut("ec2", "TerminateInstances", fmt.Appendf(nil, `{"InstanceIds": [%q]}`, h.ID)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour) // virtual
		if _, err := e.carryOut("ec2", "DescribeInstances", []byte(`{}`)); err != nil {
			t.Fatal(err)
		}
		if err := e.RemoveHost("shop"); err != nil || len(e.Hosts()) > 0 {
			t.Errorf("%v, and %v are left", err, e.Hosts())
		}
	})
}
