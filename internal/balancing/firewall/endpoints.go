package firewall

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"k8s.io/apimachinery/pkg/util/intstr"

	elbv2 "github.com/lockstep-delivery/lockstep/api/elbv2/v1beta1"
	"github.com/lockstep-delivery/lockstep/internal/balancing/binding"
	"github.com/lockstep-delivery/lockstep/internal/balancing/firewall/plan"
	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/cloud"
)

// clusterTag marks the one group, of several on an interface, that is the cluster's to change.
func clusterTag(cluster string) string { return "kubernetes.io/cluster/" + cluster }

// located is an endpoint and the security group that guards it.
type located struct {
	binding.Endpoint
	group string
}

// endpoints finds the security group of each address. An address without an interface is an error that is
// cloud.ErrNotFound; the others are returned with it.
func (f *Firewall) endpoints(ctx context.Context, endpoints []binding.Endpoint) ([]located, error) {
	var ask []string
	for _, e := range endpoints {
		if known := f.interfaces[e.IP]; f.Now().Sub(known.seenAt) > interfaceAge {
			delete(f.interfaces, e.IP)
			ask = append(ask, e.IP)
		}
	}
	if len(ask) > 0 {
		interfaces, err := f.Cloud.NetworkInterfacesByAddress(ctx, ask)
		if err != nil {
			return nil, fmt.Errorf("cannot find the network interfaces of %d addresses: %w", len(ask), err)
		}
		for _, eni := range interfaces {
			group, err := f.endpointGroup(ctx, eni)
			if err != nil {
				return nil, err
			}
			// The interface's other addresses are, or will be, other pods'.
			for _, ip := range eni.Addresses {
				f.interfaces[ip] = endpoint{group: group, seenAt: f.Now()}
			}
		}
	}
	var found []located
	var missing []string
	for _, e := range endpoints {
		if at, ok := f.interfaces[e.IP]; ok {
			found = append(found, located{e, at.group})
		} else {
			missing = append(missing, e.IP)
		}
	}
	if len(missing) > 0 {
		return found, fmt.Errorf("cannot find the network interface of %s: no interface in AWS has the address: %w", strings.Join(missing[:min(3, len(missing))], ", "), cloud.ErrNotFound)
	}
	return found, nil
}

// endpointGroup is the group whose rules are changed for an interface: its only one, or the only one that
// carries the cluster's tag and the endpoint tags.
func (f *Firewall) endpointGroup(ctx context.Context, eni cloud.NetworkInterface) (string, error) {
	if len(eni.Groups) == 1 {
		return eni.Groups[0], nil
	}
	var tagged []string
	for _, id := range eni.Groups {
		group, err := f.Cloud.SecurityGroup(ctx, id)
		if err != nil {
			return "", fmt.Errorf("cannot read security group %s of interface %s: %w", id, eni.ID, err)
		}
		_, ours := group.Tags[clusterTag(f.Settings.Cluster)]
		for key, value := range f.Settings.EndpointTags {
			ours = ours && group.Tags[key] == value
		}
		if ours {
			tagged = append(tagged, id)
		}
	}
	if len(tagged) != 1 {
		return "", fmt.Errorf("network interface %s has %d security groups, %d of them tagged %s: tag exactly one, it is the one whose rules are changed",
			eni.ID, len(eni.Groups), len(tagged), clusterTag(f.Settings.Cluster))
	}
	return tagged[0], nil
}

// grantsOf spells a binding's networking out for each endpoint.
func grantsOf(want binding.Networking, endpoints []located) []plan.Grant {
	seen := map[plan.Grant]bool{}
	var grants []plan.Grant
	for _, e := range endpoints {
		for _, rule := range want.Rules {
			for _, port := range orAllTCP(rule.Ports) {
				low, high, ok := portRange(port, e.Ports)
				for _, peer := range rule.From {
					g := plan.Grant{GroupID: e.group, Permission: source(peer)}
					g.Protocol, g.FromPort, g.ToPort = protocol(port), low, high
					if ok && g.Permission != (model.Permission{Protocol: g.Protocol, FromPort: low, ToPort: high}) && !seen[g] {
						seen[g] = true
						grants = append(grants, g)
					}
				}
			}
		}
	}
	return grants
}

// orAllTCP gives a rule without ports the meaning that its documentation promises: all TCP ports.
func orAllTCP(ports []elbv2.NetworkingPort) []elbv2.NetworkingPort {
	if len(ports) == 0 {
		return []elbv2.NetworkingPort{{}}
	}
	return ports
}

func protocol(port elbv2.NetworkingPort) string {
	if port.Protocol == nil {
		return "tcp"
	}
	return strings.ToLower(string(*port.Protocol))
}

// portRange is one port, by number or by an endpoint's name for it, or all.
func portRange(port elbv2.NetworkingPort, named map[string]int32) (low, high int32, ok bool) {
	switch {
	case port.Port == nil:
		return 0, 65535, true
	case port.Port.Type == intstr.Int:
		return port.Port.IntVal, port.Port.IntVal, true
	}
	n, ok := named[port.Port.StrVal]
	return n, n, ok
}

// source is a permission with the peer as its only field; a peer that is neither is an empty one.
func source(peer elbv2.NetworkingPeer) model.Permission {
	switch {
	case peer.SecurityGroup != nil:
		return model.Permission{SourceGroupID: peer.SecurityGroup.GroupID}
	case peer.IPBlock != nil:
		prefix, err := netip.ParsePrefix(peer.IPBlock.CIDR)
		switch {
		case err != nil:
			return model.Permission{}
		case prefix.Addr().Is4():
			// EC2 clears host bits too; a rule must be found again as it was made.
			return model.Permission{CIDR: prefix.Masked().String()}
		}
		return model.Permission{IPv6CIDR: prefix.Masked().String()}
	}
	return model.Permission{}
}
