package elbv2

import (
	"crypto/tls"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/ec2"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/resourceid"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// Node is what carries the traffic of a load balancer in one zone: *dataplane.Node, or *nlb.Node for a Network Load Balancer.
type Node interface {
	Apply(dataplane.NodeConfig) error
	ApplyGroup(dataplane.Group)
	ApplyTargets(group string, set dataplane.TargetSet)
	RemoveGroup(group string)
	Stats() dataplane.Stats
	Close()
}

// NodeSpec is what a new node is told of itself.
type NodeSpec struct {
	// LoadBalancer is the ARN of the load balancer.
	LoadBalancer string
	Zone         string
	Address      netip.Addr
	// Network is true for a node of a Network Load Balancer.
	Network bool
	// Health takes the reports of the node.
	Health func(dataplane.HealthChange)
	// Draw says how long the node takes for something that it does on its own account.
	Draw func(key profile.Key, event string) time.Duration
}

// Config is what the service depends on.
type Config struct {
	Region    string
	AccountID string
	Network   *ec2.Service
	IDs       *resourceid.Source
	Draws     *profile.Draws
	// NewNode begins to carry traffic for a load balancer in one zone. Nil: nothing is
	// carried.
	NewNode func(NodeSpec) Node
	// Certificate asks the certificate manager of the account for a certificate: it may be unknown, or known and not (yet)
	// issued. Nil: there is no certificate manager, and every ARN of the right form is taken.
	Certificate func(arn string) (pair tls.Certificate, issued, known bool)
	// Object reads an object of S3: trust stores are made of such. Nil: there are none.
	Object func(bucket, key, version string) ([]byte, bool)
	// Accepted is told of each change that nodes have to learn of, in the order of acceptance. May be nil; must not block.
	Accepted func(Acceptance)
	// Applied is told each time a node has taken a change. May be nil; must not block.
	Applied func(Application)
	// Hold says for how long a node hears of no change before it asks again; 0: it hears at once. Nil: always at once.
	Hold func(zone, loadBalancer string) time.Duration
	Log  *slog.Logger
}

// Service is ELBv2 of one account in one region. Its methods may be called from several goroutines.
type Service struct {
	config Config
	model  *eventual.Model

	mu           sync.Mutex
	closed       bool
	balancers    map[string]*loadBalancer // by ARN, as everything below
	listeners    map[string]*listener
	rules        map[string]*rule
	targetGroups map[string]*targetGroup
	trustStores  map[string]*trustStore
	timers       map[*time.Timer]struct{}
	secrets      map[clientOf]string // of clients of issuers
}

// New returns a service without resources.
func New(config Config) *Service {
	if config.Log == nil {
		config.Log = slog.Default()
	}
	return &Service{
		config:       config,
		model:        eventual.NewModel(config.Draws),
		balancers:    map[string]*loadBalancer{},
		listeners:    map[string]*listener{},
		rules:        map[string]*rule{},
		targetGroups: map[string]*targetGroup{},
		trustStores:  map[string]*trustStore{},
		timers:       map[*time.Timer]struct{}{},
		secrets:      map[clientOf]string{},
	}
}

// Operations are the operations that the service answers.
func (s *Service) Operations() wire.Operations[eventual.Reader] {
	return wire.NewOperations(
		wire.Of(s.CreateLoadBalancer),
		wire.Of(s.DescribeLoadBalancers),
		wire.Of(s.DeleteLoadBalancer),
		wire.Of(s.SetSecurityGroups),
		wire.Of(s.SetSubnets),
		wire.Of(s.SetIpAddressType),
		wire.Of(s.DescribeLoadBalancerAttributes),
		wire.Of(s.ModifyLoadBalancerAttributes),
		wire.Of(s.CreateListener),
		wire.Of(s.DescribeListeners),
		wire.Of(s.ModifyListener),
		wire.Of(s.DeleteListener),
		wire.Of(s.DescribeListenerAttributes),
		wire.Of(s.ModifyListenerAttributes),
		wire.Of(s.AddListenerCertificates),
		wire.Of(s.RemoveListenerCertificates),
		wire.Of(s.DescribeListenerCertificates),
		wire.Of(s.CreateRule),
		wire.Of(s.DescribeRules),
		wire.Of(s.ModifyRule),
		wire.Of(s.DeleteRule),
		wire.Of(s.SetRulePriorities),
		wire.Of(s.CreateTargetGroup),
		wire.Of(s.DescribeTargetGroups),
		wire.Of(s.ModifyTargetGroup),
		wire.Of(s.DeleteTargetGroup),
		wire.Of(s.DescribeTargetGroupAttributes),
		wire.Of(s.ModifyTargetGroupAttributes),
		wire.Of(s.RegisterTargets),
		wire.Of(s.DeregisterTargets),
		wire.Of(s.DescribeTargetHealth),
		wire.Of(s.AddTags),
		wire.Of(s.RemoveTags),
		wire.Of(s.DescribeTags),
		wire.Of(s.DescribeAccountLimits),
		wire.Of(s.DescribeSSLPolicies),
		wire.Of(s.DescribeCapacityReservation),
		wire.Of(s.ModifyCapacityReservation),
		wire.Of(s.ModifyIpPools),
		wire.Of(s.CreateTrustStore),
		wire.Of(s.DescribeTrustStores),
		wire.Of(s.ModifyTrustStore),
		wire.Of(s.DeleteTrustStore),
		wire.Of(s.DescribeTrustStoreAssociations),
		wire.Of(s.DeleteSharedTrustStoreAssociation),
		wire.Of(s.GetTrustStoreCaCertificatesBundle),
		wire.Of(s.AddTrustStoreRevocations),
		wire.Of(s.DescribeTrustStoreRevocations),
		wire.Of(s.RemoveTrustStoreRevocations),
		wire.Of(s.GetTrustStoreRevocationContent),
		wire.Of(s.GetResourcePolicy),
	)
}

// Close ends all nodes and all that is still to come.
func (s *Service) Close() {
	s.mu.Lock()
	s.closed = true
	for t := range s.timers {
		t.Stop()
	}
	var nodes []*node
	for _, lb := range s.balancers {
		nodes = append(nodes, lb.everyNode()...)
	}
	s.mu.Unlock()
	var closing sync.WaitGroup
	for _, n := range nodes {
		closing.Go(n.close)
	}
	closing.Wait()
}

// after runs f under the lock when d has passed. The nodes that f returns are then brought up to date.
// The caller holds the lock.
func (s *Service) after(d time.Duration, f func() []*node) {
	var t *time.Timer
	t = time.AfterFunc(d, func() {
		s.mu.Lock()
		delete(s.timers, t)
		var changed []*node
		if !s.closed {
			changed = f()
		}
		s.mu.Unlock()
		for _, n := range changed {
			n.flush(s)
		}
	})
	s.timers[t] = struct{}{}
}

// loadBalancer is a load balancer with its nodes. Guarded by Service.mu.
type loadBalancer struct {
	value      *eventual.Value[types.LoadBalancer]
	arn        string
	name       string
	attributes map[string]string
	tags       map[string]string
	formerly   former
	capacity   reservation
	listeners  map[string]*listener
	nodes      []*node
	// leaving are nodes of zones that were taken away: they serve until they have heard of it.
	leaving []*node
	// changes counts the changes that nodes have been sent; it names their draws.
	changes    int
	dnsVisible time.Time
	deleted    bool
}

// everyNode is all nodes that may still serve.
func (lb *loadBalancer) everyNode() []*node { return slices.Concat(lb.nodes, lb.leaving) }

func (lb *loadBalancer) application() bool {
	return lb.value.Get().Type == types.LoadBalancerTypeEnumApplication
}

// listener is a listener with its rules, the default rule among them.
type listener struct {
	value      *eventual.Value[types.Listener]
	arn        string
	balancer   *loadBalancer
	attributes map[string]string
	tags       map[string]string
	formerly   former
	rules      map[string]*rule
	byDefault  *rule
	// certificates are those besides the default one.
	certificates []string
}

// rule is a rule. The default rule's actions are those of its listener.
type rule struct {
	value    *eventual.Value[types.Rule]
	arn      string
	listener *listener
	tags     map[string]string
	formerly former
}

// targetGroup is a target group and what is registered in it.
type targetGroup struct {
	value      *eventual.Value[types.TargetGroup]
	arn        string
	name       string
	attributes map[string]string
	tags       map[string]string
	formerly   former
	targets    map[dataplane.TargetKey]*target
	// balancer is the load balancer whose listeners and rules refer to the group; references are their ARNs.
	balancer   *loadBalancer
	references map[string]bool
	// lingers is until when AWS still believes the group to be in use.
	lingers time.Time
}

// former is what readers may still see of a resource's attributes and tags.
type former struct{ attributes, tags earlier }

// earlier is what readers may still see of attributes or tags that have changed. The zero value is nothing.
type earlier struct {
	value *eventual.Value[map[string]string]
}

// replace notes that before has become after. Neither map may be changed in place.
func (e *earlier) replace(m *eventual.Model, id string, before, after map[string]string) {
	if e.value == nil {
		e.value = eventual.Settled(m, id, before)
	}
	e.value.Put(after)
}

// read is what a reader sees of what is now.
func (e *earlier) read(r eventual.Reader, now map[string]string) map[string]string {
	if e.value == nil {
		return now
	}
	seen, _ := e.value.Read(r)
	return seen
}

func (g *targetGroup) inUse() bool { return len(g.references) > 0 }

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
