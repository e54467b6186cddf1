package elbv2

import (
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane/certtest"
)

// secured is an account with certificates and objects, and a load balancer whose HTTPS listener shows certificate.
type secured struct {
	*account
	root         *certtest.Authority
	objects      map[string][]byte
	certificates map[string]tls.Certificate
	listener     string
}

const certificate = "arn:aws:acm:eu-west-1:123456789012:certificate/1"

func newSecured(t *testing.T, profile string, seed uint64) *secured {
	t.Helper()
	root := certtest.New(t, "root")
	s := &secured{
		account: newAccount(t, profile, seed), root: root,
		objects:      map[string][]byte{"ca": root.PEM(), "list": root.Revoke(root.Client("one").Leaf)},
		certificates: map[string]tls.Certificate{certificate: root.Client("first.example.com")},
	}
	s.Service.config.Object = func(_, key, _ string) ([]byte, bool) {
		text, ok := s.objects[key]
		return text, ok
	}
	s.Service.config.Certificate = func(arn string) (tls.Certificate, bool, bool) {
		c, ok := s.certificates[arn]
		return c, ok, ok
	}
	lb := s.balancerARN()
	time.Sleep(time.Hour)
	s.listener = *retry(s.account, s.CreateListener, &elb.CreateListenerInput{
		LoadBalancerArn: &lb, Port: new(int32(443)), Protocol: types.ProtocolEnumHttps, Certificates: []types.Certificate{{CertificateArn: new(certificate)}},
		DefaultActions: fixedAction(),
	}).Listeners[0].ListenerArn
	time.Sleep(time.Hour)
	return s
}

func (s *secured) trustStore(name string) string {
	s.Helper()
	arn := *retry(s.account, s.CreateTrustStore, &elb.CreateTrustStoreInput{
		Name: &name, CaCertificatesBundleS3Bucket: new("bucket"), CaCertificatesBundleS3Key: new("ca"),
	}).TrustStores[0].TrustStoreArn
	time.Sleep(time.Hour)
	return arn
}

// verify makes the listener verify clients, or nobody any more.
func (s *secured) verify(store string) {
	s.Helper()
	m := &types.MutualAuthenticationAttributes{Mode: new("off")}
	if store != "" {
		m = &types.MutualAuthenticationAttributes{Mode: new("verify"), TrustStoreArn: &store, IgnoreClientCertificateExpiry: new(true), AdvertiseTrustStoreCaNames: "on"}
	}
	retry(s.account, s.ModifyListener, &elb.ModifyListenerInput{ListenerArn: &s.listener, MutualAuthentication: m})
}

func (s *secured) modify(store string) {
	s.Helper()
	retry(s.account, s.ModifyTrustStore, &elb.ModifyTrustStoreInput{TrustStoreArn: &store, CaCertificatesBundleS3Bucket: new("bucket"), CaCertificatesBundleS3Key: new("ca")})
}

// touch changes the listener, so that its nodes hear of it, and nothing else.
func (s *secured) touch() {
	s.Helper()
	retry(s.account, s.ModifyListenerAttributes, &elb.ModifyListenerAttributesInput{ListenerArn: &s.listener, Attributes: []types.ListenerAttribute{
		{Key: new("routing.http.request.x_amzn_mtls_clientcert_leaf.header_name"), Value: new(fmt.Sprint("Leaf-", time.Now().Unix()))},
	}})
}

// What a trust store holds reaches the nodes at the pace of certificates, and not with what is said of the listener meanwhile.
func TestTrustStoresReachNodesAtTheirPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSecured(t, "typical", 1)
		defer s.Service.Close()
		store := s.trustStore("ca")
		s.verify(store)
		s.touch()
		time.Sleep(time.Hour)
		first := s.trustStores[store].holds.store
		for zone, node := range s.nodes {
			c, _ := node.last()
			m := c.Listeners[0].Mutual
			if m == nil || !m.Verify || !m.IgnoreExpiry || !m.AdvertiseAuthorities || m.Trust != first || m.HeaderNames["X-Amzn-Mtls-Clientcert-Leaf"] == "" {
				t.Fatalf("%s was told %+v", zone, m)
			}
		}
		for what, change := range map[string]func(){
			"modify": func() { s.modify(store) },
			"add": func() {
				retry(s.account, s.AddTrustStoreRevocations, &elb.AddTrustStoreRevocationsInput{TrustStoreArn: &store, RevocationContents: []types.RevocationContent{{S3Bucket: new("bucket"), S3Key: new("list")}}})
			},
		} {
			before := s.trustStores[store].holds.store
			s.comesLater(what, change, func(l dataplane.Listener) (old, fresh bool) {
				return l.Mutual.Trust == before, l.Mutual.Trust == s.trustStores[store].holds.store
			})
		}
		before := s.trustStores[store].holds.store
		retry(s.account, s.RemoveTrustStoreRevocations, &elb.RemoveTrustStoreRevocationsInput{TrustStoreArn: &store, RevocationIds: []int64{1}})
		time.Sleep(time.Hour)
		if c, _ := s.nodes[zones[0]].last(); c.Listeners[0].Mutual.Trust == before {
			t.Error("a node does not know that a list was removed")
		}
	})
}

