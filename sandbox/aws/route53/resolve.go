package route53

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/route53/types"
)

// Outcome is the kind of an answer of the name servers.
type Outcome int

// The outcomes.
const (
	Refused  Outcome = iota // no hosted zone has the name
	NoName                  // the zone has nothing of the name (NXDOMAIN)
	NoData                  // the zone has the name, but not the type
	Answered                // by values
	Aliased                 // to a name outside of the zone, such as that of a load balancer
)

// Answer is what the name servers say to a question.
type Answer struct {
	Outcome Outcome
	// Type of the values: that of the question, or CNAME.
	Type   string
	TTL    time.Duration
	Values []string
	// Alias is the name to ask for instead, without dualstack. and the dot at the end.
	Alias string
	// Zone is the name of the hosted zone, with a dot at the end; empty if Refused.
	Zone string
}

// maxAliases bounds a chain of aliases.
const maxAliases = 8

// Lookup answers a question as the name servers do now. Of weighted records one is drawn: draw returns a
// number below n, which is at least 1.
func (s *Service) Lookup(name, kind string, draw func(n int) int) Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked, err := parseName(name)
	if err != nil {
		return Answer{}
	}
	z := s.zoneOf(asked)
	if z == nil {
		return Answer{}
	}
	answer := s.lookup(z, asked, types.RRType(strings.ToUpper(kind)), draw)
	answer.Zone = *z.Name
	return answer
}

func (s *Service) lookup(z *zone, asked string, kind types.RRType, draw func(n int) int) Answer {
	served := z.served(time.Now())
	for range maxAliases {
		candidates, exists := find(served, *z.Name, asked, kind)
		if len(candidates) == 0 {
			if exists {
				return Answer{Outcome: NoData}
			}
			return Answer{Outcome: NoName}
		}
		chosen := s.choose(candidates, func(set *recordSet) bool { return s.healthy(z, served, set, maxAliases) }, draw)
		if chosen.AliasTarget == nil {
			return answered(chosen)
		}
		target, err := parseName(*chosen.AliasTarget.DNSName)
		if err != nil {
			break
		}
		if !z.holds(chosen.AliasTarget) {
			return Answer{Outcome: Aliased, Type: string(kind), Alias: strings.TrimSuffix(strings.TrimPrefix(target, "dualstack."), ".")}
		}
		asked = target
	}
	return Answer{Outcome: NoData}
}

func answered(set *recordSet) Answer {
	a := Answer{Outcome: Answered, Type: string(set.Type), TTL: time.Duration(*set.TTL) * time.Second}
	for _, r := range set.ResourceRecords {
		a.Values = append(a.Values, *r.Value)
	}
	return a
}

// zoneOf is the zone with the longest name that a name is in.
func (s *Service) zoneOf(name string) *zone {
	var best *zone
	for _, z := range s.zones {
		if within(name, *z.Name) && (best == nil || len(*z.Name) > len(*best.Name) || len(*z.Name) == len(*best.Name) && *z.Id < *best.Id) {
			best = z
		}
	}
	return best
}

// find returns the record sets that answer for a name: its own, else those of the nearest wildcard above;
// and whether there is anything of the name.
func find(all records, zone, name string, kind types.RRType) (found []*recordSet, exists bool) {
	of := func(owner string) (of []*recordSet, any bool) {
		var aliases []*recordSet
		for _, set := range all {
			any = any || within(*set.Name, owner)
			switch {
			case *set.Name != owner:
			case set.Type == kind:
				of = append(of, set)
			case set.Type == types.RRTypeCname:
				aliases = append(aliases, set)
			}
		}
		if len(of) == 0 {
			of = aliases
		}
		slices.SortFunc(of, func(a, b *recordSet) int { return cmp.Compare(a.key(), b.key()) })
		return of, any
	}
	if found, exists = of(name); exists {
		return found, true
	}
	for rest := name; rest != zone && within(rest, zone); {
		_, above, ok := strings.Cut(rest, ".")
		if !ok {
			break
		}
		if found, exists := of(`\052.` + above); exists {
			return found, true
		}
		if _, exists := of(above); exists { // what is further up is not for names below this one (RFC 4592)
			break
		}
		rest = above
	}
	return nil, false
}

// holds says whether the target of an alias is a record set of the zone itself.
func (z *zone) holds(target *types.AliasTarget) bool {
	return strings.TrimPrefix(deref(target.HostedZoneId), "/hostedzone/") == strings.TrimPrefix(*z.Id, "/hostedzone/")
}

// choose draws one of several weighted record sets. What has weight 0 is only answered if all have, or if
// nothing above 0 is healthy; if nothing is healthy at all, everything counts as healthy.
func (s *Service) choose(candidates []*recordSet, isHealthy func(*recordSet) bool, draw func(int) int) *recordSet {
	if len(candidates) == 1 {
		return candidates[0]
	}
	healthy := slices.DeleteFunc(slices.Clone(candidates), func(set *recordSet) bool { return !isHealthy(set) })
	if len(healthy) == 0 {
		healthy = candidates
	}
	total := 0
	for _, set := range healthy {
		total += int(deref(set.Weight))
	}
	if total == 0 {
		return healthy[draw(len(healthy))]
	}
	at := draw(total)
	for _, set := range healthy {
		if at -= int(deref(set.Weight)); at < 0 {
			return set
		}
	}
	return healthy[len(healthy)-1]
}

// healthy is true for all but an alias that evaluates the health of its target: a load balancer without any, or record
// sets of the zone of which none is healthy. depth bounds a chain of those.
func (s *Service) healthy(z *zone, served records, set *recordSet, depth int) bool {
	if set.AliasTarget == nil || !set.AliasTarget.EvaluateTargetHealth || depth == 0 {
		return true
	}
	if z.holds(set.AliasTarget) {
		target, err := parseName(*set.AliasTarget.DNSName)
		if err != nil {
			return false
		}
		found, _ := find(served, *z.Name, target, set.Type)
		return slices.ContainsFunc(found, func(other *recordSet) bool { return s.healthy(z, served, other, depth-1) })
	}
	if s.config.Balancer == nil {
		return true
	}
	name := strings.TrimPrefix(strings.ToLower(*set.AliasTarget.DNSName), "dualstack.")
	_, healthy, ok := s.config.Balancer(name)
	return healthy || !ok
}

// Visible says since when a CNAME record with a value is answered.
func (s *Service) Visible(name, value string) (since time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked, err := parseName(name)
	if err != nil {
		return time.Time{}, false
	}
	z := s.zoneOf(asked)
	if z == nil {
		return time.Time{}, false
	}
	for _, set := range z.served(time.Now()) {
		if *set.Name != asked || set.Type != types.RRTypeCname || set.AliasTarget != nil {
			continue
		}
		for _, r := range set.ResourceRecords {
			if strings.EqualFold(strings.TrimSuffix(*r.Value, "."), strings.TrimSuffix(value, ".")) {
				return set.since, true
			}
		}
	}
	return time.Time{}, false
}
