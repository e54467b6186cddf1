package kubelet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/lockstep-delivery/lockstep/sandbox/address"
	"github.com/lockstep-delivery/lockstep/sandbox/kubelet/app"
	"github.com/lockstep-delivery/lockstep/sandbox/kubelet/logs"
)

// Addresses owns the instances behind the nodes and the addresses of the VPC. Implementations are
// safe for concurrent use.
type Addresses interface {
	// AddInstance starts an instance for a node and returns its id (i-...) and primary address.
	AddInstance(zone, name string) (id string, addr netip.Addr, err error)
	// AssignPodAddress gives a secondary address of the instance to a pod.
	AssignPodAddress(instanceID string) (netip.Addr, error)
	// ReleasePodAddress takes a pod's address back.
	ReleasePodAddress(addr netip.Addr) error
}

// Config says what to run. API, VPC and Addresses are required.
type Config struct {
	// API reaches the API server. Its rate limits are not used: there are none.
	API *rest.Config
	// VPC maps the addresses that Addresses gives to those that can be listened at.
	VPC       address.Mapping
	Addresses Addresses
	// Zones are the availability zones; default us-east-1a, us-east-1b, us-east-1c.
	Zones []string
	// NodesPerZone defaults to 1, InstanceType to m5.large, PodsPerNode to 5000.
	NodesPerZone int
	// NodePrefix begins the names of nodes; default node.
	NodePrefix   string
	InstanceType string
	PodsPerNode  int
	// Images says which images can be pulled, and what they are.
	Images app.Catalogue
	// PullDelay is how long the first pull of an image to a node takes at scale 1; default 1.5 s. Later ones take no time.
	PullDelay time.Duration
	// Scale multiplies simulated delays (see the package comment); default 1.
	Scale float64
	// Seed makes the applications' random choices repeatable.
	Seed uint64
	// NoCommands refuses containers that would run a command as a process of this machine: they do not start, and say why.
	NoCommands bool
	// Notify, if set, is told what becomes of pods. It must return quickly.
	Notify func(Notice)
	Log    *slog.Logger
}

// Defaults of Config.
const (
	DefaultPullDelay    = 1500 * time.Millisecond
	DefaultPodsPerNode  = 5000
	DefaultInstanceType = "m5.large"
)

