package ingress

import (
	"encoding/json"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
)

// maxLoadBalancerName is the longest name that CreateLoadBalancer takes.
const maxLoadBalancerName = 32

// loadBalancer translates what belongs to the load balancer itself, and its security groups.
func (t *translation) loadBalancer(stack *model.Stack) error {
	scheme, err := t.given.oneOf("scheme", or(t.settings.DefaultScheme, string(model.Internal)), string(model.Internal), string(model.InternetFacing))
	if err != nil {
		return err
	}
	if t.params.Scheme != nil {
		scheme = string(*t.params.Scheme)
	}
	t.scheme = scheme
	if t.ipAddressType, err = t.given.oneOf("ip-address-type", "ipv4", "ipv4", "dualstack", "dualstack-without-public-ipv4"); err != nil {
		return err
	}
	if t.params.IPAddressType != nil {
		t.ipAddressType = string(*t.params.IPAddressType)
	}
	name := or(t.params.LoadBalancerName, t.given.text("load-balancer-name", ""))
	if len(name) > maxLoadBalancerName {
		return t.given.invalid("load-balancer-name", "it is longer than 32 characters", "shorten it")
	}
	if name == "" {
		name = loadBalancerName(t.settings.Cluster, t.objects.Ingress.Namespace, t.objects.Ingress.Name, scheme)
	}
	lb := model.LoadBalancer{ResourceID: resourceLoadBalancer, Name: name, Scheme: model.Scheme(scheme), IPAddressType: t.ipAddressType}
	if lb.SubnetIDs, err = t.subnets(); err != nil {
		return err
	}
	if lb.Attributes, err = t.given.pairs("load-balancer-attributes"); err != nil {
		return err
	}
	for _, a := range t.params.LoadBalancerAttributes {
		if lb.Attributes == nil {
			lb.Attributes = map[string]string{}
		}
		lb.Attributes[a.Key] = a.Value
	}
	if lb.Tags, err = t.tags(t.given, resourceLoadBalancer); err != nil {
		return err
	}
	stack.LoadBalancer = &lb
	return t.securityGroups(stack)
}

// subnets are those of the class, those of the annotation, those that a load balancer of this scheme has
// already (then none are named), or those that discovery finds.
func (t *translation) subnets() ([]string, error) {
	if s := t.params.Subnets; s != nil && len(s.IDs) > 0 {
		var ids []string
		for _, id := range s.IDs {
			ids = append(ids, string(id))
		}
		return ids, nil
	}
	existing := t.resolved.Existing
	if wanted := t.given.list("subnets"); len(wanted) > 0 {
		if existing != nil && allHavePrefix(wanted, "subnet-") {
			return wanted, nil
		}
		ids, err := namedSubnets(t.resolved.Subnets, wanted)
		if err != nil {
			return nil, t.given.invalid("subnets", err.Error(), "name one subnet in each of at least two zones")
		}
		return ids, nil
	}
	if existing != nil {
		return nil, nil
	}
	ids, err := discoverSubnets(t.resolved.Subnets, t.settings.Cluster, t.scheme)
	if err != nil {
		return nil, &InvalidError{Object: t.given.object, Field: "annotation " + Prefix + "subnets", Problem: err.Error(), Remedy: "then the Ingress goes on by itself"}
	}
	return ids, nil
}

func (t *translation) securityGroups(stack *model.Stack) error {
	manageBackend, err := t.given.boolean("manage-backend-security-group-rules", t.settings.ManageBackendRules)
	if err != nil {
		return err
	}
	custom := t.given.list("security-groups")
	for _, name := range custom {
		id := name
		if !strings.HasPrefix(name, "sg-") {
			if id = t.resolved.SecurityGroups[name]; id == "" {
				return t.given.invalid("security-groups", "no security group of the VPC has the name "+name, "correct the name or give its id")
			}
		}
		stack.LoadBalancer.SecurityGroups = append(stack.LoadBalancer.SecurityGroups, model.SecurityGroupRef{GroupID: id})
	}
	if len(custom) > 0 && !manageBackend {
		return nil
	}
	if len(custom) > 0 && t.settings.NoBackendSecurityGroup {
		return t.given.invalid("security-groups", "the rules of the targets' security groups are to be managed, but the shared backend security group, their source, is turned off",
			"set annotation "+Prefix+"manage-backend-security-group-rules to false, or --enable-backend-security-group to true")
	}
	if len(custom) == 0 {
		managed, err := t.managedGroup()
		if err != nil {
			return err
		}
		stack.SecurityGroups = []model.SecurityGroup{managed}
		stack.LoadBalancer.SecurityGroups = []model.SecurityGroupRef{{ResourceID: resourceSecurityGroup}}
	}
	switch {
	case t.settings.NoBackendSecurityGroup:
		t.backendSource = model.SecurityGroupRef{ResourceID: resourceSecurityGroup}
		return nil
	case t.settings.BackendSecurityGroup != "":
		t.backendSource = model.SecurityGroupRef{GroupID: t.settings.BackendSecurityGroup}
	default:
		t.backendSource = model.SecurityGroupRef{Backend: true}
		stack.BackendGroup = new(BackendGroup(t.settings))
	}
	stack.LoadBalancer.SecurityGroups = append(stack.LoadBalancer.SecurityGroups, t.backendSource)
	return nil
}

