package cloud

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/cloud/budget"
	"github.com/lockstep-delivery/lockstep/internal/cloud/mirror"
)

// Config says which cluster and network the cloud is for, and how AWS is reached.
type Config struct {
	// ClusterName is the value of the ownership tag. Required.
	ClusterName string
	// EvidenceCluster is the ownership tag's value that evidence accepts, for a load balancer that another
	// controller owns; empty means ClusterName, "*" any value.
	EvidenceCluster string
	// VPCID is the cluster's VPC; empty: that with all of VPCTags, or else that of the instance by instance metadata, or else that of the
	// instance whose id NodeName is.
	VPCID    string
	VPCTags  map[string]string
	NodeName string
	// Region is AWS's region; empty takes it from the SDK's default chain, and then from instance metadata.
	Region string
	// Endpoints maps the SDK's service id ("Elastic Load Balancing v2", "EC2") to a URL. Without an entry
	// AWS_ENDPOINT_URL and its kin are honoured, as by every program that uses the SDK.
	Endpoints map[string]string
	// Credentials override the default chain.
	Credentials aws.CredentialsProvider
	// HTTPClient overrides the SDK's own.
	HTTPClient *http.Client
	// Version is the program's, for the user agent lockstep/<version>.
	Version string
	// Clock is the time; default time.Now.
	Clock func() time.Time
	// Logger gets what is not returned to a caller; default slog.Default().
	Logger *slog.Logger
	// Metrics registers the collectors; nil: they are kept, but not published.
	Metrics prometheus.Registerer

	Settings Settings
}

// Settings are the durations and bounds of the cloud. The zero value of each field asks for its default.
type Settings struct {
	// CallMargin is the share of AWS's published call limits that is used; default 0.9.
	CallMargin float64
	// ReadWait bounds how long a read waits for a token on behalf of a caller; default 5 s.
	ReadWait time.Duration
	// CallTimeout bounds one mutation; default 10 s.
	CallTimeout time.Duration
	// ReadAttempts is how often a read is tried; default 3.
	ReadAttempts int
	// ThrottleBackoff is the least time after which a throttled call should be tried again; default 1 s.
	ThrottleBackoff time.Duration

	// StaleWindow is how long after our write AWS's reads may show the state before it; default 2 min
	// (the far end of the measured read lag).
	StaleWindow time.Duration
	// LateWindow is how long after it was sent a call may still arrive; default 5 min, the age at which AWS refuses
	// a signature ("a request must reach AWS within five minutes of the time stamp in the request").
	LateWindow time.Duration
	// SeeAgainDelay gathers writes to one listener before it is read again; default 20 ms.
	SeeAgainDelay time.Duration
	// SeeAgainBackoff is the first wait after a read that shows the old state; it doubles up to 5 s; default 200 ms.
	SeeAgainBackoff time.Duration
	// HealthFast is the polling interval of watched targets in transition, default 1 s; HealthSlow that of
	// steady ones, default 15 s.
	HealthFast time.Duration
	HealthSlow time.Duration
	// ProvisioningInterval is how often a load balancer that is not yet active is read; default 5 s.
	ProvisioningInterval time.Duration
	// ListInterval is the least time between two lists of everything for something that was not found; default 15 s.
	ListInterval time.Duration
	// AuditInterval is how often everything that was filled is read again to find drift; default 10 min.
	AuditInterval time.Duration
	// NetworkTTL is how long subnets, interfaces and foreign security groups are believed; default 1 min.
	NetworkTTL time.Duration
}

