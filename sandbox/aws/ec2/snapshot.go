package ec2

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/snapshot"
)

// kept is the state of the service as it is kept on the disk. Client tokens are not: a request that is repeated after a
// restart is a new one.
type kept struct {
	VPCs        []keptVPC                    `json:"vpcs"`
	Subnets     []keptSubnet                 `json:"subnets"`
	RouteTables []*types.RouteTable          `json:"routeTables"`
	Gateways    []*types.InternetGateway     `json:"gateways"`
	Groups      []keptGroup                  `json:"groups"`
	PrefixLists []keptList                   `json:"prefixLists"`
	Instances   []keptInstance               `json:"instances"`
	Interfaces  []keptInterface              `json:"interfaces"`
	Addresses   []keptAddress                `json:"addresses"`
	Tags        map[string]map[string]string `json:"tags"`
	// Blocks6 is how many IPv6 blocks VPCs have got.
	Blocks6      uint16     `json:"blocks6"`
	PublicCursor netip.Addr `json:"publicCursor"`
}

type keptVPC struct {
	VPC          types.Vpc `json:"vpc"`
	MainTable    string    `json:"mainTable"`
	DefaultGroup string    `json:"defaultGroup"`
	DNSSupport   bool      `json:"dnsSupport"`
	DNSNames     bool      `json:"dnsNames"`
}

type keptSubnet struct {
	Subnet types.Subnet `json:"subnet"`
	// Cursor is the address that was given out last.
	Cursor  netip.Addr `json:"cursor"`
	Cursor6 netip.Addr `json:"cursor6,omitzero"`
}

type keptGroup struct {
	ID          string     `json:"id"`
	VPC         string     `json:"vpc"`
	Name        string     `json:"name"`
	Description string     `json:"description"`
	Ingress     []keptRule `json:"ingress"`
	Egress      []keptRule `json:"egress"`
}

type keptRule struct {
	ID          string `json:"id"`
	Protocol    string `json:"protocol"`
	From        int32  `json:"from"`
	To          int32  `json:"to"`
	CIDR4       string `json:"cidr4,omitempty"`
	CIDR6       string `json:"cidr6,omitempty"`
	PrefixList  string `json:"prefixList,omitempty"`
	Group       string `json:"group,omitempty"`
	Description string `json:"description,omitempty"`
}

type keptList struct {
	List     types.ManagedPrefixList   `json:"list"`
	Versions [][]types.PrefixListEntry `json:"versions"`
}

type keptInstance struct {
	Instance    types.Instance `json:"instance"`
	Interfaces  []string       `json:"interfaces,omitempty"`
	Reservation string         `json:"reservation"`
	External    bool           `json:"external,omitempty"`
	Transition  int            `json:"transition,omitempty"`
	Terminated  time.Time      `json:"terminated,omitzero"`
}

type keptInterface struct {
	ID          string                     `json:"id"`
	Description string                     `json:"description"`
	MAC         string                     `json:"mac"`
	Subnet      string                     `json:"subnet"`
	Groups      []string                   `json:"groups"`
	Kind        types.NetworkInterfaceType `json:"kind"`
	Primary     netip.Addr                 `json:"primary"`
	Secondary   []netip.Addr               `json:"secondary,omitempty"`
	Six         []netip.Addr               `json:"six,omitempty"`
	Public      netip.Addr                 `json:"public,omitzero"`
	Attachment  *keptAttachment            `json:"attachment,omitempty"`
	Balancer    bool                       `json:"balancer,omitempty"`
	Check       bool                       `json:"check,omitempty"`
}

type keptAttachment struct {
	ID                  string    `json:"id"`
	Instance            string    `json:"instance,omitempty"`
	Device              int32     `json:"device"`
	DeleteOnTermination bool      `json:"deleteOnTermination,omitempty"`
	Since               time.Time `json:"since"`
}

type keptAddress struct {
	ID          string     `json:"id"`
	Public      netip.Addr `json:"public"`
	Association string     `json:"association,omitempty"`
	Interface   string     `json:"interface,omitempty"`
	Private     netip.Addr `json:"private,omitzero"`
}

// sorted is the truth of a table in the order of ids.
func sorted[T any](t *table[T]) []T {
	list := make([]T, 0, t.count())
	for _, id := range slices.Sorted(maps.Keys(t.values)) {
		list = append(list, t.values[id].Get())
	}
	return list
}

