package controller

import (
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/lockstep-delivery/lockstep/internal/balancing/ingress"
	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/cli"
	"github.com/lockstep-delivery/lockstep/internal/kube"
)

// inherited are flags of the load balancer controller whose place this command takes, with an effect.
type inherited struct {
	sslPolicy          string
	externalTags       []string
	backendGroup       string
	useBackendGroup    bool
	manageBackendRules bool
	tolerateService    bool
	tolerateAction     bool
	noClassAnnotation  bool
	noGroupAnnotation  bool
	injectGates        bool
	featureGates       map[string]string

	syncPeriod     time.Duration
	ingressWorkers int
	bindingWorkers int
	bindingRecheck time.Duration
	leaseID        string
	leaseNamespace string
}

func (i *inherited) bind(flags *pflag.FlagSet) {
	flags.StringVar(&i.sslPolicy, "default-ssl-policy", "ELBSecurityPolicy-2016-08", "security policy of HTTPS listeners where nothing else says one")
	flags.StringSliceVar(&i.externalTags, "external-managed-tags", nil, "tag keys on AWS resources that somebody else manages")
	flags.StringVar(&i.backendGroup, "backend-security-group", "", "security group to use as the one that load balancers share (default one of our own)")
	flags.BoolVar(&i.useBackendGroup, "enable-backend-security-group", true, "attach one shared security group to all load balancers, from which the targets are reached")
	flags.BoolVar(&i.manageBackendRules, "enable-manage-backend-security-group-rules", false, "open the targets also to load balancers with security groups of the user's choice")
	flags.BoolVar(&i.tolerateService, "tolerate-non-existent-backend-service", true, "answer 503 for a Service that does not exist")
	flags.BoolVar(&i.tolerateAction, "tolerate-non-existent-backend-action", true, "answer 503 for an action annotation that does not exist")
	flags.BoolVar(&i.noClassAnnotation, "disable-ingress-class-annotation", false, "refuse new Ingresses that use annotation kubernetes.io/ingress.class")
	flags.BoolVar(&i.noGroupAnnotation, "disable-ingress-group-name-annotation", false, "refuse new Ingresses that use annotation "+ingress.Prefix+"group.name")
	flags.BoolVar(&i.injectGates, "enable-pod-readiness-gate-inject", true, "give pods in labelled namespaces a readiness gate for each of their target groups")
	flags.StringToStringVar(&i.featureGates, "feature-gates", nil, "gate=true|false pairs; EnableDefaultTagsLowPriority lets the tags of annotations win over --default-tags")
	flags.DurationVar(&i.syncPeriod, "sync-period", 10*time.Hour, "how often every object is looked at without a reason")
	flags.IntVar(&i.ingressWorkers, "ingress-max-concurrent-reconciles", 10, "Ingresses worked on at a time")
	flags.IntVar(&i.bindingWorkers, "targetgroupbinding-max-concurrent-reconciles", 10, "TargetGroupBindings worked on at a time")
	flags.DurationVar(&i.bindingRecheck, "targetgroupbinding-requeue-duration", 15*time.Second, "how often a TargetGroupBinding that waits is looked at without an event")
	flags.StringVar(&i.leaseID, "leader-election-id", kube.LeaseLoadBalancer, "the lease of the balancing half")
	flags.StringVar(&i.leaseNamespace, "leader-election-namespace", "", "namespace of the leases, where they do not exist yet (default the controller's)")
	for _, f := range ineffective {
		f.bind(flags)
		_ = flags.MarkHidden(f.name) // it exists
	}
}

func (i *inherited) validate(defaultTags map[string]string) error {
	switch {
	case i.backendGroup != "" && !strings.HasPrefix(i.backendGroup, "sg-"):
		return cli.Usagef("--backend-security-group is %q: use the id of a security group, sg-...", i.backendGroup)
	case i.sslPolicy == "":
		return cli.Usagef("--default-ssl-policy is empty: name a security policy of AWS, or leave the flag out")
	case i.syncPeriod <= 0:
		return cli.Usagef("--sync-period is %s: use more than 0", i.syncPeriod)
	case i.ingressWorkers < 1:
		return cli.Usagef("--ingress-max-concurrent-reconciles is %d: use 1 or more", i.ingressWorkers)
	case i.bindingWorkers < 1:
		return cli.Usagef("--targetgroupbinding-max-concurrent-reconciles is %d: use 1 or more", i.bindingWorkers)
	case i.bindingRecheck <= 0:
		return cli.Usagef("--targetgroupbinding-requeue-duration is %s: use more than 0", i.bindingRecheck)
	case i.leaseID == "":
		return cli.Usagef("--leader-election-id is empty: name a lease, or leave the flag out")
	}
	for _, key := range slices.Concat(i.externalTags, slices.Sorted(maps.Keys(defaultTags))) {
		if slices.Contains(trackingTags, key) {
			return cli.Usagef("--external-managed-tags and --default-tags must not name %s: by that tag Lockstep knows its own resources", key)
		}
	}
	for _, key := range i.externalTags {
		if _, both := defaultTags[key]; both {
			return cli.Usagef("--external-managed-tags and --default-tags both name %s: leave it out of one of them", key)
		}
	}
	for _, gate := range slices.Sorted(maps.Keys(i.featureGates)) {
		if _, err := strconv.ParseBool(i.featureGates[gate]); err != nil {
			return cli.Usagef("--feature-gates has %q for %s: use true or false", i.featureGates[gate], gate)
		}
	}
	return nil
}

