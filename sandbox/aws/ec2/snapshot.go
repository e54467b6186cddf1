package ec2

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/snapshot"
)

// kept is the state of the service as it is kept on the disk. The network itself follows from the configuration.
type kept struct {
	Groups     []keptGroup                  `json:"groups"`
	Instances  map[string]*types.Instance   `json:"instances"`
	Interfaces []keptInterface              `json:"interfaces"`
	Tags       map[string]map[string]string `json:"tags"`
	// Cursors are the addresses that were given out last, by subnet.
	Cursors map[string]netip.Addr `json:"cursors"`
}

type keptGroup struct {
	ID          string     `json:"id"`
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

type keptInterface struct {
	ID          string                     `json:"id"`
	Description string                     `json:"description"`
	MAC         string                     `json:"mac"`
	Subnet      string                     `json:"subnet"`
	Groups      []string                   `json:"groups"`
	Kind        types.NetworkInterfaceType `json:"kind"`
	Primary     netip.Addr                 `json:"primary"`
	Secondary   []netip.Addr               `json:"secondary,omitempty"`
	Instance    string                     `json:"instance,omitempty"`
	Attachment  string                     `json:"attachment,omitempty"`
	Balancer    bool                       `json:"balancer,omitempty"`
}

// Export tells everything that the service has and that its configuration does not say.
func (s *Service) Export() (json.RawMessage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := kept{Instances: s.instances, Tags: s.tags, Cursors: map[string]netip.Addr{}}
	for _, id := range slices.Sorted(maps.Keys(s.groups)) {
		g := s.groups[id].Get()
		k.Groups = append(k.Groups, keptGroup{g.id, g.name, g.description, keptRules(g.ingress), keptRules(g.egress)})
	}
	for _, id := range slices.Sorted(maps.Keys(s.interfaces)) {
		n := s.interfaces[id]
		k.Interfaces = append(k.Interfaces, keptInterface{
			n.id, n.description, n.mac, *n.subnet.SubnetId, n.groups, n.kind, n.primary, n.secondary, n.instance, n.attachment, n.balancer,
		})
	}
	for id, n := range s.subnets {
		k.Cursors[id] = n.cursor
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
// that was on its way, they feel at once.
func (s *Service) Import(text json.RawMessage) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var k kept
	if err := snapshot.Decode(text, &k); err != nil {
		return err
	}
	clear(s.groups)
	clear(s.inForce)
	for _, one := range k.Groups {
		g := &securityGroup{id: one.ID, name: one.Name, description: one.Description, ingress: restoredRules(one.Ingress), egress: restoredRules(one.Egress)}
		s.groups[g.id] = eventual.Settled(s.model, "sg/"+g.name, g)
		s.inForce[g.id] = newInForce(g)
	}
	for _, one := range k.Interfaces {
		home := s.subnets[one.Subnet]
		if home == nil {
			return fmt.Errorf("interface %s is in subnet %s, which the VPC does not have", one.ID, one.Subnet)
		}
		n := &networkInterface{
			id: one.ID, description: one.Description, mac: one.MAC, subnet: home, groups: one.Groups, kind: one.Kind,
			primary: one.Primary, secondary: one.Secondary, instance: one.Instance, attachment: one.Attachment, balancer: one.Balancer,
		}
		s.interfaces[n.id] = n
		for _, a := range append([]netip.Addr{n.primary}, n.secondary...) {
			if s.byAddress[a] != nil || !home.prefix.Contains(a) {
				return fmt.Errorf("interface %s has address %s, which is another's or of no use in subnet %s", n.id, a, one.Subnet)
			}
			s.byAddress[a], home.used[a] = n, true
		}
	}
	for id, cursor := range k.Cursors {
		if n := s.subnets[id]; n != nil && n.prefix.Contains(cursor) {
			n.cursor = cursor
		}
	}
	if k.Instances != nil {
		s.instances = k.Instances
	}
	if k.Tags != nil {
		s.tags = k.Tags
	}
	return nil
}

// BalancerInterfaces lists the ids of the interfaces of load balancers, sorted.
func (s *Service) BalancerInterfaces() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for id, n := range s.interfaces {
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
	return maps.Clone(s.tags[id])
}
