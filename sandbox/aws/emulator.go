package aws

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/address"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/acm"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/cloudwatch"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/ec2"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/elbv2"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/fault"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/globalaccelerator"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/imds"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/journal"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/policy"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/resourceid"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/route53"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/snapshot"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/sts"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/tagging"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/throttle"
)

// Config is the account. Only VPC must be set.
type Config struct {
	// VPC is the address space: its CIDR becomes that of the VPC.
	VPC address.Mapping
	// Region, AccountID and Cluster (the name in the tags of subnets). Default: eu-west-1, 123456789012,
	// lockstep.
	Region    string
	AccountID string
	Cluster   string
	// Zones are 2 to 4 availability zones. Default: a, b and c of the region.
	Zones []string
	// Profile says how slow AWS is. Default: ideal.
	Profile *profile.Profile
	// Seed makes a run repeatable, Scale multiplies every duration of the profile. Default of Scale: 1.
	Seed  uint64
	Scale float64
	// Rescaled is told of each change of the scale. May be nil.
	Rescaled func(scale float64)

	// AccessKeyID and SecretAccessKey are the credentials of the account. Default: those of
	// DefaultAccessKeyID and DefaultSecretAccessKey.
	AccessKeyID, SecretAccessKey string
	// Policy is what the owner of that key may do; nil: everything. Roles are those that can be assumed;
	// nil: every name is that of a role that may do everything.
	Policy *policy.Policy
	Roles  []sts.Role
	// Users are those besides the owner.
	Users []sts.User
	// Anonymous lets every call in, signed rightly, wrongly or not at all,
	// whatever policies say.
	Anonymous bool
	// EC2Quotas are the numbers of VPCs, groups, rules and so on that the account may have. Zeros: AWS's defaults.
	EC2Quotas ec2.Quotas
	// Unthrottled switches the token buckets off; WithoutAccountBucket only the one that all calls of
	// ELBv2 share.
	Unthrottled          bool
	WithoutAccountBucket bool

	// OpenSecurityGroups lets load balancers reach targets whatever security groups say.
	OpenSecurityGroups bool
	// Machines names the machines that somebody runs and lets faults of kind node and zone reach. Nil: there are none.
	Machines func() []string
	// Lives says whether the sandbox of this name runs, so that no other one takes the place of its cluster. Nil: a cluster that has joined lives
	// until it leaves.
	Lives func(sandbox string) bool
	// SharedProbes lets one row of health checks per target stand for all nodes, instead of one for each
	// zone: for thousands of targets.
	SharedProbes bool
	// WithoutTraffic leaves the load balancer nodes out: for tests of the API alone.
	WithoutTraffic bool
	// NewNode makes the nodes of application load balancers. Default: dataplane.NewNode.
	NewNode func(dataplane.Config) elbv2.Node

	// DataDir is the folder in which the account is kept, so that the next one with the same folder has the same
	// resources, tags and ids. Empty: it ends with the process.
	DataDir string
	// JournalSize is how many records are kept in memory (default 20,000); JournalLines gets all of them
	// as lines of JSON, if it is not nil.
	JournalSize  int
	JournalLines io.Writer
	Log          *slog.Logger
}

// The credentials that the emulator knows if no others are set.
const (
	DefaultAccessKeyID     = "AKIALOCKSTEPSANDBOX0"
	DefaultSecretAccessKey = "lockstep-sandbox-secret-access-key-000000"
)

// Emulator is one AWS account in one region. It is an http.Handler for the endpoint of all services.
type Emulator struct {
	config       Config
	space        *address.Space // of all VPCs
	ec2          *ec2.Service
	elbv2        *elbv2.Service
	sts          *sts.Service
	acm          *acm.Service
	route53      *route53.Service
	tagging      *tagging.Service
	cloudwatch   *cloudwatch.Service
	accelerators *globalaccelerator.Service
	faults       *fault.Set
	hosts        hosts
	watchers     watchers
	clusters     clusters
	flows        flows
	objects      objects
	draws        *profile.Draws
	tempo        sync.Mutex // serialises changes of draws
	// gate is held for reading by whatever changes the account, and for writing by Reset; it guards generation.
	gate       sync.RWMutex
	generation uint64
	keeper     *snapshot.Keeper // nil: nothing is kept
	states     []state          // what is kept, in the order in which it is restored
	resets     []func()         // of the services around load balancing
	buckets    *throttle.Buckets
	journal    *journal.Journal
	ids        *resourceid.Source
	services   map[string]service
	metadata   *imds.Service
	admin      http.Handler
	probes     *dataplane.Probes
	relays     dataplane.Relays
	users      dataplane.Signer

	reports reports

	closing chan struct{} // closed by Close, ends the journal's streams

	mu      sync.Mutex
	servers []*http.Server
	missing map[string]int // calls of operations that are not modelled
}

