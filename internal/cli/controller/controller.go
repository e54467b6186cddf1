// Package controller is the command `lockstep controller`: both halves of Lockstep, or one of them beside
// another vendor's, against any cluster and any AWS endpoint.
package controller

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	crlog "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/lockstep-delivery/lockstep/internal/balancing/binding"
	bindingplan "github.com/lockstep-delivery/lockstep/internal/balancing/binding/plan"
	"github.com/lockstep-delivery/lockstep/internal/balancing/firewall"
	"github.com/lockstep-delivery/lockstep/internal/balancing/ingress"
	"github.com/lockstep-delivery/lockstep/internal/balancing/ingressgroup"
	"github.com/lockstep-delivery/lockstep/internal/cli"
	"github.com/lockstep-delivery/lockstep/internal/cli/connect"
	"github.com/lockstep-delivery/lockstep/internal/cloud"
	"github.com/lockstep-delivery/lockstep/internal/delivery/canary"
	"github.com/lockstep-delivery/lockstep/internal/delivery/rollout"
	"github.com/lockstep-delivery/lockstep/internal/kube"
)

// The halves, as --controllers names them.
const (
	balancing = "balancing"
	delivery  = "delivery"
)

type options struct {
	connect     connect.Flags
	halves      []string
	clusterName string
	vpcID       string
	vpcTags     map[string]string
	region      string
	endpoints   map[string]string
	settle      time.Duration

	ingressClass      string
	defaultTargetType string
	defaultScheme     string
	defaultTags       map[string]string
	watchNamespace    string
	instanceID        string

	metricsAddress string
	healthAddress  string
	webhookPort    int
	webhookService string
	leaderElection bool
	logLevel       string
	inherited
	streams cli.Streams
}

// New is the command `lockstep controller`.
func New(streams cli.Streams) *cobra.Command {
	o := options{streams: streams}
	cmd := &cobra.Command{
		Use:   "controller",
		Short: "Run the controllers: Rollouts, Ingresses and TargetGroupBindings",
		Long: `Runs both halves of Lockstep in one process: the one that moves pods (Rollouts) and the one that moves
traffic (Ingresses of class alb, TargetGroupBindings). With --controllers only one of them, beside another
vendor's other half. AWS is reached by the SDK's default chain. A flag that is not given is taken from its
environment variable, such as LOCKSTEP_AWS_VPC_ID for --aws-vpc-id; 'lockstep sandbox env' prints those of a sandbox.`,
		Example: `  lockstep controller --cluster-name shop --aws-vpc-id vpc-0123456789abcdef0
  lockstep controller --cluster-name shop --aws-vpc-id vpc-0123456789abcdef0 --controllers delivery`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := fromEnvironment(cmd.Flags(), os.Getenv); err != nil {
				return err
			}
			return o.run(cmd.Context(), cmd.Flags())
		},
	}
	o.bind(cmd)
	return cmd
}

