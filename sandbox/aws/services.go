package aws

import (
	"strings"

	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/acm"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/cloudwatch"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/globalaccelerator"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/route53"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/shield"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/tagging"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wafregional"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wafv2"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// service is what serving needs to know of one AWS service.
type service struct {
	// codecs are the protocols that the service speaks; the first is that of requests in no known one.
	codecs     []wire.Codec
	operations wire.Operations[eventual.Reader]
	// actions is the name of the service in policies, if it is not the one that requests are signed for.
	actions string
	// strict services refuse parameters that an operation does not have.
	strict bool
}

// addServices makes the services around load balancing and lists all by the name that requests are
// signed for. EC2, ELBv2 and STS are there already.
func (e *Emulator) addServices(draws *profile.Draws) {
	region, account := e.config.Region, e.config.AccountID
	e.route53 = route53.New(route53.Config{IDs: e.ids, Draws: draws, Balancer: e.elbv2.Named})
	e.acm = acm.New(acm.Config{
		Region: region, AccountID: account, IDs: e.ids, Draws: draws, Visible: e.route53.Visible, Users: e.elbv2.CertificateUsers,
		Renewed: e.elbv2.CertificateRenewed,
	})
	application := func(arn string) bool {
		kind, ok := e.elbv2.BalancerType(arn)
		return ok && kind == elbtypes.LoadBalancerTypeEnumApplication
	}
	exists := func(arn string) bool {
		_, ok := e.elbv2.BalancerType(arn)
		return ok
	}
	e.cloudwatch = cloudwatch.New(draws)
	e.accelerators = globalaccelerator.New(globalaccelerator.Config{AccountID: account, IDs: e.ids, Draws: draws})
	firewall := wafv2.New(wafv2.Config{Region: region, AccountID: account, IDs: e.ids, Draws: draws, Protects: application})
	older := wafregional.New(wafregional.Config{Region: region, AccountID: account, IDs: e.ids, Draws: draws, Protects: application})
	protections := shield.New(shield.Config{AccountID: account, IDs: e.ids, Exists: exists})
	e.tagging = tagging.New(draws, e.elbv2.Tagged, e.acm.Tagged, e.route53.Tagged, e.accelerators.Tagged)
	e.resets = []func(){
		e.route53.Reset, e.acm.Reset, e.cloudwatch.Reset, e.accelerators.Reset, firewall.Reset, older.Reset, protections.Reset, e.tagging.Reset,
	}
	// What others refer to comes first: certificates need hosted zones, load balancers the network, certificates and hosts.
	e.states = []state{
		{"ec2", e.ec2}, {"hosts", &e.hosts}, {"route53", e.route53}, {"acm", e.acm}, {"elasticloadbalancing", e.elbv2},
		{"wafv2", firewall}, {"waf-regional", older}, {"shield", protections}, {"globalaccelerator", e.accelerators}, {"tagging", e.tagging}, {"sts", e.sts},
	}
	e.services = map[string]service{
		"elasticloadbalancing": {codecs: []wire.Codec{wire.ELBv2}, operations: e.elbv2.Operations()},
		"ec2":                  {codecs: []wire.Codec{wire.EC2}, operations: e.ec2.Operations(), strict: true},
		"sts":                  {codecs: []wire.Codec{wire.STS}, operations: e.sts.Operations()},
		"acm":                  {codecs: []wire.Codec{wire.ACM}, operations: e.acm.Operations()},
		"wafv2":                {codecs: []wire.Codec{wire.WAFv2}, operations: firewall.Operations()},
		"waf-regional":         {codecs: []wire.Codec{wire.WAFRegional}, operations: older.Operations()},
		"shield":               {codecs: []wire.Codec{wire.Shield}, operations: protections.Operations()},
		"tagging":              {codecs: []wire.Codec{wire.Tagging}, operations: e.tagging.Operations(), actions: "tag"},
		"route53":              {codecs: []wire.Codec{wire.Route53}, operations: e.route53.Operations()},
		"globalaccelerator":    {codecs: []wire.Codec{wire.GlobalAccelerator}, operations: e.accelerators.Operations()},
		"monitoring": {
			codecs:     []wire.Codec{wire.CloudWatchRPC, wire.CloudWatchJSON, wire.CloudWatchQuery},
			operations: e.cloudwatch.Operations(), actions: "cloudwatch",
		},
	}
}

// retagged says whether a call may have changed what the tagging API finds.
func (c *call) retagged() bool {
	operation := c.record.Operation
	return (c.name == "elasticloadbalancing" || c.name == "acm" || c.name == "route53" || c.name == "globalaccelerator") &&
		(strings.HasPrefix(operation, "Create") || strings.HasPrefix(operation, "Delete") || strings.Contains(operation, "Tag") || strings.HasSuffix(operation, "Certificate")) &&
		!strings.HasPrefix(operation, "Describe") && !strings.HasPrefix(operation, "List")
}
