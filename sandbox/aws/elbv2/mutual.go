package elbv2

import (
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
)

// This file brings trust stores, and certificates that are renewed, to the nodes.
//
// A node that meets one for the first time learns what it holds at that moment, with the listener. What becomes of it later comes on its own,
// at the pace of certificates, whatever else the node learns meanwhile.

// trusted is what a trust store holds, in one version of it.
type trusted struct {
	version int
	store   *dataplane.TrustStore
}

// renew makes what a trust store holds now its next version.
func (t *trustStore) renew() {
	var lists []*dataplane.Revocations
	for _, id := range slices.Sorted(maps.Keys(t.revocations)) {
		if list := t.revocations[id].list; list != nil {
			lists = append(lists, list)
		}
	}
	t.holds = trusted{t.holds.version + 1, dataplane.NewTrustStore(t.authorities, lists)}
}

// changeTrustStore lets the nodes that use a trust store, or are about to, learn what it now holds.
func (s *Service) changeTrustStore(t *trustStore, what string) {
	t.renew()
	holds := t.holds
	s.propagateWhere(func(lb *loadBalancer) bool { return lb.trusts(t.arn) }, change{key: profile.ALBCertificate, what: what, lane: t.arn, apply: func(n *node) {
		if known, ok := n.trusted[t.arn]; ok && known.version < holds.version {
			n.trusted[t.arn], n.stale = holds, true
		}
	}})
}

// CertificateRenewed lets the nodes that show a certificate learn that it is another one now. It is for the certificate manager to call.
func (s *Service) CertificateRenewed(arn string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.propagateWhere(func(lb *loadBalancer) bool { return lb.shows(arn) }, change{key: profile.ALBCertificate, what: "ImportCertificate " + arn, lane: arn, apply: func(n *node) {
		n.renewed, n.stale = append(n.renewed, arn), true
	}})
}

// propagateWhere is propagate for all load balancers of a kind.
func (s *Service) propagateWhere(concerned func(*loadBalancer) bool, c change) {
	for _, arn := range slices.Sorted(maps.Keys(s.balancers)) {
		if lb := s.balancers[arn]; concerned(lb) {
			s.propagate(lb, c)
		}
	}
}

// trusts says whether a listener of the load balancer verifies clients by a trust store, in the API or still on a node.
func (lb *loadBalancer) trusts(arn string) bool {
	for _, l := range lb.listeners {
		if m := l.value.Get().MutualAuthentication; m != nil && deref(m.TrustStoreArn) == arn {
			return true
		}
	}
	return slices.ContainsFunc(lb.everyNode(), func(n *node) bool { return n.trusted[arn].store != nil })
}

// shows says whether a listener of the load balancer has a certificate, in the API or still on a node.
func (lb *loadBalancer) shows(arn string) bool {
	for _, l := range lb.listeners {
		if slices.ContainsFunc(l.value.Get().Certificates, func(c types.Certificate) bool { return deref(c.CertificateArn) == arn }) || slices.Contains(l.certificates, arn) {
			return true
		}
	}
	return slices.ContainsFunc(lb.everyNode(), func(n *node) bool {
		for _, d := range n.listeners {
			if slices.Contains(d.certificates, arn) {
				return true
			}
		}
		return false
	})
}

// mutual is what a listener of a node does with certificates of clients.
func (s *Service) mutual(n *node, d listenerDocument) *dataplane.MutualTLS {
	if d.mutual == nil || deref(d.mutual.Mode) == "off" {
		return nil
	}
	m := &dataplane.MutualTLS{HeaderNames: map[string]string{}}
	for _, header := range dataplane.CertificateHeaders {
		attribute := strings.ToLower(strings.ReplaceAll(header, "-", "_"))
		m.HeaderNames[header] = d.attributes["routing.http.request."+attribute+".header_name"]
	}
	if deref(d.mutual.Mode) != "verify" {
		return m
	}
	arn := deref(d.mutual.TrustStoreArn)
	if _, known := n.trusted[arn]; !known {
		if t := s.trustStores[arn]; t != nil {
			n.trusted[arn] = t.holds
		}
	}
	m.Verify, m.Trust, m.IgnoreExpiry = true, n.trusted[arn].store, deref(d.mutual.IgnoreClientCertificateExpiry)
	m.AdvertiseAuthorities = d.mutual.AdvertiseTrustStoreCaNames == types.AdvertiseTrustStoreCaNamesEnumOn
	return m
}

// distrust drops the trust stores that no listener of the node names any more.
func (n *node) distrust() {
	used := map[string]bool{}
	for _, d := range n.listeners {
		if d.mutual != nil {
			used[deref(d.mutual.TrustStoreArn)] = true
		}
	}
	maps.DeleteFunc(n.trusted, func(arn string, _ trusted) bool { return !used[arn] })
}