func (o *options) bind(cmd *cobra.Command) {
	flags := cmd.Flags()
	o.connect.Bind(flags)
	flags.StringSliceVar(&o.halves, "controllers", []string{balancing, delivery}, "which halves to run: balancing, delivery")
	flags.StringVar(&o.clusterName, "cluster-name", "", "the cluster's name in ownership tags and names (required)")
	flags.StringVar(&o.vpcID, "aws-vpc-id", "", "the cluster's VPC (default that of --aws-vpc-tags, or of this instance by its metadata)")
	flags.StringToStringVar(&o.vpcTags, "aws-vpc-tags", nil, "tags by all of which the VPC is found, where no id is given")
	flags.StringVar(&o.region, "aws-region", "", "AWS region (default from the SDK's chain, or instance metadata)")
	flags.StringToStringVar(&o.endpoints, "aws-api-endpoints", nil, "serviceID=URL pairs, such as EC2=http://127.0.0.1:4566")
	flags.DurationVar(&o.settle, "settle-time", canary.DefaultSettings().Settle, "how long a weight must have been seen before an act that cannot be taken back")
	flags.StringVar(&o.ingressClass, "ingress-class", "alb", "the class annotation that is served; empty serves Ingresses without a class too")
	flags.StringVar(&o.defaultTargetType, "default-target-type", "instance", "target type where neither Ingress nor Service says one: instance or ip")
	flags.StringVar(&o.defaultScheme, "default-load-balancer-scheme", "internal", "scheme where the Ingress says none: internal or internet-facing")
	flags.StringToStringVar(&o.defaultTags, "default-tags", nil, "tags for every AWS resource")
	flags.StringVar(&o.watchNamespace, "watch-namespace", "", "the one namespace to work on (default all)")
	flags.StringVar(&o.instanceID, "instance-id", "", "work only on Rollouts labelled with this instance id")
	flags.StringVar(&o.metricsAddress, "metrics-bind-addr", ":8080", "address of /metrics; 0 turns it off")
	flags.StringVar(&o.healthAddress, "health-probe-bind-addr", ":61779", "address of /healthz and /readyz; 0 turns it off")
	flags.IntVar(&o.webhookPort, "webhook-bind-port", 9443, "port of the webhook server; 0 takes a free one")
	flags.StringVar(&o.webhookService, "webhook-service", "", "namespace/name:port of the Service through which the API server reaches the webhooks (default in a cluster: lockstep-webhook-service or aws-load-balancer-webhook-service; outside: 127.0.0.1 and the bind port)")
	flags.BoolVar(&o.leaderElection, "enable-leader-election", true, "hold the leases of both original controllers, so that neither runs beside this one")
	flags.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	o.inherited.bind(flags)
}

func (o *options) validate() error {
	for _, half := range o.halves {
		if half != balancing && half != delivery {
			return cli.Usagef("--controllers names %q: use balancing, delivery or both", half)
		}
	}
	switch {
	case len(o.halves) == 0:
		return cli.Usagef("--controllers is empty: use balancing, delivery or both")
	case o.clusterName == "":
		return cli.Usagef("--cluster-name is required: it is the cluster's name in the tags by which AWS resources are owned")
	case o.settle <= 0:
		return cli.Usagef("--settle-time is %s: use more than 0, since AWS says when it took a weight and not when it acts on it", o.settle)
	case !slices.Contains([]string{"instance", "ip"}, o.defaultTargetType):
		return cli.Usagef("--default-target-type is %q: use instance or ip", o.defaultTargetType)
	case !slices.Contains([]string{"internal", "internet-facing"}, o.defaultScheme):
		return cli.Usagef("--default-load-balancer-scheme is %q: use internal or internet-facing", o.defaultScheme)
	case o.webhookPort < 0 || o.webhookPort > 65535:
		return cli.Usagef("--webhook-bind-port is %d: use 0 to 65535", o.webhookPort)
	}
	if _, err := o.service(); err != nil {
		return err
	}
	if err := o.validEndpoints(); err != nil {
		return err
	}
	if err := o.inherited.validate(o.defaultTags); err != nil {
		return err
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.logLevel)); err != nil {
		return cli.Usagef("--log-level is %q: use debug, info, warn or error", o.logLevel)
	}
	return nil
}

// awsServices are the service ids of the SDK that Lockstep calls; elsewhere are those that only the controllers
// whose place it takes call, so that their flag's value can stay.
var (
	awsServices = []string{"EC2", "Elastic Load Balancing v2"}
	elsewhere   = []string{"ACM", "Global Accelerator", "RDS", "Resource Groups Tagging API", "Route 53", "STS", "Shield", "WAF Regional", "WAFV2"}
)

// validEndpoints refuses an endpoint that would silently not be used: calls would go to AWS itself.
func (o *options) validEndpoints() error {
	for _, id := range slices.Sorted(maps.Keys(o.endpoints)) {
		if !slices.Contains(awsServices, id) && !slices.Contains(elsewhere, id) {
			return cli.Usagef("--aws-api-endpoints names the service %q: use %s", id, strings.Join(awsServices, ", "))
		}
		at, err := url.Parse(o.endpoints[id])
		if err != nil || at.Host == "" || at.Scheme != "http" && at.Scheme != "https" {
			return cli.Usagef("--aws-api-endpoints has %q for %s: use a URL such as https://example.com", o.endpoints[id], id)
		}
	}
	return nil
}

