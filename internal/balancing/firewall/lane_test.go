package firewall_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	elbv2 "github.com/lockstep-delivery/lockstep/api/elbv2/v1beta1"
	"github.com/lockstep-delivery/lockstep/internal/balancing/binding"
	"github.com/lockstep-delivery/lockstep/internal/balancing/firewall"
	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/cloud"
)

// slowCloud has one security group, sg-pods, that guards every address. Each call takes latency.
type slowCloud struct {
	mu      sync.Mutex
	latency time.Duration
	refuse  error
	lose    bool // does not answer writes
	ingress []model.Permission
	calls   int
	// calling and overlap say whether two calls were ever under way at one time.
	calling int
	overlap bool
}

func (c *slowCloud) call(ctx context.Context) error {
	c.mu.Lock()
	c.calls++
	c.calling++
	c.overlap = c.overlap || c.calling > 1
	latency := c.latency
	c.mu.Unlock()
	select {
	case <-ctx.Done():
	case <-time.After(latency):
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calling--
	return errors.Join(ctx.Err(), c.refuse)
}

func (c *slowCloud) SecurityGroup(ctx context.Context, id string) (model.ObservedSecurityGroup, error) {
	begun := time.Now()
	if err := c.call(ctx); err != nil {
		return model.ObservedSecurityGroup{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return model.ObservedSecurityGroup{GroupID: id, SeenAt: begun, SecurityGroup: model.SecurityGroup{Ingress: append([]model.Permission{}, c.ingress...)}}, nil
}

func (c *slowCloud) SecurityGroupsByTag(ctx context.Context, _ map[string]string) ([]model.ObservedSecurityGroup, error) {
	return nil, c.call(ctx)
}

func (c *slowCloud) AuthorizeIngress(ctx context.Context, _ string, permissions []model.Permission) error {
	if err := c.call(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lose {
		return &cloud.APIError{Kind: cloud.KindUnavailable, Operation: "AuthorizeSecurityGroupIngress"}
	}
	c.ingress = append(c.ingress, permissions...)
	return nil
}

func (c *slowCloud) RevokeIngress(ctx context.Context, _ string, permissions []model.Permission) error {
	if err := c.call(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var left []model.Permission
	for _, have := range c.ingress {
		revoked := false
		for _, p := range permissions {
			revoked = revoked || p == have
		}
		if !revoked {
			left = append(left, have)
		}
	}
	c.ingress = left
	return nil
}

func (c *slowCloud) NetworkInterfacesByAddress(ctx context.Context, addresses []string) ([]cloud.NetworkInterface, error) {
	return []cloud.NetworkInterface{{ID: "eni-1", Groups: []string{"sg-pods"}, Addresses: addresses}}, c.call(ctx)
}

func (c *slowCloud) set(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
}

func (c *slowCloud) letsIn(port int32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.ingress {
		if p.FromPort <= port && port <= p.ToPort {
			return true
		}
	}
	return false
}

// start runs a firewall on the cloud, until the test ends.
func start(t *testing.T, c *slowCloud) *firewall.Firewall {
	t.Helper()
	expected := map[types.NamespacedName]binding.Networking{}
	f := firewall.New(c, firewall.Settings{Cluster: "test", Settle: time.Second, Recheck: time.Second},
		func(context.Context) (map[types.NamespacedName]binding.Networking, error) { return expected, nil }, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- f.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return f
}

func named(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: "shop", Name: name}
}

func ports(ip string, ports ...int32) binding.Networking {
	want := binding.Networking{Endpoints: []binding.Endpoint{{IP: ip}}}
	for _, port := range ports {
		want.Rules = append(want.Rules, elbv2.NetworkingIngressRule{
			From:  []elbv2.NetworkingPeer{{SecurityGroup: &elbv2.SecurityGroup{GroupID: "sg-lb"}}},
			Ports: []elbv2.NetworkingPort{{Port: new(intstr.FromInt32(port))}},
		})
	}
	return want
}

// A worker of bindings registers targets between two looks at the firewall: with AWS hanging it must not hang.
func TestNoBindingWaitsForASecurityGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &slowCloud{latency: time.Hour}
		f := start(t, c)
		began := time.Now()
		for range 3 {
			for _, name := range []string{"a", "b"} {
				held, err := f.Allow(named(name), ports("10.0.0.1", 8080))
				if held || err != nil {
					t.Errorf("binding %s: held %v, error %v, though AWS has not answered", name, held, err)
				}
				synctest.Wait()
			}
		}
		f.Forget(named("b"))
		if waited := time.Since(began); waited != 0 {
			t.Errorf("the bindings waited %s for AWS", waited)
		}
		if c.calls != 1 {
			t.Errorf("%d calls under way for two bindings of one group, want 1", c.calls)
		}
	})
}

// Bindings that share a group are served by one worker, so that none takes away what another needs.
func TestBindingsThatShareAGroupDoNotFight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &slowCloud{latency: 300 * time.Millisecond}
		f := start(t, c)
		told := map[string]bool{}
		var mu sync.Mutex
		defer f.Subscribe(func(key types.NamespacedName) {
			mu.Lock()
			defer mu.Unlock()
			told[key.Name] = true
		})()
		wants := map[string]binding.Networking{"a": ports("10.0.0.1", 8080), "b": ports("10.0.0.2", 9090), "c": ports("10.0.0.3", 7070)}
		var asking sync.WaitGroup
		for name, want := range wants {
			asking.Go(func() { _, _ = f.Allow(named(name), want) })
		}
		asking.Wait()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		for name, want := range wants {
			held, err := f.Allow(named(name), want)
			if !held || err != nil || !told[name] {
				t.Errorf("binding %s: held %v, told %v: %v", name, held, told[name], err)
			}
		}
		if !c.letsIn(7070) || !c.letsIn(8080) || !c.letsIn(9090) {
			t.Errorf("the group lets in %+v", c.ingress)
		}
		if c.overlap {
			t.Error("two calls were under way at one time")
		}
	})
}