// Export tells everything that the service has.
func (s *Service) Export() (json.RawMessage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := kept{
		RouteTables: sorted(s.routeTables), Gateways: sorted(s.gateways), Tags: s.tags.truths(), Blocks6: s.blocks6, PublicCursor: s.publicPool.cursor,
	}
	for _, v := range sorted(s.vpcs) {
		k.VPCs = append(k.VPCs, keptVPC{v.Vpc, v.mainTable, v.defaultGroup, v.dnsSupport, v.dnsNames})
	}
	for _, n := range sorted(s.subnets) {
		one := keptSubnet{Subnet: n.Subnet, Cursor: n.cursor}
		if n.pool6 != nil {
			one.Cursor6 = n.pool6.cursor
		}
		k.Subnets = append(k.Subnets, one)
	}
	for _, g := range sorted(s.groups) {
		k.Groups = append(k.Groups, keptGroup{g.id, g.vpc, g.name, g.description, keptRules(g.ingress), keptRules(g.egress)})
	}
	for _, l := range sorted(s.prefixLists) {
		k.PrefixLists = append(k.PrefixLists, keptList{l.ManagedPrefixList, l.versions})
	}
	for _, m := range sorted(s.instances) {
		k.Instances = append(k.Instances, keptInstance{m.Instance, m.interfaces, m.reservation, m.external, m.transition, m.terminated})
	}
	for _, n := range sorted(s.interfaces) {
		one := keptInterface{
			ID: n.id, Description: n.description, MAC: n.mac, Subnet: n.subnet, Groups: n.groups, Kind: n.kind, Primary: n.primary,
			Secondary: n.secondary, Six: n.six, Public: n.public, Balancer: n.balancer, Check: n.check,
		}
		if a := n.attachment; a != nil {
			one.Attachment = &keptAttachment{a.id, a.instance, a.device, a.deleteOnTermination, a.since}
		}
		k.Interfaces = append(k.Interfaces, one)
	}
	for _, a := range sorted(s.addresses) {
		k.Addresses = append(k.Addresses, keptAddress{a.id, a.public, a.association, a.networkInterface, a.private})
	}
	return json.Marshal(k)
}

func keptRules(rules []rule) (list []keptRule) {
	for _, r := range rules {
		list = append(list, keptRule{r.id, r.protocol, r.from, r.to, r.cidr4, r.cidr6, r.prefixList, r.group, r.description})
	}
	return list
}

func restoredRules(list []keptRule) (rules []rule) {
	for _, r := range list {
		rules = append(rules, rule{r.ID, r.Protocol, r.From, r.To, r.CIDR4, r.CIDR6, r.PrefixList, r.Group, r.Description})
	}
	return rules
}

// Import takes over what another service of the same configuration has exported. This one must be new. What packets feel of a change
// that was on its way, they feel at once; an instance that was starting or ending has arrived.
func (s *Service) Import(text json.RawMessage) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var k kept
	if err := snapshot.Decode(text, &k); err != nil {
		return err
	}
	if err := s.importNetwork(k); err != nil {
		return err
	}
	s.importGroups(k)
	if err := s.importMachines(k); err != nil {
		return err
	}
	s.tags.restore(k.Tags, nil)
	s.blocks6 = k.Blocks6
	if s.publicPool.prefix.Contains(k.PublicCursor) {
		s.publicPool.cursor = k.PublicCursor
	}
	s.tellAll()
	return nil
}

func (s *Service) importNetwork(k kept) error {
	vpcs, subnets := map[string]*vpc{}, map[string]*subnet{}
	for _, one := range k.VPCs {
		v := &vpc{Vpc: one.VPC, mainTable: one.MainTable, defaultGroup: one.DefaultGroup, dnsSupport: one.DNSSupport, dnsNames: one.DNSNames}
		for _, a := range v.CidrBlockAssociationSet {
			block, err := netip.ParsePrefix(deref(a.CidrBlock))
			if err != nil {
				return fmt.Errorf("VPC %s: %w", deref(v.VpcId), err)
			}
			v.prefixes = append(v.prefixes, block)
		}
		for _, a := range v.Ipv6CidrBlockAssociationSet {
			block, err := netip.ParsePrefix(deref(a.Ipv6CidrBlock))
			if err != nil {
				return fmt.Errorf("VPC %s: %w", deref(v.VpcId), err)
			}
			v.prefixes6 = append(v.prefixes6, block)
		}
		vpcs[deref(v.VpcId)] = v
	}
	if vpcs[s.vpc] == nil {
		return fmt.Errorf("the VPC %s of the account is missing", s.vpc)
	}
	for _, one := range k.Subnets {
		block, err := netip.ParsePrefix(deref(one.Subnet.CidrBlock))
		if err != nil {
			return fmt.Errorf("subnet %s: %w", deref(one.Subnet.SubnetId), err)
		}
		n := &subnet{Subnet: one.Subnet, prefix: block, pool: newPool(block)}
		if block.Contains(one.Cursor) {
			n.cursor = one.Cursor
		}
		for _, a := range n.Ipv6CidrBlockAssociationSet {
			if n.prefix6, err = netip.ParsePrefix(deref(a.Ipv6CidrBlock)); err != nil {
				return fmt.Errorf("subnet %s: %w", deref(n.SubnetId), err)
			}
			if n.pool6 = newPool(n.prefix6); n.prefix6.Contains(one.Cursor6) {
				n.pool6.cursor = one.Cursor6
			}
		}
		if vpcs[deref(n.VpcId)] == nil {
			return fmt.Errorf("subnet %s is in VPC %s, which is missing", deref(n.SubnetId), deref(n.VpcId))
		}
		subnets[deref(n.SubnetId)] = n
	}
	s.vpcs.restore(vpcs, nil)
	s.subnets.restore(subnets, nil)
	s.routeTables.restore(byID(k.RouteTables, func(t *types.RouteTable) string { return deref(t.RouteTableId) }), nil)
	s.gateways.restore(byID(k.Gateways, func(g *types.InternetGateway) string { return deref(g.InternetGatewayId) }), nil)
	return nil
}