func (c Config) withDefaults() (Config, error) {
	switch {
	case c.API == nil:
		return c, errors.New("kubelet: Config.API is missing")
	case c.VPC.Octet == 0:
		return c, errors.New("kubelet: Config.VPC is missing: claim one with address.Claim")
	case c.Addresses == nil:
		return c, errors.New("kubelet: Config.Addresses is missing")
	case c.Scale < 0:
		return c, fmt.Errorf("kubelet: Config.Scale is %v, but time does not run backwards", c.Scale)
	}
	if len(c.Zones) == 0 {
		c.Zones = []string{"us-east-1a", "us-east-1b", "us-east-1c"}
	}
	if c.NodesPerZone == 0 {
		c.NodesPerZone = 1
	}
	if c.NodePrefix == "" {
		c.NodePrefix = "node"
	}
	if c.InstanceType == "" {
		c.InstanceType = DefaultInstanceType
	}
	if c.PodsPerNode == 0 {
		c.PodsPerNode = DefaultPodsPerNode
	}
	if c.PullDelay == 0 {
		c.PullDelay = DefaultPullDelay
	}
	if c.Scale == 0 {
		c.Scale = 1
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// Kubelet runs the nodes. Make it with New.
type Kubelet struct {
	cfg    Config
	client kubernetes.Interface
	http   *http.Client
	probes chan struct{} // holds one element for each probe under way
	ready  chan struct{}

	identity  *tls.Config // of the nodes' endpoints; nil: there are none
	authority []byte      // who signs the API server's certificate, as PEM
	scheduler *scheduler
	statuses  *statusWriter
	logs      logs.Store
	events    *recorder

	mu     sync.Mutex
	nodes  map[string]*node
	pods   map[types.UID]*pod
	meter  meter
	store  cache.Store // of the pods that the API server tells of
	closed bool
	// scaling is the scale in force, as bits of a float64.
	scaling atomic.Uint64
	files   string    // the folder of the pods' folders, once there is one
	warned  sync.Once // of what commands may do
	// life ends with Run; background counts the goroutines that carry out probes and hooks within it.
	life       context.Context
	end        context.CancelFunc
	background sync.WaitGroup
}

// New prepares a kubelet. Nothing happens before Run.
func New(cfg Config) (*Kubelet, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	api := rest.CopyConfig(cfg.API)
	if err := rest.LoadTLSFiles(api); err != nil {
		return nil, fmt.Errorf("kubelet: the API server's client configuration is unusable: %w", err)
	}
	api.QPS = -1
	api.ContentType = "application/vnd.kubernetes.protobuf"
	api.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	api.UserAgent = "lockstep-sandbox-kubelet"
	hc, err := rest.HTTPClientFor(api)
	if err != nil {
		return nil, fmt.Errorf("kubelet: the API server's client configuration is unusable: %w", err)
	}
	client, err := kubernetes.NewForConfigAndClient(api, hc)
	if err != nil {
		return nil, fmt.Errorf("kubelet: the API server's client configuration is unusable: %w", err)
	}
	identity, err := newIdentity(api)
	if err != nil {
		return nil, err
	}
	k := &Kubelet{
		identity: identity,
		cfg:      cfg, authority: api.CAData, client: client, http: hc, probes: make(chan struct{}, probesAtOnce),
		ready: make(chan struct{}), nodes: map[string]*node{}, pods: map[types.UID]*pod{},
	}
	k.SetScale(cfg.Scale)
	k.meter.every = max(k.scaled(usageEvery), usageLeast)
	k.life, k.end = context.WithCancel(context.Background())
	k.events = newRecorder(client)
	k.scheduler = newScheduler(k)
	k.statuses = newStatusWriter(k)
	return k, nil
}

// Ready is closed when the nodes are registered and pods are being run.
func (k *Kubelet) Ready() <-chan struct{} { return k.ready }

// Run registers the nodes and runs pods until ctx ends. When it returns, all listeners are closed and
// nothing of it goes on; the objects in the API server stay as they are. The error is nil if ctx ended it.
// Run can be called once.
func (k *Kubelet) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var workers sync.WaitGroup
	defer func() {
		cancel()
		k.end()
		k.statuses.shutDown()
		k.scheduler.shutDown()
		k.closePods()
		k.closeEndpoints()
		workers.Wait()
		k.background.Wait()
		k.removeFiles()
		k.events.shutDown()
		k.http.CloseIdleConnections()
	}()
	if err := k.registerNodes(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	workers.Go(func() { k.heartbeat(ctx) })
	workers.Go(func() { k.serveMetrics(ctx) })
	workers.Go(func() { k.refreshVolumes(ctx) })
	k.scheduler.start(ctx, &workers)
	k.statuses.start(ctx, &workers)

	factory := informers.NewSharedInformerFactoryWithOptions(k.client, 0, informers.WithTransform(trim))
	defer factory.Shutdown() // after cancel below
	defer cancel()
	if err := k.watch(factory); err != nil {
		return err
	}
	factory.StartWithContext(ctx)
	for kind, synced := range factory.WaitForCacheSync(ctx.Done()) {
		if !synced && ctx.Err() == nil {
			return fmt.Errorf("kubelet: cannot list %v from the API server", kind)
		}
	}
	if ctx.Err() == nil {
		close(k.ready)
	}
	<-ctx.Done()
	return nil
}

// trim leaves out of cached objects what takes much memory and is not used.
func trim(obj any) (any, error) {
	if o, ok := obj.(metav1.Object); ok {
		o.SetManagedFields(nil)
	}
	return obj, nil
}

func (k *Kubelet) watch(factory informers.SharedInformerFactory) error {
	_, err := factory.Core().V1().Nodes().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { k.nodeSeen(obj.(*corev1.Node)) },
		UpdateFunc: func(_, obj any) { k.nodeSeen(obj.(*corev1.Node)) },
		DeleteFunc: func(obj any) {
			if n, ok := deleted[*corev1.Node](obj); ok {
				k.scheduler.nodeGone(n.Name)
			}
		},
	})
	if err != nil {
		return fmt.Errorf("kubelet: cannot watch nodes: %w", err)
	}
	k.mu.Lock()
	k.store = factory.Core().V1().Pods().Informer().GetStore()
	k.mu.Unlock()
	_, err = factory.Core().V1().Pods().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { k.podSeen(obj.(*corev1.Pod)) },
		UpdateFunc: func(_, obj any) { k.podSeen(obj.(*corev1.Pod)) },
		DeleteFunc: func(obj any) {
			if p, ok := deleted[*corev1.Pod](obj); ok {
				k.podGone(p)
			}
		},
	})
	if err != nil {
		return fmt.Errorf("kubelet: cannot watch pods: %w", err)
	}
	return nil
}