func (s Settings) withDefaults() Settings {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&s.ReadWait, 5 * time.Second}, {&s.CallTimeout, 10 * time.Second}, {&s.ThrottleBackoff, time.Second},
		{&s.StaleWindow, 2 * time.Minute}, {&s.LateWindow, 5 * time.Minute}, {&s.SeeAgainDelay, 20 * time.Millisecond}, {&s.SeeAgainBackoff, 200 * time.Millisecond},
		{&s.HealthFast, time.Second}, {&s.HealthSlow, 15 * time.Second}, {&s.ProvisioningInterval, 5 * time.Second},
		{&s.ListInterval, 15 * time.Second}, {&s.AuditInterval, 10 * time.Minute}, {&s.NetworkTTL, time.Minute},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if s.ReadAttempts == 0 {
		s.ReadAttempts = 3
	}
	return s
}

// Cloud is AWS as the controllers see it. It is safe for concurrent use.
type Cloud struct {
	config   Config
	settings Settings
	log      *slog.Logger
	now      func() time.Time
	budget   *budget.Budget
	metrics  *metrics
	lanes    [budget.Audit + 1]clients // by lane
	retries  aws.Retryer

	order atomic.Uint64 // of moments
	vpc   VPC

	have    tables
	index   index
	reads   flights
	network networkCache
	filled  filledSet
	poll    pollers
	leaving departures
	again   rereads
	late    lateCalls
	delayed delays

	subscribers subscribers

	// background is the life of everything that is started on nobody's behalf; Close ends it.
	background context.Context
	stop       context.CancelFunc
	starting   sync.Mutex // between inBackground and Close
	running    sync.WaitGroup
}

// clients are the SDK's clients of one lane.
type clients struct {
	elb *elb.Client
	ec2 *ec2.Client
}

// tables is the mirror.
type tables struct {
	loadBalancers  *mirror.Table[model.ObservedLoadBalancer] // by ARN, without listeners
	listeners      *mirror.Table[[]model.ObservedListener]   // by load balancer ARN, without rules
	routes         *mirror.Table[routes]                     // by listener ARN
	certificates   *mirror.Table[[]string]                   // by listener ARN, the default one first
	targetGroups   *mirror.Table[model.ObservedTargetGroup]  // by ARN, without targets
	targets        *mirror.Table[[]model.TargetHealth]       // by target group ARN
	securityGroups *mirror.Table[model.ObservedSecurityGroup]
	attributes     *mirror.Table[map[string]string] // by ARN
	tags           *mirror.Table[map[string]string] // by ARN
}

// routes are where a listener sends requests: one DescribeRules shows all of it.
type routes struct {
	// Default are the default actions. They are nil when AWS's answer did not hold the default rule.
	Default []model.Action
	// Rules are sorted by priority, the default one excluded.
	Rules []model.ObservedRule
}

