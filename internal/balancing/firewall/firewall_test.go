package firewall_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	elbv2 "github.com/lockstep-delivery/lockstep/api/elbv2/v1beta1"
	"github.com/lockstep-delivery/lockstep/internal/balancing/binding"
	"github.com/lockstep-delivery/lockstep/internal/balancing/firewall"
	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/cloud"
	"github.com/lockstep-delivery/lockstep/sandbox/address"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
)

// yard is a firewall against an emulated AWS with one pod's address.
type yard struct {
	*testing.T
	aws      *aws.Emulator
	cloud    *cloud.Cloud
	firewall *firewall.Firewall
	// ahead is how far the clock of cloud and firewall is ahead of the real one.
	ahead    atomic.Int64
	expected map[types.NamespacedName]binding.Networking
	// listing is what happens while the bindings are listed.
	listing func()
	source  string
	pod     string
}

func newYard(t *testing.T) *yard {
	t.Helper()
	y := &yard{T: t}
	var err error
	y.aws, err = aws.New(aws.Config{VPC: address.Mapping{Octet: 78}, WithoutTraffic: true, Unthrottled: true, Seed: 1, Log: slog.New(slog.DiscardHandler)})
	y.must(err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	y.must(err)
	served := make(chan error, 1)
	go func() { served <- y.aws.Serve(l) }()
	t.Cleanup(func() {
		if err := errors.Join(y.aws.Close(), <-served); err != nil {
			t.Error(err)
		}
	})
	endpoint := "http://" + l.Addr().String()
	y.cloud, err = cloud.New(t.Context(), cloud.Config{
		ClusterName: "lockstep", VPCID: y.aws.EC2().VPC(), Region: "eu-west-1",
		Endpoints:   map[string]string{"Elastic Load Balancing v2": endpoint, "EC2": endpoint},
		Credentials: credentials.NewStaticCredentialsProvider(aws.DefaultAccessKeyID, aws.DefaultSecretAccessKey, ""),
		Settings:    cloud.Settings{NetworkTTL: time.Millisecond},
		Clock:       y.now,
	})
	y.must(err)
	t.Cleanup(y.cloud.Close)
	y.source, err = y.cloud.CreateSecurityGroup(t.Context(), model.SecurityGroup{Name: "lb", Description: "lb"})
	y.must(err)
	instance, err := y.aws.EC2().AddInstance("eu-west-1a", "node-a")
	y.must(err)
	a, err := y.aws.EC2().AssignPodAddress(instance.ID)
	y.must(err)
	y.pod = a.String()
	y.takeOver()
	return y
}

// takeOver starts a firewall that knows of nothing yet.
func (y *yard) takeOver() {
	y.firewall = firewall.New(y.cloud, firewall.Settings{Cluster: "lockstep", Settle: time.Millisecond},
		func(context.Context) (map[types.NamespacedName]binding.Networking, error) {
			listed := y.expected
			if y.listing != nil {
				y.listing()
			}
			return listed, nil
		}, slog.New(slog.DiscardHandler))
	y.firewall.Now = y.now
}

func (y *yard) now() time.Time { return time.Now().Add(time.Duration(y.ahead.Load())) }

// later turns the clock: nobody sleeps here.
func (y *yard) later(by time.Duration) { y.ahead.Add(int64(by)) }

func (y *yard) must(err error) {
	y.Helper()
	if err != nil {
		y.Fatal(err)
	}
}

var web = types.NamespacedName{Namespace: "shop", Name: "web"}

// allow asks for one TCP port from the load balancer, and has the firewall make a pass.
func (y *yard) allow(key types.NamespacedName, port int32) error {
	y.ask(key, port)
	_ = y.firewall.Tidy(y.Context()) // each binding hears its own part of it
	held, err := y.ask(key, port)
	if err == nil && !held {
		return errors.New("nothing is said against it, and it does not hold")
	}
	return err
}

func (y *yard) ask(key types.NamespacedName, port int32) (held bool, err error) {
	want := y.networking(port)
	want.Endpoints = []binding.Endpoint{{IP: y.pod}}
	return y.firewall.Allow(key, want)
}

// networking asks for one TCP port from the load balancer.
func (y *yard) networking(port int32) binding.Networking {
	return binding.Networking{Rules: []elbv2.NetworkingIngressRule{{
		From:  []elbv2.NetworkingPeer{{SecurityGroup: &elbv2.SecurityGroup{GroupID: y.source}}},
		Ports: []elbv2.NetworkingPort{{Port: new(intstr.FromInt32(port))}},
	}}}
}

// ranges are the port ranges that the load balancer is let into, straight from AWS.
func (y *yard) ranges() []int32 {
	y.Helper()
	group, err := y.cloud.SecurityGroup(y.Context(), y.aws.EC2().NodeSecurityGroup())
	y.must(err)
	var all []int32
	for _, p := range group.Ingress {
		if p.SourceGroupID == y.source {
			all = append(all, p.FromPort, p.ToPort)
		}
	}
	slices.Sort(all)
	return all
}

// tidied lets the firewall tidy up until the ranges are as wanted.
func (y *yard) tidied(want ...int32) {
	y.Helper()
	var got []int32
	for range 20 {
		y.must(y.firewall.Tidy(y.Context()))
		if got = y.ranges(); slices.Equal(got, want) {
			return
		}
		y.later(time.Second)
	}
	y.Fatalf("port ranges are %v, want %v", got, want)
}

func (y *yard) calls(operation string) int {
	n := 0
	for _, r := range y.aws.Journal().Since(0) {
		if r.Operation == operation && r.Code == "" {
			n++
		}
	}
	return n
}

// patiently repeats what the call budget has no token for.
func (y *yard) patiently(call func() error) error {
	for {
		err := call()
		wait, busy := cloud.RetryAfter(err)
		if !busy {
			return err
		}
		y.later(wait)
	}
}

func TestANewPortIsOpenBeforeTheOldOneIsClosed(t *testing.T) {
	y := newYard(t)
	y.expected = map[types.NamespacedName]binding.Networking{web: y.networking(8080)}
	y.must(y.allow(web, 8080))
	y.tidied(8080, 8080)
	y.expected = map[types.NamespacedName]binding.Networking{web: y.networking(9090)}
	y.must(y.allow(web, 9090))
	if got := y.ranges(); !slices.Equal(got, []int32{8080, 8080, 9090, 9090}) {
		t.Fatalf("right after the change the ranges are %v", got)
	}
	y.tidied(9090, 9090)
}

func TestTheSameWishCostsNoCall(t *testing.T) {
	y := newYard(t)
	y.expected = map[types.NamespacedName]binding.Networking{web: y.networking(8080)}
	y.must(y.allow(web, 8080))
	y.tidied(8080, 8080)
	y.must(y.firewall.Tidy(t.Context()))
	before := len(y.aws.Journal().Since(0))
	for range 3 {
		y.must(y.allow(web, 8080))
		y.must(y.firewall.Tidy(t.Context()))
	}
	if after := len(y.aws.Journal().Since(0)); after != before {
		t.Errorf("%d calls are made for nothing", after-before)
	}
}

func TestNothingIsRevokedBeforeEveryBindingIsKnown(t *testing.T) {
	y := newYard(t)
	y.expected = map[types.NamespacedName]binding.Networking{web: y.networking(8080)}
	y.must(y.allow(web, 8080))
	y.tidied(8080, 8080)

	// Another process takes over; it knows only one of the two bindings.
	other := types.NamespacedName{Namespace: "shop", Name: "other"}
	y.expected = map[types.NamespacedName]binding.Networking{web: y.networking(8080), other: y.networking(9090)}
	y.takeOver()
	y.must(y.allow(other, 9090))
	for range 5 {
		y.must(y.firewall.Tidy(t.Context()))
	}
	if got := y.calls("RevokeSecurityGroupIngress"); got != 0 {
		t.Fatalf("%d revocations before the binding %s has been seen", got, web)
	}
	y.expected[web] = y.networking(9090)
	y.must(y.allow(web, 9090))
	y.tidied(9090, 9090)
}

// A rule that is asked for again while it is about to go stays: taken away and made again, it would be missing in
// between (law 3).
func TestARuleThatIsAskedForAgainStays(t *testing.T) {
	old, changed := int32(8080), int32(9090)
	for name, again := range map[string]func(y *yard){
		"while the bindings are listed": func(y *yard) {
			y.listing = func() {
				y.expected = map[types.NamespacedName]binding.Networking{web: y.networking(old)}
				_, _ = y.ask(web, old)
			}
			y.must(y.allow(web, changed))
		},
		"before the firewall hears of it": func(y *yard) {
			y.must(y.allow(web, changed))
			y.expected = map[types.NamespacedName]binding.Networking{web: y.networking(old)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			y := newYard(t)
			y.expected = map[types.NamespacedName]binding.Networking{web: y.networking(old)}
			y.must(y.allow(web, old))
			y.tidied(old, old)
			y.expected = map[types.NamespacedName]binding.Networking{web: y.networking(changed)}
			again(y)
			for range 5 {
				y.later(time.Second)
				y.must(y.firewall.Tidy(t.Context()))
			}
			_, _ = y.ask(web, old)
			y.tidied(old, old)
			if n := y.calls("AuthorizeSecurityGroupIngress"); n != 2 {
				t.Errorf("rules are authorised %d times, want 2: one of the first port, one of the second", n)
			}
		})
	}
}

// One binding that cannot be served keeps what it may need, and nothing else: the next process would wait for it
// for ever.
func TestABindingThatCannotBeServedKeepsOnlyItsOwn(t *testing.T) {
	y := newYard(t)
	broken := types.NamespacedName{Namespace: "shop", Name: "broken"}
	y.expected = map[types.NamespacedName]binding.Networking{web: y.networking(8080), broken: y.networking(7070)}
	y.must(y.allow(broken, 7070))
	y.must(y.allow(web, 8080))
	y.tidied(7070, 8080)
	y.takeOver() // broken cannot be served any more, and this process has never heard of it
	y.expected[web] = y.networking(9090)
	y.must(y.allow(web, 9090))
	y.tidied(7070, 8080, 9090, 9090)
	y.expected[broken] = y.networking(6060)
	y.later(10 * time.Minute) // nobody says that it has changed: a later look finds out
	y.tidied(9090, 9090)
	if err := y.allow(broken, 6060); err != nil {
		t.Error(err)
	}
	y.tidied(6060, 9090)
}

// seldomRead lets an hour go by, in which the group is read when the pauses have doubled up to ten minutes: not 360 times.
func (y *yard) seldomRead() {
	y.Helper()
	before := y.calls("DescribeSecurityGroups")
	for range 360 {
		y.later(firewall.DefaultRecheck)
		y.must(y.firewall.Tidy(y.Context()))
	}
	if n := y.calls("DescribeSecurityGroups") - before; n < 6 || n > 15 {
		y.Errorf("the group was read %d times in an hour", n)
	}
}

// Rules that are kept for a binding that is never served are looked at ever more seldom, and at once when it is.
func TestKeptRulesAreLookedAtEverMoreSeldom(t *testing.T) {
	y := newYard(t)
	broken := types.NamespacedName{Namespace: "shop", Name: "broken"}
	y.expected = map[types.NamespacedName]binding.Networking{web: y.networking(8080), broken: y.networking(7070)}
	y.must(y.allow(broken, 7070))
	y.must(y.allow(web, 8080))
	y.takeOver() // broken cannot be served any more, and this process has never heard of it
	y.must(y.allow(web, 8080))
	y.tidied(7070, 7070, 7070, 8080, 8080, 8080)
	y.seldomRead()
	y.expected[broken] = y.networking(8080)
	y.must(y.allow(broken, 8080))
	y.tidied(8080, 8080)
}

// So are those of a binding that is served as it was, and has been changed to what it never asks for.
func TestRulesKeptForAChangeAreLookedAtEverMoreSeldom(t *testing.T) {
	y := newYard(t)
	y.expected = map[types.NamespacedName]binding.Networking{web: y.networking(7070)}
	y.must(y.allow(web, 7070))
	y.must(y.allow(web, 8080))
	y.tidied(7070, 7070, 8080, 8080)
	y.seldomRead()
	y.expected[web] = y.networking(8080)
	y.must(y.allow(web, 8080))
	y.later(10 * time.Minute)
	y.tidied(8080, 8080)
}

func TestAtTheLimitNothingIsRevokedToMakeRoom(t *testing.T) {
	y := newYard(t)
	y.expected = map[types.NamespacedName]binding.Networking{web: y.networking(8080)}
	y.must(y.allow(web, 8080))
	y.tidied(8080, 8080)
	id := y.aws.EC2().NodeSecurityGroup()
	var port int32
	for size := int32(32); size > 0; {
		var some []model.Permission
		for i := range size {
			some = append(some, model.Permission{Protocol: "udp", FromPort: port + i, ToPort: port + i, CIDR: "192.0.2.0/24"})
		}
		err := y.patiently(func() error { return y.cloud.AuthorizeIngress(t.Context(), id, some) })
		switch {
		case err == nil:
			port += size
		case errors.Is(err, cloud.ErrLimit):
			size /= 2
		default:
			t.Fatal(err)
		}
	}
	err := y.patiently(func() error { return y.allow(web, 9090) })
	if !errors.Is(err, cloud.ErrLimit) || !strings.Contains(err.Error(), "nothing is revoked to make room") {
		t.Errorf("at the limit: %v", err)
	}
	y.later(time.Minute)
	if err := y.patiently(func() error { return y.firewall.Tidy(t.Context()) }); !errors.Is(err, cloud.ErrLimit) {
		t.Errorf("tidying up at the limit: %v", err)
	}
	if got := y.ranges(); !slices.Equal(got, []int32{8080, 8080}) {
		t.Errorf("port ranges are %v: the old port must stay open", got)
	}
}

func TestAForgottenBindingsRulesGo(t *testing.T) {
	y := newYard(t)
	y.expected = map[types.NamespacedName]binding.Networking{web: y.networking(8080)}
	y.must(y.allow(web, 8080))
	y.tidied(8080, 8080)
	y.expected = nil
	y.firewall.Forget(web)
	y.tidied()
}

func TestAnAddressWithoutInterfaceIsSaid(t *testing.T) {
	y := newYard(t)
	y.pod = "10.78.200.200"
	if err := y.allow(web, 8080); !errors.Is(err, cloud.ErrNotFound) || !strings.Contains(err.Error(), "10.78.200.200") {
		t.Errorf("an unknown address: %v", err)
	}
}
