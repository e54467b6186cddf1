package elbv2

import (
	"time"

	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
)

// This file keeps trust stores and capacity reservations on the disk.

type keptStore struct {
	TrustStore  types.TrustStore  `json:"trustStore"`
	Tags        map[string]string `json:"tags"`
	Bundle      storedObject      `json:"bundle"`
	Added       int64             `json:"added"`
	Revocations []keptRevocation  `json:"revocations,omitempty"`
}

type keptRevocation struct {
	Shown  types.DescribeTrustStoreRevocation `json:"shown"`
	Object storedObject                       `json:"object"`
}

func (t *trustStore) kept() keptStore {
	k := keptStore{TrustStore: t.value.Get(), Tags: t.tags, Bundle: t.bundle, Added: t.added}
	for id := range t.added {
		if one, ok := t.revocations[id+1]; ok {
			k.Revocations = append(k.Revocations, keptRevocation{one.shown, one.object})
		}
	}
	return k
}

func (s *Service) restoreTrustStore(k keptStore) {
	t := &trustStore{
		arn: deref(k.TrustStore.TrustStoreArn), name: deref(k.TrustStore.Name), tags: k.Tags, bundle: k.Bundle,
		revocations: map[int64]revocation{}, added: k.Added,
	}
	for _, one := range k.Revocations {
		t.revocations[deref(one.Shown.RevocationId)] = revocation{one.Shown, one.Object}
	}
	t.value = eventual.Settled(s.model, "truststore/"+t.name, k.TrustStore)
	s.trustStores[t.arn] = t
	if k.TrustStore.Status != types.TrustStoreStatusActive {
		s.makeReady(t)
	}
}

type keptCapacity struct {
	Units    int32                              `json:"units"`
	State    types.CapacityReservationStateEnum `json:"state"`
	Modified time.Time                          `json:"modified"`
	Lowered  []time.Time                        `json:"lowered,omitempty"`
	Changes  int                                `json:"changes"`
}

func (c *reservation) kept() *keptCapacity {
	if c.changes == 0 {
		return nil
	}
	return &keptCapacity{c.units, c.state, c.modified, c.lowered, c.changes}
}

// restoreCapacity takes a reservation over. One that was pending begins to be provisioned again.
func (s *Service) restoreCapacity(lb *loadBalancer, k *keptCapacity) {
	if k == nil {
		return
	}
	lb.capacity = reservation{k.Units, k.State, k.Modified, k.Lowered, k.Changes}
	if k.State != types.CapacityReservationStateEnumProvisioned {
		s.reserve(lb, k.State)
	}
}
