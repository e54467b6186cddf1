package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/go-logr/logr"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	elbv2 "github.com/lockstep-delivery/lockstep/api/elbv2/v1beta1"
	rollouts "github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
)

// Options are what a manager needs to know.
type Options struct {
	// Config is how to reach the API server. Its rate limits are raised where they are not set.
	Config *rest.Config
	// Namespaces limits the controllers to some namespaces; empty means all.
	Namespaces []string
	// Leases are held while the controllers run; empty means no leader election (for tests).
	Leases []types.NamespacedName
	// MetricsAddress and HealthAddress are what /metrics, and /healthz with /readyz, are served on; empty
	// means that they are not served.
	MetricsAddress string
	HealthAddress  string
	// SyncPeriod is how often every object is given to the controllers without a reason; 0 leaves it to the library (10 h).
	SyncPeriod time.Duration
	Logger     *slog.Logger
	// AllowSameNames lets one process run controllers of the same name twice (for tests).
	AllowSameNames bool
}

// The leader election's times: a planned hand-over releases the leases and takes one retry; after a crash
// another replica takes over when it has seen no renewal for the lease's duration (12 s and a retry).
const (
	leaseDuration = 12 * time.Second
	renewDeadline = 8 * time.Second
	retryPeriod   = 2 * time.Second
)

// Scheme knows every kind that the controllers read or write.
func Scheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, networkingv1.AddToScheme, coordinationv1.AddToScheme,
		admissionv1.AddToScheme, discoveryv1.AddToScheme, elbv2.AddToScheme, rollouts.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("cannot build the scheme: %w", err)
		}
	}
	return scheme, nil
}

// NewManager makes a manager. It is live from the moment it starts; its caches are filled, and the webhooks of a
// controller whose place is taken are adopted, before any controller works, however long the caches take.
func NewManager(ctx context.Context, o Options) (manager.Manager, error) {
	if err := errors.Join(servable(o.HealthAddress, "--health-probe-bind-addr"), servable(o.MetricsAddress, "--metrics-bind-addr")); err != nil {
		return nil, err
	}
	scheme, err := Scheme()
	if err != nil {
		return nil, err
	}
	restConfig := rest.CopyConfig(o.Config)
	if restConfig.QPS == 0 {
		restConfig.QPS, restConfig.Burst = 200, 400
	}
	logger := logr.Discard()
	if o.Logger != nil {
		logger = logr.FromSlogHandler(o.Logger.Handler())
	}
	// The libraries below log through their own global loggers.
	log.SetLogger(logger)
	klog.SetLogger(logger)
	options := manager.Options{
		Scheme:                 scheme,
		Logger:                 logger,
		Cache:                  cacheOptions(o.Namespaces, o.SyncPeriod),
		Client:                 client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.Secret{}, &corev1.ConfigMap{}, &coordinationv1.Lease{}}}},
		Metrics:                metricsserver.Options{BindAddress: orOff(o.MetricsAddress)},
		HealthProbeBindAddress: orOff(o.HealthAddress),
		// A large cluster fills its caches in minutes; giving up would only start over.
		Controller: config.Controller{CacheSyncTimeout: time.Hour, SkipNameValidation: new(o.AllowSameNames)},
	}
	if len(o.Leases) > 0 {
		lock, err := newLock(restConfig, o.Leases)
		if err != nil {
			return nil, err
		}
		options.LeaderElection = true
		options.LeaderElectionResourceLockInterface = lock
		options.LeaderElectionReleaseOnCancel = true
		options.LeaseDuration, options.RenewDeadline, options.RetryPeriod = new(leaseDuration), new(renewDeadline), new(retryPeriod)
	}
	m, err := manager.New(restConfig, options)
	if err != nil {
		return nil, fmt.Errorf("cannot reach the API server %s: %w", restConfig.Host, err)
	}
	if err := errors.Join(m.AddHealthzCheck("ping", healthz.Ping), m.AddReadyzCheck("ping", healthz.Ping), indexPods(ctx, m.GetFieldIndexer())); err != nil {
		return nil, fmt.Errorf("cannot set up the manager: %w", err)
	}
	return &ordered{Manager: m}, nil
}

func cacheOptions(namespaces []string, syncPeriod time.Duration) cache.Options {
	o := cache.Options{
		DefaultTransform: withoutManagedFields,
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Pod{}:        {Transform: trimPod},
			&corev1.Node{}:       {Transform: trimNode},
			&appsv1.ReplicaSet{}: {Transform: trimReplicaSet},
			// Who last wrote an action annotation is told by the managed fields.
			&networkingv1.Ingress{}: {Transform: asIs},
		},
	}
	if syncPeriod > 0 {
		o.SyncPeriod = &syncPeriod
	}
	if len(namespaces) > 0 {
		o.DefaultNamespaces = make(map[string]cache.Config, len(namespaces))
		for _, n := range namespaces {
			o.DefaultNamespaces[n] = cache.Config{}
		}
	}
	return o
}

// servable says plainly that an address cannot be listened on, before a library's error blames something else.
func servable(address, flag string) error {
	if orOff(address) == off {
		return nil
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("cannot serve at %s: %w: free it or set %s to another address, or to 0 for none", address, err, flag)
	}
	return listener.Close()
}

// off is the address that turns a server off.
const off = "0"

func orOff(address string) string {
	if address == "" {
		return off
	}
	return address
}