// New makes the account with its network. It fails if the configuration cannot be.
func New(config Config) (*Emulator, error) {
	if err := config.complete(); err != nil {
		return nil, fmt.Errorf("cannot make an AWS account: %w", err)
	}
	e := &Emulator{
		config: config, space: address.NewSpace(config.VPC), faults: fault.NewSet(), hosts: hosts{byName: map[string]Host{}, real: map[netip.AddrPort]netip.AddrPort{}},
		clusters: clusters{joined: map[string]string{}, members: map[string]Member{}}, flows: flows{open: map[*net.TCPConn]*flow{}},
		buckets: throttle.New(!config.WithoutAccountBucket),
		journal: journal.New(config.JournalSize, config.JournalLines), ids: resourceid.NewSource(config.Seed), missing: map[string]int{}, closing: make(chan struct{}),
	}
	e.probes = e.newProbes()
	draws := profile.NewDraws(config.Profile, config.Seed, config.Scale)
	e.draws = draws
	e.ec2 = ec2.New(ec2.Config{
		Region: config.Region, AccountID: config.AccountID, Zones: config.Zones, CIDR: config.VPC.CIDR(), Cluster: config.Cluster,
		Quotas: config.EC2Quotas, IDs: e.ids, Draws: draws, Changed: e.instanceChanged,
	})
	e.sts = sts.New(sts.Config{
		AccountID: config.AccountID, IDs: e.ids, User: "lockstep", AccessKeyID: config.AccessKeyID, SecretAccessKey: config.SecretAccessKey,
		Policy: config.Policy, Roles: config.Roles, Users: config.Users, Draws: draws,
	})
	balancing := elbv2.Config{
		Region: config.Region, AccountID: config.AccountID, Network: e.ec2, IDs: e.ids, Draws: draws, Log: config.Log,
		Certificate: func(arn string) (pair tls.Certificate, issued, known bool) { return e.acm.Certificate(arn) },
		Object:      e.objects.read,
		Accepted:    func(a elbv2.Acceptance) { e.record("ChangeAccepted", a.Called, a) },
		Applied:     func(a elbv2.Application) { e.record("NodeApplied", a.Taken, a) },
		Hold:        e.faults.Holds,
	}
	if config.DataDir != "" {
		e.objects.dir = filepath.Join(config.DataDir, "objects")
	}
	if !config.WithoutTraffic {
		balancing.NewNode = e.newNode
	}
	e.elbv2 = elbv2.New(balancing)
	e.addServices(draws)
	if config.DataDir != "" {
		if err := e.restore(); err != nil {
			e.elbv2.Close()
			return nil, errors.Join(err, e.space.Close())
		}
	}
	if !config.WithoutTraffic {
		e.startReports()
		go e.severFlows()
	}
	e.metadata = e.newMetadata()
	e.admin = e.adminHandler()
	return e, nil
}

func (c *Config) complete() error {
	if c.VPC.Octet == 0 {
		return errors.New("VPC is not set: claim one with address.Claim")
	}
	setDefault(&c.Region, "eu-west-1")
	setDefault(&c.AccountID, "123456789012")
	setDefault(&c.Cluster, "lockstep")
	setDefault(&c.AccessKeyID, DefaultAccessKeyID)
	setDefault(&c.SecretAccessKey, DefaultSecretAccessKey)
	setDefault(&c.Scale, 1)
	setDefault(&c.JournalSize, 20_000)
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if len(c.Zones) == 0 {
		c.Zones = []string{c.Region + "a", c.Region + "b", c.Region + "c"}
	}
	if len(c.Zones) < 2 || len(c.Zones) > 3 {
		return fmt.Errorf("%d zones: give 2 or 3, since the VPC is cut into quarters", len(c.Zones))
	}
	if c.Scale < 0 {
		return fmt.Errorf("scale %v is negative", c.Scale)
	}
	if err := c.EC2Quotas.Check(); err != nil {
		return fmt.Errorf("quotas of EC2: %w", err)
	}
	if c.Profile == nil {
		ideal, err := profile.Load("ideal")
		if err != nil {
			return err
		}
		c.Profile = ideal
	}
	if c.NewNode == nil {
		c.NewNode = func(d dataplane.Config) elbv2.Node { return dataplane.NewNode(d) }
	}
	return nil
}

func setDefault[T comparable](value *T, byDefault T) {
	var zero T
	if *value == zero {
		*value = byDefault
	}
}

// newNode begins to carry traffic for a load balancer in one zone.
func (e *Emulator) newNode(spec elbv2.NodeSpec) elbv2.Node {
	served := e.space.RealAddr(spec.Address).IsValid()
	release, err := e.space.Annex(spec.Address)
	if err != nil {
		e.config.Log.Warn("a load balancer cannot be reached", "loadBalancer", spec.LoadBalancer, "zone", spec.Zone, "error", err)
		return e.carry(spec)
	}
	if !served {
		e.ec2.Refresh() // blocks in rules may stand for addresses that begin to be served
	}
	return annexed{e.carry(spec), release}
}

// annexed is a node that gives back its network when it ends.
type annexed struct {
	elbv2.Node
	release func()
}

func (n annexed) Close() {
	n.Node.Close()
	n.release()
}