func byID[T any](list []T, id func(T) string) map[string]T {
	all := make(map[string]T, len(list))
	for _, one := range list {
		all[id(one)] = one
	}
	return all
}

func (s *Service) importGroups(k kept) {
	clear(s.groupsInForce)
	clear(s.listsInForce)
	groups, lists := map[string]*securityGroup{}, map[string]*prefixList{}
	for _, one := range k.Groups {
		g := &securityGroup{id: one.ID, vpc: one.VPC, name: one.Name, description: one.Description, ingress: restoredRules(one.Ingress), egress: restoredRules(one.Egress)}
		groups[g.id], s.groupsInForce[g.id] = g, begin(g.name, g)
	}
	for _, one := range k.PrefixLists {
		l := &prefixList{ManagedPrefixList: one.List}
		for _, entries := range one.Versions {
			l = l.with(entries)
		}
		id := deref(l.PrefixListId)
		lists[id], s.listsInForce[id] = l, begin(id, l)
	}
	s.groups.restore(groups, nil)
	s.prefixLists.restore(lists, nil)
}

func (s *Service) importMachines(k kept) error {
	for _, one := range k.Interfaces {
		home, ok := s.subnets.get(one.Subnet)
		if !ok {
			return fmt.Errorf("interface %s is in subnet %s, which is missing", one.ID, one.Subnet)
		}
		n := &networkInterface{
			id: one.ID, description: one.Description, mac: one.MAC, vpc: *home.VpcId, subnet: one.Subnet, zone: *home.AvailabilityZone, groups: one.Groups,
			kind: one.Kind, primary: one.Primary, secondary: one.Secondary, six: one.Six, public: one.Public, balancer: one.Balancer, check: one.Check,
		}
		if a := one.Attachment; a != nil {
			n.attachment = &attachment{a.ID, a.Instance, a.Device, a.DeleteOnTermination, a.Since}
		}
		for _, a := range n.all() {
			if s.byAddress[place{n.vpc, a}] != "" || !home.prefix.Contains(a) {
				return fmt.Errorf("interface %s has address %s, which is another's or of no use in subnet %s", n.id, a, one.Subnet)
			}
			s.byAddress[place{n.vpc, a}], home.used[a] = n.id, true
		}
		for _, a := range n.six {
			if home.pool6 == nil {
				return fmt.Errorf("interface %s has address %s, but subnet %s no IPv6 block", n.id, a, one.Subnet)
			}
			home.pool6.used[a] = true
		}
		if n.public.IsValid() {
			s.publicPool.used[n.public] = true
		}
		s.interfaces.settle(n.id, n)
	}
	for _, one := range k.Addresses {
		s.publicPool.used[one.Public] = true
		s.addresses.settle(one.ID, &address{one.ID, one.Public, one.Association, one.Interface, one.Private})
	}
	for _, one := range k.Instances {
		m := &instance{one.Instance, one.Interfaces, one.Reservation, one.External, one.Transition, one.Terminated}
		if m.State == nil || m.InstanceId == nil {
			return fmt.Errorf("an instance has no id or state")
		}
		switch m.State.Name {
		case types.InstanceStateNamePending:
			m.State = stateOf(types.InstanceStateNameRunning)
		case types.InstanceStateNameStopping:
			m.State = stateOf(types.InstanceStateNameStopped)
		case types.InstanceStateNameShuttingDown:
			m = s.terminated(m)
			m.State = stateOf(types.InstanceStateNameTerminated)
		}
		s.instances.settle(*m.InstanceId, m)
	}
	return nil
}

// BalancerInterfaces lists the ids of the interfaces of load balancers, sorted.
func (s *Service) BalancerInterfaces() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for id, n := range s.interfaces.all {
		if n.balancer {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// TagsOf are the tags of a resource.
func (s *Service) TagsOf(id string) map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.tagsOf(eventual.Reader{}, id))
}
