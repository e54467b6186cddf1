package route53

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// ListResourceRecordSets lists record sets, beginning with a name, type and identifier.
func (s *Service) ListResourceRecordSets(_ eventual.Reader, in *route53.ListResourceRecordSetsInput) (*route53.ListResourceRecordSetsOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	z, err := s.zone(in.HostedZoneId)
	if err != nil {
		return nil, err
	}
	limit, err := pageSize(in.MaxItems, maxSetPage)
	if err != nil {
		return nil, err
	}
	start := ""
	switch {
	case in.StartRecordName == nil && (in.StartRecordType != "" || in.StartRecordIdentifier != nil), in.StartRecordType == "" && in.StartRecordIdentifier != nil:
		return nil, invalid("A type needs a name, and an identifier needs name and type")
	case in.StartRecordName != nil:
		name, err := parseName(*in.StartRecordName)
		if err != nil {
			return nil, invalid("The name '%.260s' is not valid", *in.StartRecordName)
		}
		start = sortKey(name, string(in.StartRecordType), deref(in.StartRecordIdentifier))
	}
	out := &route53.ListResourceRecordSetsOutput{ResourceRecordSets: []types.ResourceRecordSet{}, MaxItems: new(int32(limit))}
	for _, key := range slices.Sorted(maps.Keys(z.records)) {
		if key < start {
			continue
		}
		set := z.records[key]
		if len(out.ResourceRecordSets) == limit {
			out.IsTruncated, out.NextRecordName, out.NextRecordType, out.NextRecordIdentifier = true, set.Name, set.Type, set.SetIdentifier
			break
		}
		out.ResourceRecordSets = append(out.ResourceRecordSets, set.ResourceRecordSet)
	}
	return out, nil
}

// ChangeResourceRecordSets makes all changes of a batch, or none.
func (s *Service) ChangeResourceRecordSets(_ eventual.Reader, in *route53.ChangeResourceRecordSetsInput) (*route53.ChangeResourceRecordSetsOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	z, err := s.zone(in.HostedZoneId)
	if err != nil {
		return nil, err
	}
	if in.ChangeBatch == nil || len(in.ChangeBatch.Changes) == 0 {
		return nil, invalid("A batch needs at least one change")
	}
	if err := bounded(in.ChangeBatch.Changes); err != nil {
		return nil, err
	}
	if err := z.ready(); err != nil {
		return nil, err
	}
	b := batch{service: s, zone: z, records: maps.Clone(z.records)}
	for _, c := range in.ChangeBatch.Changes {
		if err := b.change(c); err != nil {
			return nil, err
		}
	}
	b.validate()
	if len(b.messages) > 0 {
		return nil, wire.Errorf("InvalidChangeBatch", "[%s]", strings.Join(b.messages, ", "))
	}
	made := s.newChange(z, in.ChangeBatch.Comment)
	z.records = b.records
	for _, key := range b.written {
		if set := z.records[key]; set != nil {
			set.since = made.insync
		}
	}
	z.publish(made.insync)
	return &route53.ChangeResourceRecordSetsOutput{ChangeInfo: &made.info}, nil
}

// bounded refuses a batch that is too large; UPSERT counts twice.
func bounded(changes []types.Change) error {
	count, text := 0, 0
	for _, c := range changes {
		times := 1
		if c.Action == types.ChangeActionUpsert {
			times = 2
		}
		if c.ResourceRecordSet == nil {
			continue
		}
		count += times * max(1, len(c.ResourceRecordSet.ResourceRecords))
		for _, r := range c.ResourceRecordSet.ResourceRecords {
			text += times * len(deref(r.Value))
		}
	}
	if count > maxBatch || text > maxBatchText {
		return wire.Errorf("InvalidChangeBatch", "A batch can have at most %d records and %d characters in their values", maxBatch, maxBatchText)
	}
	return nil
}

// batch is a batch of changes on its way.
type batch struct {
	service  *Service
	zone     *zone
	records  records
	written  []string
	messages []string
}

func (b *batch) complain(format string, args ...any) {
	b.messages = append(b.messages, fmt.Sprintf(format, args...))
}