// New connects to AWS and reads the VPC, which also shows that region, credentials and endpoint are right.
// The clients, the mirror and the evidence work from then on; Start adds what runs on nobody's behalf.
func New(ctx context.Context, cfg Config) (*Cloud, error) {
	if cfg.ClusterName == "" {
		return nil, fmt.Errorf("cannot reach AWS for a cluster without a name: set --cluster-name")
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.EvidenceCluster == "" {
		cfg.EvidenceCluster = cfg.ClusterName
	}
	settings := cfg.Settings.withDefaults()
	window := settings.StaleWindow
	c := &Cloud{
		config: cfg, settings: settings, log: cfg.Logger, now: cfg.Clock, metrics: newMetrics(cfg.Metrics),
		budget:  budget.New(budget.Settings{Margin: settings.CallMargin, MaxWait: settings.ReadWait, Now: cfg.Clock}),
		retries: readRetryer{attempts: settings.ReadAttempts, backoff: 100 * time.Millisecond},
		have: tables{
			loadBalancers: mirror.NewTable[model.ObservedLoadBalancer](window), listeners: mirror.NewTable[[]model.ObservedListener](window),
			routes: mirror.NewTable[routes](window), certificates: mirror.NewTable[[]string](window),
			targetGroups: mirror.NewTable[model.ObservedTargetGroup](window), targets: mirror.NewTable[[]model.TargetHealth](0),
			securityGroups: mirror.NewTable[model.ObservedSecurityGroup](window),
			attributes:     mirror.NewTable[map[string]string](window), tags: mirror.NewTable[map[string]string](window),
		},
	}
	c.filled.added = make(chan struct{}, 1)
	sdk, err := loadSDK(ctx, cfg)
	if err != nil {
		return nil, err
	}
	for _, lane := range budget.Lanes {
		c.lanes[lane] = c.newClients(sdk, lane)
	}
	c.background, c.stop = context.WithCancel(context.Background())
	if c.vpc, err = c.patiently(ctx, imds.NewFromConfig(sdk)); err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

// patiently finds and reads the VPC. It waits as long as AWS throttles the account: ending would lead to another start, and
// so to more calls.
func (c *Cloud) patiently(ctx context.Context, metadata *imds.Client) (VPC, error) {
	for {
		var vpc VPC
		id, err := c.findVPC(ctx, metadata)
		if err == nil {
			vpc, err = c.readVPC(ctx, id)
		}
		again, soon := RetryAfter(err)
		if !soon {
			return vpc, err
		}
		c.log.Warn("the start waits for AWS", "error", err, "again", again.String())
		if !wait(ctx, again) {
			return vpc, err
		}
	}
}

func loadSDK(ctx context.Context, cfg Config) (aws.Config, error) {
	options := []func(*config.LoadOptions) error{config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} })}
	if cfg.Region != "" {
		options = append(options, config.WithRegion(cfg.Region))
	}
	if cfg.Credentials != nil {
		options = append(options, config.WithCredentialsProvider(cfg.Credentials))
	}
	sdk, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return sdk, fmt.Errorf("cannot read the AWS configuration: %w", err)
	}
	if sdk.Region == "" {
		if sdk.Region, err = regionByMetadata(ctx, imds.NewFromConfig(sdk)); err != nil {
			return sdk, fmt.Errorf("cannot reach AWS without a region (set --aws-region or AWS_REGION): %w", err)
		}
	}
	if cfg.HTTPClient != nil { // not as an option of the chain: that would want to add AWS_CA_BUNDLE to it
		sdk.HTTPClient = cfg.HTTPClient
	}
	sdk.HTTPClient = wholeRequests{sdk.HTTPClient}
	return sdk, nil
}

func (c *Cloud) newClients(sdk aws.Config, lane budget.Lane) clients {
	sdk = sdk.Copy()
	sdk.APIOptions = append(sdk.APIOptions, c.gate(lane), userAgent(c.config.Version), c.metrics.calls.observe(c.now))
	endpoint := func(service string) *string {
		if url := c.config.Endpoints[service]; url != "" {
			return &url
		}
		return nil
	}
	return clients{
		elb: elb.NewFromConfig(sdk, func(o *elb.Options) {
			if url := endpoint(budget.ELBv2); url != nil {
				o.BaseEndpoint = url
			}
		}),
		ec2: ec2.NewFromConfig(sdk, func(o *ec2.Options) {
			if url := endpoint(budget.EC2); url != nil {
				o.BaseEndpoint = url
			}
		}),
	}
}

// Close ends everything that runs in the background and waits for it.
func (c *Cloud) Close() {
	c.starting.Lock()
	c.stop()
	c.starting.Unlock()
	c.running.Wait()
}

// VPC returns the cluster's VPC as it was read by New.
func (c *Cloud) VPC() VPC { return c.vpc }

// moment takes the next point in the order of reads and writes.
func (c *Cloud) moment() mirror.Moment {
	return mirror.Moment{Time: c.now(), Order: c.order.Add(1)}
}

// inBackground runs f until Close, and reports false when the cloud is closed already.
func (c *Cloud) inBackground(f func(ctx context.Context)) bool {
	c.starting.Lock()
	defer c.starting.Unlock()
	if c.background.Err() != nil {
		return false
	}
	c.running.Go(func() { f(c.background) })
	return true
}