// deleted returns the object of a delete notification, which may be only the last known state.
func deleted[T any](obj any) (T, bool) {
	if tomb, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = tomb.Obj
	}
	t, ok := obj.(T)
	return t, ok
}

func (k *Kubelet) podSeen(obj *corev1.Pod) {
	if obj.Spec.NodeName == "" {
		k.scheduler.podSeen(obj)
		return
	}
	k.scheduler.podPlaced(obj)
	node := k.node(obj.Spec.NodeName)
	if node == nil || node.lost() {
		return // RestoreNode catches up
	}
	k.mu.Lock()
	p := k.pods[obj.UID]
	// Who takes a node away looks for its pods after it is lost.
	fresh := p == nil && !k.closed && !node.lost() && (!terminal(obj) || obj.DeletionTimestamp != nil)
	if fresh {
		p = newPod(k, node, obj)
		k.pods[obj.UID] = p
	}
	k.mu.Unlock()
	switch {
	case fresh:
		p.begin()
	case p != nil:
		p.observe(obj)
	}
}

func (k *Kubelet) podGone(obj *corev1.Pod) {
	k.scheduler.podGone(obj.UID)
	if p := k.pod(obj.UID); p != nil && !p.node.lost() {
		p.objectGone()
	}
}

func (k *Kubelet) pod(uid types.UID) *pod {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.pods[uid]
}

func (k *Kubelet) forget(uid types.UID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.pods, uid)
}

func (k *Kubelet) closePods() {
	k.mu.Lock()
	k.closed = true
	pods := make([]*pod, 0, len(k.pods))
	for _, p := range k.pods {
		pods = append(pods, p)
	}
	k.mu.Unlock()
	for _, p := range pods {
		p.close()
	}
}

// track notes that something goes on that the kubelet waits for when it ends, until finish is called.
func (k *Kubelet) track() (finish func(), ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil, false
	}
	k.background.Add(1)
	return k.background.Done, true
}

// spawn runs f beside everything else, unless the kubelet is ending.
func (k *Kubelet) spawn(f func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.closed {
		k.background.Go(f)
	}
}

// SetScale changes Config.Scale for what begins from now on: pulls, and containers that start. What is under way takes as long as it
// would have.
func (k *Kubelet) SetScale(scale float64) { k.scaling.Store(math.Float64bits(scale)) }

// Scale is the factor in force.
func (k *Kubelet) Scale() float64 { return math.Float64frombits(k.scaling.Load()) }

func (k *Kubelet) scaled(d time.Duration) time.Duration {
	return time.Duration(float64(d) * k.Scale())
}

func terminal(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}