// change makes one change. What is wrong with it is a message, or an error if it cannot be a change at all.
func (b *batch) change(c types.Change) error {
	if c.ResourceRecordSet == nil || deref(c.ResourceRecordSet.Name) == "" {
		return invalid("A change needs a record set with a name")
	}
	set := &recordSet{ResourceRecordSet: *c.ResourceRecordSet}
	name, err := parseName(*set.Name)
	if err != nil {
		return invalid("The name '%.260s' is not valid", *set.Name)
	}
	set.Name = &name
	if target := set.AliasTarget; target != nil && deref(target.DNSName) != "" {
		kept := *target
		// Kept as it is listed: in small letters, with a dot at the end.
		kept.DNSName = new(strings.TrimSuffix(strings.ToLower(*target.DNSName), ".") + ".")
		set.AliasTarget = &kept
	}
	if !within(name, *b.zone.Name) {
		b.complain("RRSet with DNS name %s is not permitted in zone %s", name, *b.zone.Name)
		return nil
	}
	if err := b.service.check(set); err != nil {
		return err
	}
	b.checkValues(set)
	label := fmt.Sprintf("[name='%s', type='%s'", name, set.Type)
	if set.SetIdentifier != nil {
		label += fmt.Sprintf(", set identifier='%s'", *set.SetIdentifier)
	}
	label += "]"
	key := set.key()
	old := b.records[key]
	switch c.Action {
	case types.ChangeActionCreate:
		if old != nil {
			b.complain("Tried to create resource record set %s but it already exists", label)
			return nil
		}
	case types.ChangeActionDelete:
		switch {
		case old == nil:
			b.complain("Tried to delete resource record set %s but it was not found", label)
		case !same(old, set):
			b.complain("Tried to delete resource record set %s but the values provided do not match the current values", label)
		case b.zone.ofApex(set):
			b.complain("A HostedZone must contain at least one NS record and exactly one SOA record for the zone itself.")
		default:
			delete(b.records, key)
		}
		return nil
	case types.ChangeActionUpsert:
	default:
		return invalid("'%.40s' is not CREATE, DELETE or UPSERT", c.Action)
	}
	b.records[key] = set
	b.written = append(b.written, key)
	return nil
}

// same compares what a caller says of a record set with what it is. The order of values does not matter.
func same(a, b *recordSet) bool {
	sorted := func(set *recordSet) types.ResourceRecordSet {
		v := set.ResourceRecordSet
		v.ResourceRecords = slices.SortedFunc(slices.Values(v.ResourceRecords), func(x, y types.ResourceRecord) int { return cmp.Compare(deref(x.Value), deref(y.Value)) })
		return v
	}
	return reflect.DeepEqual(sorted(a), sorted(b))
}

// check refuses what no record set can be.
func (s *Service) check(set *recordSet) error {
	if set.HealthCheckId != nil {
		return wire.Errorf("NoSuchHealthCheck", "There is no health check '%.80s'", *set.HealthCheckId).WithStatus(404)
	}
	switch {
	case !slices.Contains(set.Type.Values(), set.Type):
		return invalid("'%.40s' is not a type of records", set.Type)
	case set.CidrRoutingConfig != nil || set.Failover != "" || set.GeoLocation != nil || set.GeoProximityLocation != nil ||
		set.MultiValueAnswer != nil || set.Region != "" || set.TrafficPolicyInstanceId != nil:
		return invalid("Of the routing policies only weights are modelled")
	case set.Weight != nil && (*set.Weight < 0 || *set.Weight > 255):
		return invalid("The weight %d is not between 0 and 255", *set.Weight)
	case (set.Weight == nil) != (set.SetIdentifier == nil):
		return invalid("A weight needs a set identifier, and a set identifier a weight")
	case set.SetIdentifier != nil && (*set.SetIdentifier == "" || len(*set.SetIdentifier) > 128):
		return invalid("A set identifier must have 1 to 128 characters")
	case set.AliasTarget != nil && (set.TTL != nil || len(set.ResourceRecords) > 0):
		return invalid("An alias has neither TTL nor values")
	case set.AliasTarget != nil && (deref(set.AliasTarget.DNSName) == "" || deref(set.AliasTarget.HostedZoneId) == ""):
		return invalid("An alias needs the name of its target and the hosted zone of that name")
	case set.AliasTarget == nil && (set.TTL == nil || *set.TTL < 0 || *set.TTL > 1<<31-1):
		return invalid("A record set that is no alias needs a TTL of 0 to %d", 1<<31-1)
	case set.AliasTarget == nil && len(set.ResourceRecords) == 0:
		return invalid("A record set that is no alias needs values")
	}
	return nil
}

