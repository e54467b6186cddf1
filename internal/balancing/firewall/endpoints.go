package firewall

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	elbv2 "github.com/lockstep-delivery/lockstep/api/elbv2/v1beta1"
	"github.com/lockstep-delivery/lockstep/internal/balancing/binding"
	"github.com/lockstep-delivery/lockstep/internal/balancing/firewall/plan"
	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/cloud"
)

// clusterTag marks the one group, of several on an interface, that is the cluster's to change.
func clusterTag(cluster string) string { return "kubernetes.io/cluster/" + cluster }

// located is what a binding needs, by the groups that guard its endpoints.
type located struct {
	// version is that of the wish.
	version int
	grants  []plan.Grant
	// err says which endpoints could not be found.
	err   error
	retry retry
}

// guard is the security group of an address, as of a time.
type guard struct {
	group  string
	err    error
	seenAt time.Time
}

// forget drops what bindings needed that ask for nothing any more.
func (f *Firewall) forget(asked map[types.NamespacedName]wish) {
	for key, b := range f.bindings {
		if _, still := asked[key]; !still {
			f.disturb(b.grants)
			delete(f.bindings, key)
		}
	}
}

// disturb has the groups of grants that have changed looked at again.
func (f *Firewall) disturb(grants []plan.Grant) {
	for _, id := range groupsOf(grants) {
		if state := f.groups[id]; state != nil {
			state.doubt()
		}
	}
}

func groupsOf(grants []plan.Grant) []string {
	var ids []string
	for _, g := range grants {
		ids = append(ids, g.GroupID)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// locate finds the security groups of the endpoints of bindings that ask for something new, all at once.
func (f *Firewall) locate(ctx context.Context, asked map[types.NamespacedName]wish) error {
	var due []types.NamespacedName
	var endpoints []binding.Endpoint
	for key, w := range asked {
		if b := f.bindings[key]; b == nil || b.version != w.version || b.err != nil && b.retry.due(f.Now()) {
			due = append(due, key)
			endpoints = append(endpoints, w.want.Endpoints...)
		}
	}
	if len(due) == 0 {
		return nil
	}
	failed := f.guards(ctx, endpoints)
	errs := []error{failed}
	for _, key := range due {
		w, b := asked[key], f.bindings[key]
		if b == nil {
			b = &located{}
			f.bindings[key] = b
		}
		b.version = w.version
		if b.err = failed; failed != nil {
			b.retry.failed(f.Now(), failed)
			continue
		}
		before := b.grants
		if b.grants, b.err = f.grantsOf(w.want); b.err == nil {
			b.retry = retry{}
		} else {
			// Until all endpoints are known, the grants that were known before are not given up.
			for _, g := range before {
				if !slices.Contains(b.grants, g) {
					b.grants = append(b.grants, g)
				}
			}
			b.retry.failed(f.Now(), b.err)
			errs = append(errs, b.err)
		}
		if !slices.Equal(before, b.grants) {
			f.disturb(before)
		}
	}
	return errors.Join(errs...)
}

// guards looks up the groups of addresses that are not known, or not known any more.
func (f *Firewall) guards(ctx context.Context, endpoints []binding.Endpoint) error {
	var ask []string
	for _, e := range endpoints {
		if known, ok := f.interfaces[e.IP]; !ok || known.err != nil || f.Now().Sub(known.seenAt) > interfaceAge {
			ask = append(ask, e.IP)
		}
	}
	if len(ask) == 0 {
		return nil
	}
	slices.Sort(ask)
	ask = slices.Compact(ask)
	interfaces, err := f.Cloud.NetworkInterfacesByAddress(ctx, ask)
	if err != nil {
		return fmt.Errorf("cannot find the network interfaces of %d addresses: %w", len(ask), err)
	}
	for _, ip := range ask {
		delete(f.interfaces, ip)
	}
	for _, eni := range interfaces {
		group, err := f.endpointGroup(ctx, eni)
		// The interface's other addresses are, or will be, other pods'.
		for _, ip := range eni.Addresses {
			f.interfaces[ip] = guard{group: group, err: err, seenAt: f.Now()}
		}
	}
	return nil
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

// grantsOf spells a binding's networking out for each endpoint. The error says whose group is not known; the
// grants of the others are returned with it.
func (f *Firewall) grantsOf(want binding.Networking) ([]plan.Grant, error) {
	seen := map[plan.Grant]bool{}
	var grants []plan.Grant
	var missing []string
	var errs []error
	for _, e := range want.Endpoints {
		at, found := f.interfaces[e.IP]
		switch {
		case !found:
			missing = append(missing, e.IP)
			continue
		case at.err != nil:
			errs = append(errs, at.err)
			continue
		}
		for _, rule := range want.Rules {
			for _, port := range orAllTCP(rule.Ports) {
				low, high, ok := portRange(port, e.Ports)
				for _, peer := range rule.From {
					g := plan.Grant{GroupID: at.group, Permission: source(peer)}
					g.Protocol, g.FromPort, g.ToPort = protocol(port), low, high
					if ok && g.Permission != (model.Permission{Protocol: g.Protocol, FromPort: low, ToPort: high}) && !seen[g] {
						seen[g] = true
						grants = append(grants, g)
					}
				}
			}
		}
	}
	if len(missing) > 0 {
		errs = append(errs, fmt.Errorf("cannot find the network interface of %s: no interface in AWS has the address: %w", strings.Join(missing[:min(3, len(missing))], ", "), cloud.ErrNotFound))
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return grants, errors.Join(slices.CompactFunc(errs, func(a, b error) bool { return a.Error() == b.Error() })...)
}

// anywhere is what a binding's networking may need, whatever its endpoints are and call their ports.
func anywhere(want binding.Networking) []model.Permission {
	var all []model.Permission
	for _, rule := range want.Rules {
		for _, port := range orAllTCP(rule.Ports) {
			low, high, ok := portRange(port, nil)
			if !ok {
				low, high = 0, 65535
			}
			for _, peer := range rule.From {
				p := source(peer)
				p.Protocol, p.FromPort, p.ToPort = protocol(port), low, high
				all = append(all, p)
			}
		}
	}
	return all
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