// BackendGroup is the security group that all load balancers of the cluster share, so that the number of
// load balancers does not count against the limit of rules of nodes and pods.
func BackendGroup(s Settings) model.SecurityGroup {
	tags := maps.Clone(s.DefaultTags)
	if tags == nil {
		tags = map[string]string{}
	}
	tags[model.TagCluster], tags[model.TagBackendResource] = s.Cluster, model.BackendSecurityGroup
	return model.SecurityGroup{ResourceID: model.BackendSecurityGroup, Name: backendGroupName(s.Cluster), Description: backendGroupDescription, Tags: tags}
}

// managedGroup lets the inbound ranges reach every listener port.
func (t *translation) managedGroup() (model.SecurityGroup, error) {
	ports, err := t.listenPorts()
	if err != nil {
		return model.SecurityGroup{}, err
	}
	tags, err := t.tags(t.given, resourceSecurityGroup)
	if err != nil {
		return model.SecurityGroup{}, err
	}
	group := model.SecurityGroup{
		ResourceID: resourceSecurityGroup, Description: managedGroupDescription, Tags: tags,
		Name: securityGroupName(t.settings.Cluster, t.objects.Ingress.Namespace, t.objects.Ingress.Name),
	}
	ranges := t.given.list("inbound-cidrs")
	if len(t.params.InboundCIDRs) > 0 {
		ranges = t.params.InboundCIDRs
	}
	if len(ranges) == 0 {
		ranges = []string{"0.0.0.0/0", "::/0"}
	}
	dual := strings.HasPrefix(t.ipAddressType, "dualstack")
	for _, port := range ports {
		for _, cidr := range ranges {
			prefix, err := netip.ParsePrefix(cidr)
			if err != nil {
				return group, t.given.invalid("inbound-cidrs", cidr+" is not a range of addresses", "write ranges such as 10.0.0.0/8")
			}
			p := model.Permission{Protocol: "tcp", FromPort: port.number, ToPort: port.number}
			switch {
			case prefix.Addr().Is4():
				p.CIDR = cidr
			case dual:
				p.IPv6CIDR = cidr
			default:
				continue
			}
			if !slices.Contains(group.Ingress, p) {
				group.Ingress = append(group.Ingress, p)
			}
		}
	}
	return group, nil
}

// listenPort is one listener: its port and HTTP or HTTPS.
type listenPort struct {
	number   int32
	protocol string
}

// listenPorts reads listen-ports, sorted by number.
func (t *translation) listenPorts() ([]listenPort, error) {
	text, ok := t.given.get("listen-ports")
	if !ok {
		if len(t.certificates()) > 0 {
			return []listenPort{{443, "HTTPS"}}, nil
		}
		return []listenPort{{80, "HTTP"}}, nil
	}
	const remedy = `write [{"HTTP":80},{"HTTPS":443}]`
	var entries []map[string]int32
	if err := json.Unmarshal([]byte(text), &entries); err != nil {
		return nil, t.given.invalid("listen-ports", "it is not a JSON array of objects with a port number: "+err.Error(), remedy)
	}
	if len(entries) == 0 {
		return nil, t.given.invalid("listen-ports", "it is empty", remedy)
	}
	var ports []listenPort
	for _, entry := range entries {
		for protocol, number := range entry {
			if protocol != "HTTP" && protocol != "HTTPS" {
				return nil, t.given.invalid("listen-ports", "protocol "+protocol+" is neither HTTP nor HTTPS", remedy)
			}
			if number < 1 || number > 65535 {
				return nil, t.given.invalid("listen-ports", "a port is outside 1 to 65535", remedy)
			}
			ports = append(ports, listenPort{number, protocol})
		}
	}
	slices.SortFunc(ports, func(a, b listenPort) int {
		if a.number != b.number {
			return int(a.number - b.number)
		}
		return strings.Compare(a.protocol, b.protocol)
	})
	ports = slices.Compact(ports)
	for i := 1; i < len(ports); i++ {
		if ports[i].number == ports[i-1].number {
			return nil, t.given.invalid("listen-ports", "one port has two protocols", remedy)
		}
	}
	return ports, nil
}

// certificates are the ARNs of the HTTPS listeners, the default one first.
func (t *translation) certificates() []string {
	arns := t.params.CertificateArn
	if len(arns) == 0 {
		arns = t.given.list("certificate-arn")
	}
	var unique []string
	for _, arn := range arns {
		if !slices.Contains(unique, arn) {
			unique = append(unique, arn)
		}
	}
	return unique
}