// checkValues looks at values as far as their type says what they have to be.
func (b *batch) checkValues(set *recordSet) {
	seen := map[string]bool{}
	for _, r := range set.ResourceRecords {
		value := deref(r.Value)
		a, err := netip.ParseAddr(value)
		wrong := ""
		switch set.Type {
		case types.RRTypeA:
			if err != nil || !a.Is4() {
				wrong = "is not an IPv4 address"
			}
		case types.RRTypeAaaa:
			if err != nil || !a.Is6() {
				wrong = "is not an IPv6 address"
			}
		case types.RRTypeTxt, types.RRTypeSpf:
			if len(value) < 2 || value[0] != '"' || value[len(value)-1] != '"' {
				wrong = "should be enclosed in quotation marks"
			}
		case types.RRTypeCname, types.RRTypeNs, types.RRTypePtr:
			if _, err := parseName(value); err != nil || value == "" {
				wrong = "is not a domain name"
			}
		}
		if value == "" {
			wrong = "is empty"
		}
		if seen[value] {
			wrong = "is given twice"
		}
		seen[value] = true
		if wrong != "" {
			b.complain("Invalid Resource Record: FATAL problem: the value '%.260s' of %s %s %s", value, set.Type, *set.Name, wrong)
		}
	}
	if set.Type == types.RRTypeCname && len(set.ResourceRecords) > 1 {
		b.complain("A CNAME record set can have one value only: %s", *set.Name)
	}
}

// validate looks at what the zone would become: rules about several record sets of a name, and aliases.
func (b *batch) validate() {
	if len(b.records) > maxRecords {
		b.complain("A zone can have at most %d record sets", maxRecords)
	}
	changed := map[string]bool{}
	for _, key := range b.written {
		if set := b.records[key]; set != nil {
			changed[*set.Name] = true
			b.checkAlias(set)
		}
	}
	kinds := map[string]map[types.RRType]int{}
	simple := map[string]int{}
	for _, set := range b.records {
		if !changed[*set.Name] {
			continue
		}
		if kinds[*set.Name] == nil {
			kinds[*set.Name] = map[types.RRType]int{}
		}
		kinds[*set.Name][set.Type]++
		if set.Weight == nil {
			simple[*set.Name+" "+string(set.Type)]++
		}
	}
	for _, name := range slices.Sorted(maps.Keys(kinds)) {
		if kinds[name][types.RRTypeCname] > 0 {
			switch {
			case name == *b.zone.Name:
				b.complain("RRSet of type CNAME with DNS name %s is not permitted at apex in zone %s", name, name)
			case len(kinds[name]) > 1:
				b.complain("RRSet of type CNAME with DNS name %s is not permitted as it conflicts with other records with the same DNS name in zone %s", name, *b.zone.Name)
			}
		}
		for kind, count := range kinds[name] {
			switch alone := simple[name+" "+string(kind)]; {
			case alone > 0 && count > alone:
				b.complain("RRSet with DNS name %s, type %s: simple and weighted record sets of one name and type cannot be mixed", name, kind)
			case count > maxWeighted:
				b.complain("RRSet with DNS name %s, type %s: there can be at most %d weighted record sets of one name and type", name, kind, maxWeighted)
			}
		}
	}
}

// checkAlias looks at the target of an alias: one in the zone has to be there, one that is a load balancer
// has to come with the hosted zone of that load balancer.
func (b *batch) checkAlias(set *recordSet) {
	if set.AliasTarget == nil {
		return
	}
	target, err := parseName(*set.AliasTarget.DNSName)
	if err != nil {
		b.complain("The alias target '%.260s' is not a domain name", *set.AliasTarget.DNSName)
		return
	}
	hosted := strings.TrimPrefix(*set.AliasTarget.HostedZoneId, "/hostedzone/")
	if hosted == strings.TrimPrefix(*b.zone.Id, "/hostedzone/") {
		for _, other := range b.records {
			if *other.Name == target && other.Type == set.Type && other.key() != set.key() {
				return
			}
		}
		b.complain("Tried to create an alias that targets %s, type %s in zone %s, but that target was not found", target, set.Type, hosted)
		return
	}
	if b.service.config.Balancer == nil {
		return
	}
	zone, _, ok := b.service.config.Balancer(strings.TrimPrefix(target, "dualstack."))
	if ok && zone != hosted {
		b.complain("Tried to create an alias that targets %s, type %s in zone %s, but the alias target name does not lie within the target zone", target, set.Type, hosted)
	}
}