// What fails is tried again without anybody asking, and then told.
func TestAThrottledFirewallTriesAgainByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &slowCloud{refuse: &cloud.APIError{Kind: cloud.KindThrottled, Operation: "DescribeNetworkInterfaces", Code: "RequestLimitExceeded"}}
		f := start(t, c)
		told := make(chan types.NamespacedName, 10)
		defer f.Subscribe(func(key types.NamespacedName) { told <- key })()
		_, _ = f.Allow(named("a"), ports("10.0.0.1", 8080))
		<-told
		if held, err := f.Allow(named("a"), ports("10.0.0.1", 8080)); held || !errors.Is(err, cloud.ErrThrottled) {
			t.Errorf("throttled: held %v, error %v", held, err)
		}
		c.mu.Lock()
		c.refuse = nil
		c.mu.Unlock()
		<-told
		if held, err := f.Allow(named("a"), ports("10.0.0.1", 8080)); !held || err != nil {
			t.Errorf("afterwards: held %v, error %v", held, err)
		}
	})
}

// A revocation that AWS did not answer may arrive after the rule was wanted again.
func TestARuleThatVanishesIsMadeAgain(t *testing.T) {
	for _, row := range []struct {
		name   string
		lost   bool
		within time.Duration
	}{{"after a lost call", true, 15 * time.Second}, {"by hand", false, 11 * time.Minute}} {
		synctest.Test(t, func(t *testing.T) {
			c := &slowCloud{lose: row.lost}
			f := start(t, c)
			_, _ = f.Allow(named("a"), ports("10.0.0.1", 8080))
			synctest.Wait()
			c.set(func() { c.lose = false })
			time.Sleep(5 * time.Minute)
			if held, err := f.Allow(named("a"), ports("10.0.0.1", 8080)); !held || err != nil {
				t.Fatalf("%s: held %v, error %v", row.name, held, err)
			}
			c.set(func() { c.ingress = nil })
			time.Sleep(row.within)
			synctest.Wait()
			if !c.letsIn(8080) {
				t.Errorf("%s: the rule is not there %s later", row.name, row.within)
			}
		})
	}
}
