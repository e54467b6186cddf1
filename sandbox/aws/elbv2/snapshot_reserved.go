package elbv2

import (
	"crypto/x509"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
)

// This file keeps trust stores and capacity reservations on the disk.

type keptStore struct {
	TrustStore types.TrustStore  `json:"trustStore"`
	Tags       map[string]string `json:"tags"`
	Bundle     storedObject      `json:"bundle"`
	// Authorities are the certificates of the bundle in DER, as they were when it was read.
	Authorities [][]byte         `json:"authorities,omitempty"`
	Added       int64            `json:"added"`
	Revocations []keptRevocation `json:"revocations,omitempty"`
}

type keptRevocation struct {
	Shown  types.DescribeTrustStoreRevocation `json:"shown"`
	Object storedObject                       `json:"object"`
	// List is what was read, in DER.
	List []byte `json:"list,omitempty"`
}

func (t *trustStore) kept() keptStore {
	k := keptStore{TrustStore: t.value.Get(), Tags: t.tags, Bundle: t.bundle, Added: t.added}
	for _, one := range t.authorities {
		k.Authorities = append(k.Authorities, one.Raw)
	}
	for id := range t.added {
		if one, ok := t.revocations[id+1]; ok {
			kept := keptRevocation{Shown: one.shown, Object: one.object}
			if one.list != nil {
				kept.List = one.list.Raw()
			}
			k.Revocations = append(k.Revocations, kept)
		}
	}
	return k
}

// restoreTrustStore takes a trust store over. One that was kept without what it holds trusts nobody until it is modified.
func (s *Service) restoreTrustStore(k keptStore) error {
	t := &trustStore{
		arn: deref(k.TrustStore.TrustStoreArn), name: deref(k.TrustStore.Name), tags: k.Tags, bundle: k.Bundle,
		revocations: map[int64]revocation{}, added: k.Added,
	}
	for _, der := range k.Authorities {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("an authority of trust store %s: %w", t.arn, err)
		}
		t.authorities = append(t.authorities, certificate)
	}
	for _, one := range k.Revocations {
		restored := revocation{shown: one.Shown, object: one.Object}
		if len(one.List) > 0 {
			list, err := x509.ParseRevocationList(one.List)
			if err != nil {
				return fmt.Errorf("list %d of trust store %s: %w", deref(one.Shown.RevocationId), t.arn, err)
			}
			restored.list = dataplane.NewRevocations(list)
		}
		t.revocations[deref(one.Shown.RevocationId)] = restored
	}
	t.renew()
	t.value = eventual.Settled(s.model, "truststore/"+t.name, k.TrustStore)
	s.trustStores[t.arn] = t
	if k.TrustStore.Status != types.TrustStoreStatusActive {
		s.makeReady(t)
	}
	return nil
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
