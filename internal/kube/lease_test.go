package kube

import (
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// locks makes the lock of one replica over two leases of a fake API server.
func locks(client *fake.Clientset, identity string) *everyLease {
	l := &everyLease{}
	for _, name := range []string{LeaseLoadBalancer, LeaseRollouts} {
		l.leases = append(l.leases, &resourcelock.LeaseLock{
			LeaseMeta: metav1.ObjectMeta{Namespace: "system", Name: name}, Client: client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: identity},
		})
	}
	return l
}

func record(holder string) resourcelock.LeaderElectionRecord {
	return resourcelock.LeaderElectionRecord{HolderIdentity: holder, LeaseDurationSeconds: 12,
		AcquireTime: metav1.NewTime(time.Unix(1, 0)), RenewTime: metav1.NewTime(time.Unix(1, 0))}
}

func TestEveryLeaseIsHeldOnlyWhenAllAre(t *testing.T) {
	lease := func(name, holder string) *coordinationv1.Lease {
		return &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: "system", Name: name},
			Spec: coordinationv1.LeaseSpec{HolderIdentity: new(holder), LeaseDurationSeconds: new(int32(15))}}
	}
	tests := []struct {
		name   string
		leases []*coordinationv1.Lease
		holder string // of the record that Get gives
	}{
		{"somebody else holds the second", []*coordinationv1.Lease{lease(LeaseLoadBalancer, "me"), lease(LeaseRollouts, "them")}, "them"},
		{"somebody else holds the second and the first does not exist", []*coordinationv1.Lease{lease(LeaseRollouts, "them")}, "them"},
		{"somebody else holds the first", []*coordinationv1.Lease{lease(LeaseLoadBalancer, "them"), lease(LeaseRollouts, "me")}, "them"},
		{"the first is released", []*coordinationv1.Lease{lease(LeaseLoadBalancer, ""), lease(LeaseRollouts, "me")}, ""},
		{"the second is released", []*coordinationv1.Lease{lease(LeaseLoadBalancer, "me"), lease(LeaseRollouts, "")}, ""},
		{"the second does not exist", []*coordinationv1.Lease{lease(LeaseLoadBalancer, "me")}, ""},
		{"both are ours", []*coordinationv1.Lease{lease(LeaseLoadBalancer, "me"), lease(LeaseRollouts, "me")}, "me"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			client := fake.NewClientset()
			for _, l := range test.leases {
				if err := client.Tracker().Add(l); err != nil {
					t.Fatal(err)
				}
			}
			mine := locks(client, "me")
			got, _, err := mine.Get(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got.HolderIdentity != test.holder {
				t.Fatalf("held by %q, want %q", got.HolderIdentity, test.holder)
			}
			if test.holder == "them" {
				return
			}
			if err := mine.Update(t.Context(), record("me")); err != nil {
				t.Fatal(err)
			}
			got, _, err = locks(client, "other").Get(t.Context())
			if err != nil || got.HolderIdentity != "me" {
				t.Fatalf("after taking the leases another replica sees %+v, %v", got, err)
			}
		})
	}
}

func TestEveryLeaseIsCreatedOnce(t *testing.T) {
	client := fake.NewClientset()
	mine, others := locks(client, "me"), locks(client, "other")
	if _, _, err := mine.Get(t.Context()); err == nil {
		t.Fatal("leases that do not exist are found")
	}
	_, _, _ = others.Get(t.Context())
	if err := mine.Create(t.Context(), record("me")); err != nil {
		t.Fatal(err)
	}
	if err := others.Create(t.Context(), record("other")); err == nil {
		t.Fatal("two replicas create the same leases")
	}
}