func (e *Emulator) carry(spec elbv2.NodeSpec) elbv2.Node {
	if spec.Network {
		return e.newNetworkNode(spec)
	}
	c := dataplane.Config{
		LoadBalancer: spec.LoadBalancer, Zone: spec.Zone, Address: spec.Address, Health: spec.Health,
		Endpoint: e.real, Peer: e.peer, Relays: &e.relays, Firewall: firewall{e}, Probes: e.newProbes(),
		Seed:    e.config.Seed ^ nodeSeed(spec),
		Journal: func(event dataplane.Event) { e.record(string(event.Kind), event.At, event) },
		Log:     e.config.Log,
		Users:   &e.users,
	}
	if e.config.SharedProbes {
		c.Probes = e.probes
	}
	return e.config.NewNode(c)
}

// nodeSeed tells the nodes of a run apart.
func nodeSeed(spec elbv2.NodeSpec) uint64 {
	a := spec.Address.As4()
	return uint64(a[0])<<24 | uint64(a[1])<<16 | uint64(a[2])<<8 | uint64(a[3])
}

// peer is the VPC address of a client of a load balancer; one from outside keeps its own.
func (e *Emulator) peer(real netip.AddrPort) netip.AddrPort {
	if virtual := e.space.Virtual(real); virtual.IsValid() {
		return virtual
	}
	return real
}

func (e *Emulator) record(event string, at time.Time, detail any) {
	e.journal.Add(journal.Record{Received: at, Event: event, Detail: detail})
}

// Space says where addresses of all VPCs are really served.
func (e *Emulator) Space() *address.Space { return e.space }

// EC2 is the network: instances and pod addresses are added here.
func (e *Emulator) EC2() *ec2.Service { return e.ec2 }

// ELBv2 is the load balancing service, for programs in the same process.
func (e *Emulator) ELBv2() *elbv2.Service { return e.elbv2 }

// Route53 has the hosted zones: Lookup answers as their name servers do.
func (e *Emulator) Route53() *route53.Service { return e.route53 }

// CloudWatch has the metrics: Record takes those that load balancers report.
func (e *Emulator) CloudWatch() *cloudwatch.Service { return e.cloudwatch }

// STS knows the keys that requests may be signed with.
func (e *Emulator) STS() *sts.Service { return e.sts }

// Models says whether the emulator answers an operation of a service (by its signing name).
func (e *Emulator) Models(service, operation string) bool {
	_, ok := e.services[service].operations[operation]
	return ok
}

// Faults are what makes calls fail on purpose.
func (e *Emulator) Faults() *fault.Set { return e.faults }

// Journal is what has happened.
func (e *Emulator) Journal() *journal.Journal { return e.journal }

// LoadBalancers lists all load balancers with their nodes' addresses in the VPC.
func (e *Emulator) LoadBalancers() []elbv2.Balancer { return e.elbv2.Balancers() }

// Applied says what each load balancer node has taken so far.
func (e *Emulator) Applied() []elbv2.AppliedNode { return e.elbv2.Applied() }

// Stats are the counts of all load balancer nodes.
func (e *Emulator) Stats() []dataplane.Stats { return e.elbv2.Stats() }

// Resolve answers for the DNS name of a load balancer with VPC addresses, nothing if there is none
// of that name. The address mapping tells where they are really served.
//
// A zone that a fault has taken away is left out, unless nothing is left then.
func (e *Emulator) Resolve(name string) []netip.Addr {
	all := e.elbv2.Resolve(name)
	if e.faults.Quiet() {
		return all
	}
	left := slices.DeleteFunc(slices.Clone(all), func(a netip.Addr) bool { return e.faults.Loses(e.zoneOf(a)) })
	if len(left) == 0 {
		return all
	}
	return left
}

// NotModelled counts the calls of operations that the emulator does not have, by service:Operation.
func (e *Emulator) NotModelled() map[string]int {
	e.mu.Lock()
	defer e.mu.Unlock()
	counts := make(map[string]int, len(e.missing))
	for name, n := range e.missing {
		counts[name] = n
	}
	return counts
}

// Serve answers on a listener until Close. It returns nil after Close.
func (e *Emulator) Serve(l net.Listener) error {
	server := &http.Server{Handler: e, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 60 * time.Second, IdleTimeout: 3 * time.Minute}
	e.mu.Lock()
	select {
	case <-e.closing: // Close has come first, and knows nothing of this server.
		e.mu.Unlock()
		return l.Close()
	default:
	}
	e.servers = append(e.servers, server)
	e.mu.Unlock()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("cannot serve the AWS endpoint at %s: %w", l.Addr(), err)
	}
	return nil
}

// Close ends the endpoint and every load balancer.
func (e *Emulator) Close() error {
	e.mu.Lock()
	servers := e.servers
	select {
	case <-e.closing:
	default:
		close(e.closing)
	}
	e.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for _, server := range servers {
		if server.Shutdown(ctx) != nil {
			_ = server.Close()
		}
	}
	e.reports.end()
	e.elbv2.Close()
	err := e.space.Close()
	if e.keeper != nil {
		err = errors.Join(err, e.keeper.Close())
	}
	return err
}
