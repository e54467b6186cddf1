package ingress

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Subnet is what must be known of a subnet of the VPC to choose it.
type Subnet struct {
	ID            string
	Zone          string
	FreeAddresses int32
	Tags          map[string]string
	// Public says that its route table leads to an internet gateway.
	Public bool
}

const (
	minFreeAddresses = 8 // an ALB node needs addresses to scale into (ELBv2 user guide)
	minZones         = 2
)

// namedSubnets resolves ids and Name tags in the order given; a Name that several subnets have is used up
// in the order of ids, one for each mention.
func namedSubnets(all []Subnet, wanted []string) ([]string, error) {
	all = slices.SortedFunc(slices.Values(all), func(a, b Subnet) int { return cmp.Compare(a.ID, b.ID) })
	var ids []string
	zones := map[string]string{}
	for _, want := range wanted {
		i := slices.IndexFunc(all, func(s Subnet) bool {
			return !slices.Contains(ids, s.ID) && (s.ID == want || s.Tags["Name"] == want)
		})
		if i < 0 {
			return nil, fmt.Errorf("no (further) subnet of the VPC has the id or Name %s", want)
		}
		s := all[i]
		if other, taken := zones[s.Zone]; taken {
			return nil, fmt.Errorf("subnets %s and %s are both in zone %s, a load balancer takes one for each zone", other, s.ID, s.Zone)
		}
		zones[s.Zone] = s.ID
		ids = append(ids, s.ID)
	}
	if len(ids) < minZones {
		return nil, fmt.Errorf("they cover %d zone, a load balancer needs %d", len(ids), minZones)
	}
	return ids, nil
}

// discoverSubnets chooses one subnet for each zone by role tag, or by reachability where no subnet has
// the role. The error lists how many subnets were left out and why.
func discoverSubnets(all []Subnet, cluster, scheme string) ([]string, error) {
	role, public := "kubernetes.io/role/internal-elb", false
	if scheme == "internet-facing" {
		role, public = "kubernetes.io/role/elb", true
	}
	candidates := filter(all, func(s Subnet) bool {
		v, ok := s.Tags[role]
		return ok && (v == "" || v == "1")
	})
	if len(candidates) == 0 {
		candidates = filter(all, func(s Subnet) bool { return s.Public == public })
	}
	own := "kubernetes.io/cluster/" + cluster
	mine := filter(candidates, func(s Subnet) bool {
		if _, ok := s.Tags[own]; ok {
			return true
		}
		for key := range s.Tags {
			if strings.HasPrefix(key, "kubernetes.io/cluster/") {
				return false
			}
		}
		return true
	})
	roomy := filter(mine, func(s Subnet) bool { return s.FreeAddresses >= minFreeAddresses })
	best := map[string]Subnet{}
	for _, s := range roomy {
		_, tagged := s.Tags[own]
		b, found := best[s.Zone]
		_, bestTagged := b.Tags[own]
		if !found || tagged && !bestTagged || tagged == bestTagged && s.ID < b.ID {
			best[s.Zone] = s
		}
	}
	if len(best) < minZones {
		return nil, fmt.Errorf("no subnets for scheme %s: of %d subnets in the VPC, %d have tag %s or fitting routes, %d of these are not another cluster's, %d of these have %d free addresses, in %d zones where %d are needed: tag subnets with %s=1 or name them in annotation %ssubnets",
			scheme, len(all), len(candidates), role, len(mine), len(roomy), minFreeAddresses, len(best), minZones, role, Prefix)
	}
	var ids []string
	for _, s := range best {
		ids = append(ids, s.ID)
	}
	slices.Sort(ids)
	return ids, nil
}

func filter(subnets []Subnet, keep func(Subnet) bool) []Subnet {
	var kept []Subnet
	for _, s := range subnets {
		if keep(s) {
			kept = append(kept, s)
		}
	}
	return kept
}