// A certificate that is imported again is shown by each node some time later.
func TestRenewedCertificatesReachNodesAtTheirPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSecured(t, "typical", 2)
		defer s.Service.Close()
		before, after := s.certificates[certificate], s.root.Client("second.example.com")
		s.comesLater("import", func() {
			s.certificates[certificate] = after
			s.CertificateRenewed(certificate)
		}, func(l dataplane.Listener) (old, fresh bool) {
			return l.Certificates[0].Leaf == before.Leaf, l.Certificates[0].Leaf == after.Leaf
		})
	})
}

// comesLater checks that every node takes a change after a while of its own, though it hears of the listener before.
func (s *secured) comesLater(what string, change func(), is func(dataplane.Listener) (old, fresh bool)) {
	s.Helper()
	called := time.Since(epoch)
	change()
	for range 10 {
		s.touch()
		time.Sleep(time.Second)
	}
	time.Sleep(time.Hour)
	moments := map[time.Duration]bool{}
	early := 0
	for zone, node := range s.nodes {
		taken := time.Duration(0)
		for _, one := range node.configs {
			if one.at < called {
				continue
			}
			switch old, fresh := is(one.config.Listeners[0]); {
			case old && taken == 0:
				early++
			case fresh && taken == 0:
				taken = one.at
			case !fresh:
				s.Errorf("%s: %s has gone back after %v", what, zone, one.at-called)
			}
		}
		moments[taken] = true
		if taken < called+time.Second {
			s.Errorf("%s: %s has taken it after %v", what, zone, taken-called)
		}
	}
	if early == 0 || len(moments) != len(zones) {
		s.Errorf("%s: nodes have taken it at %v, and heard of the listener %d times before", what, moments, early)
	}
}

// However trust stores and listeners change, each node ends with what is true, and on its way never goes back.
func TestNodesEndWithTheTrustStoreThatIs(t *testing.T) {
	for seed := range uint64(10) {
		synctest.Test(t, func(t *testing.T) {
			s := newSecured(t, "pessimistic", seed)
			defer s.Service.Close()
			stores := []string{s.trustStore("one"), s.trustStore("two")}
			known := map[*dataplane.TrustStore]held{}
			draw := rand.New(rand.NewPCG(seed, 1))
			for range 40 {
				store := stores[draw.IntN(2)]
				switch draw.IntN(5) {
				case 0, 1, 2:
					s.modify(store)
				case 3:
					s.verify(store)
				case 4:
					s.verify("")
				}
				for _, arn := range stores {
					holds := s.trustStores[arn].holds
					known[holds.store] = held{arn, holds.version}
				}
				time.Sleep(time.Duration(draw.Int64N(int64(40 * time.Second))))
			}
			last := stores[draw.IntN(2)]
			s.verify(last)
			time.Sleep(time.Hour)
			truth := known[s.trustStores[last].holds.store]
			for zone, node := range s.nodes {
				newest := map[string]int{}
				for _, one := range node.configs {
					if len(one.config.Listeners) == 0 || one.config.Listeners[0].Mutual == nil {
						continue
					}
					told := known[one.config.Listeners[0].Mutual.Trust]
					if told.version < newest[told.store] || told.version == 0 {
						t.Errorf("seed %d: %s was told version %d after %d", seed, zone, told.version, newest[told.store])
					}
					newest[told.store] = told.version
				}
				c, _ := node.last()
				if got := known[c.Listeners[0].Mutual.Trust]; got != truth {
					t.Errorf("seed %d: %s has ended with %+v, not %+v", seed, zone, got, truth)
				}
			}
			for _, lb := range s.balancers {
				for _, n := range lb.nodes {
					if len(n.trusted) != 1 {
						t.Errorf("seed %d: %s remembers %d trust stores, and uses one", seed, n.zone, len(n.trusted))
					}
				}
			}
		})
		if t.Failed() {
			return
		}
	}
}

// held is a version of what a trust store holds.
type held struct {
	store   string
	version int
}