// service parses --webhook-service; nil means that the webhooks are reached by URL.
func (o *options) service() (*kube.ServicePort, error) {
	if o.webhookService == "" {
		return nil, nil
	}
	namespace, rest, ok := strings.Cut(o.webhookService, "/")
	name, port, ok2 := strings.Cut(rest, ":")
	number, err := strconv.ParseInt(port, 10, 32)
	if !ok || !ok2 || namespace == "" || name == "" || err != nil || number < 1 || number > 65535 {
		return nil, cli.Usagef("--webhook-service is %q: use namespace/name:port", o.webhookService)
	}
	return &kube.ServicePort{Namespace: namespace, Name: name, Port: int32(number)}, nil
}

func (o *options) run(ctx context.Context, flags *pflag.FlagSet) error {
	if err := o.validate(); err != nil {
		return err
	}
	config, err := o.connect.Config()
	if err != nil {
		return err
	}
	var level slog.Level
	_ = level.UnmarshalText([]byte(o.logLevel)) // validated
	logger := slog.New(slog.NewJSONHandler(o.streams.Err, &slog.HandlerOptions{Level: level}))
	o.warn(flags, logger)
	p, err := o.assemble(ctx, config, logger)
	if err != nil {
		return err
	}
	defer p.cloud.Close()
	logger.Info("starting", "halves", o.halves, "cluster", o.clusterName, "vpc", p.cloud.VPC().ID, "settle", o.settle.String(), "webhooks", p.webhooks)
	return p.manager.Start(ctx)
}

// program is a controller process, put together and not started.
type program struct {
	manager  manager.Manager
	cloud    *cloud.Cloud
	webhooks string
}

func (o *options) assemble(ctx context.Context, config *rest.Config, logger *slog.Logger) (*program, error) {
	m, err := o.manager(ctx, config, logger)
	if err != nil {
		return nil, err
	}
	crlog.SetLogger(m.GetLogger())
	aws, err := cloud.New(ctx, cloud.Config{
		ClusterName: o.clusterName, EvidenceCluster: o.evidenceCluster(), VPCID: o.vpcID, VPCTags: o.vpcTags,
		NodeName: os.Getenv("NODENAME"), Region: o.region, Endpoints: o.endpoints,
		Version: cli.Version(), Logger: logger.With("part", "cloud"), Metrics: metrics.Registry,
	})
	if err != nil {
		return nil, err
	}
	p := &program{manager: m, cloud: aws}
	if err := m.Add(manager.RunnableFunc(aws.Start)); err != nil {
		return nil, err
	}
	var webhooks []kube.Webhook
	if slices.Contains(o.halves, balancing) {
		if webhooks, err = o.addBalancing(ctx, p, logger); err != nil {
			return nil, fmt.Errorf("cannot set up balancing: %w", err)
		}
	}
	if slices.Contains(o.halves, delivery) {
		settings := canary.DefaultSettings()
		settings.Settle = o.settle
		err := rollout.Add(m, rollout.Options{
			Evidence: aws.Evidence(kube.Pods{Reader: m.GetClient()}), Settings: settings,
			Logger: logger.With("part", delivery), InstanceID: o.instanceID,
		})
		if err != nil {
			return nil, fmt.Errorf("cannot set up delivery: %w", err)
		}
	}
	// Last, since what is registered must be answered.
	return p, o.serveWebhooks(ctx, p, config, webhooks, logger)
}

// evidenceCluster: where another controller owns the load balancers, its cluster tag need not be ours.
func (o *options) evidenceCluster() string {
	if slices.Contains(o.halves, balancing) {
		return ""
	}
	return "*"
}

