package elbv2

import (
	"crypto/x509"
	"testing"
	"testing/synctest"
	"time"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane/certtest"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
)

// Trust stores and reservations outlive the process with everything that the API shows of them.
func TestTrustStoresAndCapacityAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, "typical", 1)
		defer a.Service.Close()
		me := eventual.Reader{Caller: "test"}
		lb := a.balancerARN()
		time.Sleep(time.Hour)
		if _, err := a.ModifyCapacityReservation(me, &elb.ModifyCapacityReservationInput{LoadBalancerArn: &lb, MinimumLoadBalancerCapacity: &types.MinimumLoadBalancerCapacity{CapacityUnits: new(int32(600))}}); err != nil {
			t.Fatal(err)
		}
		id := int64(1)
		root := certtest.New(t, "root")
		list, count, err := parseRevoked(root.Revoke(root.Client("revoked").Leaf))
		if err != nil {
			t.Fatal(err)
		}
		one := &trustStore{arn: a.Service.arn("truststore/ca/1"), name: "ca", tags: map[string]string{"a": "b"}, added: 2, bundle: storedObject{"bucket", "key", ""}, authorities: []*x509.Certificate{root.Certificate}, revocations: map[int64]revocation{
			id: {types.DescribeTrustStoreRevocation{RevocationId: &id, NumberOfRevokedEntries: &count}, storedObject{"bucket", "list", "2"}, list},
		}}
		one.value = eventual.New(a.model, "truststore/ca", types.TrustStore{Name: new("ca"), TrustStoreArn: &one.arn, Status: types.TrustStoreStatusCreating})
		a.trustStores[one.arn] = one
		text, err := a.Export()
		if err != nil {
			t.Fatal(err)
		}
		b := New(a.Service.config)
		defer b.Close()
		if err := b.Import(text); err != nil {
			t.Fatal(err)
		}
		again, err := b.Export()
		if err != nil {
			t.Fatal(err)
		}
		a.balancers[lb].capacity.changes++ // a reservation that was pending is asked for again
		if text, err = a.Export(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(text), string(again)); diff != "" {
			t.Errorf("kept, restored and kept again (-first +second):\n%s", diff)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := b.balancers[lb].capacity.state; got != types.CapacityReservationStateEnumProvisioned {
			t.Errorf("the restored reservation is %s", got)
		}
		if b.trustStores[one.arn].holds.store == nil {
			t.Error("the restored trust store holds nothing")
		}
		if got := b.trustStores[one.arn].value.Get().Status; got != types.TrustStoreStatusActive {
			t.Errorf("the restored trust store is %s", got)
		}
	})
}
