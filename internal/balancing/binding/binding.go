// Package binding makes the pods of a Service the targets of a target group, as TargetGroupBinding objects
// ask for, and answers the pods' readiness gates.
//
// It never creates or changes target groups, and it decides nothing itself: what enters and what may leave
// is decided by package plan. Each round observes (observe.go), plans, and acts (act.go). When something
// could leave, it is observed once more from the sources, since nothing is taken away on the word of a cache.
//
// Start reading at Controller.Reconcile.
package binding

import (
	"context"
	"log/slog"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	elbv2 "github.com/lockstep-delivery/lockstep/api/elbv2/v1beta1"
	"github.com/lockstep-delivery/lockstep/internal/balancing/binding/plan"
	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/cloud"
	"github.com/lockstep-delivery/lockstep/internal/evidence"
)

// Cloud is what bindings need of AWS.
type Cloud interface {
	RegisterTargets(ctx context.Context, targetGroupARN string, targets []model.Target) error
	DeregisterTargets(ctx context.Context, targetGroupARN string, targets []model.Target) error
	// TargetHealth is from a read that began at or after notBefore.
	TargetHealth(ctx context.Context, targetGroupARN string, notBefore time.Time) (health []model.TargetHealth, seenAt time.Time, err error)
	WatchTargets(targetGroupARN string, interest bool)
	TargetGroup(ctx context.Context, arn string) (model.ObservedTargetGroup, error)
	TargetGroupByName(ctx context.Context, name string) (model.ObservedTargetGroup, error)
	Subscribe(changed func(cloud.Change)) (cancel func())
	VPC() cloud.VPC
}

// Firewall lets the load balancers' traffic reach the targets, on a worker of its own: none of its methods
// waits for AWS, so that no target waits for a security group.
type Firewall interface {
	// Allow notes what the binding's networking asks for, and says how far that has got: held when the security
	// groups of all endpoints let it in, err why that cannot be. What is no longer asked for is revoked later,
	// when that is safe.
	Allow(binding types.NamespacedName, want Networking) (held bool, err error)
	// Forget withdraws what was asked for a binding.
	Forget(binding types.NamespacedName)
	// Subscribe calls changed when Allow has something new to say of a binding, until cancel.
	Subscribe(changed func(binding types.NamespacedName)) (cancel func())
}

// Networking is the traffic that must reach the endpoints of a binding.
type Networking struct {
	Rules     []elbv2.NetworkingIngressRule
	Endpoints []Endpoint
}

// Endpoint is an address of a pod and its named ports.
type Endpoint struct {
	IP string
	// Ports are the pod's named ports.
	Ports map[string]int32
}

// Traffic is what the owner of a Service's traffic, a rollout, has recorded of it.
type Traffic interface {
	// Since says since when the Service has had the weight, as AWS showed it, and the settle time that the
	// owner asks for. ok is false when nobody owns the Service's traffic.
	Since(ctx context.Context, namespace, service string) (record TrafficRecord, ok bool)
}

// TrafficRecord is the last weight that was seen for a Service, since when (zero: none was), and the settle time
// that its owner asks for (nil: the controller's; 0 is 0).
type TrafficRecord struct {
	Weight int32
	Since  time.Time
	Settle *time.Duration
}

// Settings of the controller.
type Settings struct {
	plan.Settings
	// Workers is the number of bindings that are worked on at a time.
	Workers int
	// Recheck is how often a binding that waits is looked at without any event.
	Recheck time.Duration
}

// Defaults of Settings. The settle time is the far end of what a load balancer needs to act on a weight.
const (
	DefaultSettle    = 150 * time.Second
	DefaultFreshness = 15 * time.Second
	DefaultWorkers   = 10
	DefaultRecheck   = 15 * time.Second
)

func (s Settings) withDefaults() Settings {
	if s.Settle == 0 {
		s.Settle = DefaultSettle
	}
	if s.Freshness == 0 {
		s.Freshness = DefaultFreshness
	}
	if s.Workers == 0 {
		s.Workers = DefaultWorkers
	}
	if s.Recheck == 0 {
		s.Recheck = DefaultRecheck
	}
	return s
}

// Controller keeps target groups in step with the pods of their Services.
type Controller struct {
	// Client reads from the cache and writes to the API server; Live reads from the API server.
	Client client.Client
	Live   client.Reader
	Cloud  Cloud
	// Evidence tells the weights; without it every group is taken for one that serves.
	Evidence evidence.Source
	// Firewall is nil when security groups are not managed.
	Firewall Firewall
	// Traffic is nil when no rollouts run in this process.
	Traffic  Traffic
	Events   events.EventRecorder
	Logger   *slog.Logger
	Settings Settings
	// Now is the clock.
	Now func() time.Time

	memories memories
}