// trackingTags are those by which resources are found; nobody else may write them.
var trackingTags = []string{
	model.TagCluster, model.TagLegacyCluster, model.TagStack, model.TagResource, model.TagBackendResource,
	"service.k8s.aws/stack", "service.k8s.aws/resource",
	"gateway.k8s.aws.alb/stack", "gateway.k8s.aws.alb/resource", "gateway.k8s.aws.nlb/stack", "gateway.k8s.aws.nlb/resource",
}

// ingressSettings are the translator's settings.
func (o *options) ingressSettings() ingress.Settings {
	tagsLow, _ := strconv.ParseBool(o.featureGates[gateTagsLow]) // validated
	return ingress.Settings{
		Cluster: o.clusterName, IngressClass: o.class(), DefaultTargetType: o.defaultTargetType, DefaultScheme: o.defaultScheme,
		DefaultTags: o.defaultTags, DefaultTagsLowPriority: tagsLow, ExternalTags: o.externalTags, DefaultSSLPolicy: o.sslPolicy,
		BackendSecurityGroup: o.backendGroup, NoBackendSecurityGroup: !o.useBackendGroup, ManageBackendRules: o.manageBackendRules,
		StrictServices: !o.tolerateService, StrictActions: !o.tolerateAction,
	}
}

const gateTagsLow = "EnableDefaultTagsLowPriority"

// gatesInForce are the feature gates and what holds here, whatever the flag says.
var gatesInForce = map[string]bool{
	"ListenerRulesTagging": true, "WeightedTargetGroups": true, "EnableIPTargetType": true, "SubnetsClusterTagCheck": true, "SubnetDiscoveryByReachability": true,
	"EndpointsFailOpen": true, "EnableServiceController": false, "NLBHealthCheckAdvancedConfig": false, "NLBSecurityGroup": false,
	"LBCapacityReservation": false, "NLBGatewayAPI": false, "ALBGatewayAPI": false, "GatewayListenerSet": false,
	"ServiceTypeLoadBalancerOnly": false, "EnableTCPUDPListener": false, "EnableRGTAPI": false, "ALBSingleSubnet": false,
	"GlobalAcceleratorController": false, "EnhancedDefaultBehavior": false, "ALBTargetControlAgent": false,
	"EnableCertificateManagement": false, "IngressPlanAnnotation": false,
}

// flag is one that is accepted so that an existing Deployment starts, and that changes nothing.
type flag struct {
	name string
	kind kind
	// inForce is the value that Lockstep acts by, if it has one: asking for it needs no warning.
	inForce string
}

type kind int

const (
	text kind = iota
	boolean
	number
	duration
)

// ineffective are the flags of the load balancer controller that have no effect (yet).
var ineffective = []flag{
	{"allowed-certificate-authority-arns", text, ""}, {"aws-api-throttle", text, ""}, {"aws-max-retries", number, ""},
	{"aws-vpc-tag-key", text, "Name"}, {"default-pca-arn", text, ""}, {"disable-restricted-sg-rules", boolean, "false"},
	{"enable-endpoint-slices", boolean, "true"}, {"enable-shield", boolean, "false"}, {"enable-waf", boolean, "false"}, {"enable-wafv2", boolean, "false"},
	{"alb-gateway-max-concurrent-reconciles", number, ""}, {"nlb-gateway-max-concurrent-reconciles", number, ""},
	{"gateway-class-max-concurrent-reconciles", number, ""}, {"globalaccelerator-max-concurrent-reconciles", number, ""},
	{"globalaccelerator-max-exponential-backoff-delay", duration, ""}, {"kube-ca-pem-filepath", text, ""},
	{"lb-stabilization-monitor-interval", duration, ""}, {"load-balancer-class", text, ""}, {"max-targets-per-target-group", number, "0"},
	{"quic-environment-variable-name", text, ""}, {"required-secrets-label", text, ""}, {"service-max-concurrent-reconciles", number, ""},
	{"service-target-eni-security-group-tags", text, ""}, {"targetgroupbinding-max-exponential-backoff-delay", duration, ""},
	{"webhook-cert-dir", text, ""}, {"webhook-cert-file", text, ""}, {"webhook-key-file", text, ""},
}

const ineffectiveUsage = "accepted for the sake of existing Deployments, and without effect"

func (f flag) bind(flags *pflag.FlagSet) {
	switch f.kind {
	case boolean:
		flags.Bool(f.name, f.inForce == "true", ineffectiveUsage)
	case number:
		flags.Int(f.name, 0, ineffectiveUsage)
	case duration:
		flags.Duration(f.name, 0, ineffectiveUsage)
	default:
		flags.String(f.name, f.inForce, ineffectiveUsage)
	}
}

// warn tells of what was asked for and has no effect.
func (i *inherited) warn(flags *pflag.FlagSet, logger *slog.Logger) {
	for _, f := range ineffective {
		if given := flags.Lookup(f.name); given.Changed && given.Value.String() != f.inForce {
			logger.Warn("a flag has no effect", "flag", "--"+f.name, "value", given.Value.String())
		}
	}
	for _, gate := range slices.Sorted(maps.Keys(i.featureGates)) {
		wanted, _ := strconv.ParseBool(i.featureGates[gate]) // validated
		inForce, known := gatesInForce[gate]
		if gate != gateTagsLow && (!known || wanted != inForce) {
			logger.Warn("a feature gate has no effect", "flag", "--feature-gates", "gate", gate, "value", wanted)
		}
	}
}