func (o *options) manager(ctx context.Context, config *rest.Config, logger *slog.Logger) (manager.Manager, error) {
	var namespaces []string
	if o.watchNamespace != "" {
		namespaces = []string{o.watchNamespace}
	}
	leases, err := o.leases(ctx, config)
	if err != nil {
		return nil, err
	}
	return kube.NewManager(ctx, kube.Options{
		Config: config, Namespaces: namespaces, Leases: leases, SyncPeriod: o.syncPeriod,
		MetricsAddress: o.metricsAddress, HealthAddress: o.healthAddress, Logger: logger.With("part", "kube"),
	})
}

// leases are those of the controllers whose place this process takes.
func (o *options) leases(ctx context.Context, config *rest.Config) ([]types.NamespacedName, error) {
	if !o.leaderElection {
		return nil, nil
	}
	scheme, err := kube.Scheme()
	if err != nil {
		return nil, err
	}
	reader, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("cannot reach the API server %s: %w", config.Host, err)
	}
	var names []string
	if slices.Contains(o.halves, balancing) {
		names = append(names, o.leaseID)
	}
	if slices.Contains(o.halves, delivery) {
		name := kube.LeaseRollouts
		if o.instanceID != "" {
			name += "-" + o.instanceID
		}
		names = append(names, name)
	}
	leases, err := kube.FindLeases(ctx, reader, cmp.Or(o.leaseNamespace, namespace()), names...)
	return leases, connect.Explain(err, "cannot find the leases of the controllers")
}

// namespace is the controller's own: of its pod, or kube-system outside a cluster.
func namespace() string {
	if n := os.Getenv("POD_NAMESPACE"); n != "" {
		return n
	}
	if data, err := os.ReadFile("/var/run/secrets/kubernetes.io/serviceaccount/namespace"); err == nil {
		return strings.TrimSpace(string(data))
	}
	return "kube-system"
}

// addBalancing adds the half that moves traffic, and returns its webhooks.
func (o *options) addBalancing(ctx context.Context, p *program, logger *slog.Logger) ([]kube.Webhook, error) {
	m := p.manager
	err := ingressgroup.Add(ctx, m, ingressgroup.Options{
		Cloud: p.cloud, Settle: o.settle, Logger: logger.With("part", "ingress"), Workers: o.ingressWorkers, Settings: o.ingressSettings(),
	})
	if err != nil {
		return nil, err
	}
	expected := func(ctx context.Context) (map[types.NamespacedName]binding.Networking, error) {
		return binding.Networked(ctx, m.GetAPIReader())
	}
	wall := firewall.New(p.cloud, firewall.Settings{Cluster: o.clusterName}, expected, logger.With("part", "firewall"))
	if err := m.Add(wall); err != nil {
		return nil, err
	}
	bindings := &binding.Controller{
		Cloud: p.cloud, Evidence: p.cloud.Evidence(kube.Pods{Reader: m.GetClient()}), Firewall: wall,
		Logger: logger.With("part", "binding"), Settings: binding.Settings{Settings: bindingplan.Settings{Settle: o.settle}, Workers: o.bindingWorkers, Recheck: o.bindingRecheck},
	}
	if slices.Contains(o.halves, delivery) {
		bindings.Traffic = recorded{m.GetClient()}
	}
	if err := bindings.SetUp(ctx, m); err != nil {
		return nil, err
	}
	if err := measure(m, metrics.Registry, logger); err != nil {
		return nil, err
	}
	webhooks := append(bindings.Webhooks(m.GetScheme()), ingressgroup.Webhook(m.GetClient(), m.GetScheme(), o.ingressSettings(),
		ingress.Admission{NoClassAnnotation: o.noClassAnnotation, NoGroupAnnotation: o.noGroupAnnotation}))
	return within(o.watchNamespace, slices.DeleteFunc(webhooks, func(w kube.Webhook) bool {
		return w.Name == podWebhook && !o.injectGates
	})), nil
}

// podWebhook gives pods their readiness gates.
const podWebhook = "mpod.elbv2.k8s.aws"

// class is the ingress class in the form of the translator's settings.
func (o *options) class() string {
	if o.ingressClass == "" {
		return ingress.NoClass
	}
	return o.ingressClass
}
