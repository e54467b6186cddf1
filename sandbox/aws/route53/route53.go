// Package route53 is Route 53: hosted zones, record sets (simple, weighted and aliases), the status of
// changes, and what its name servers answer.
//
// A change is told by the API at once and answered by the name servers when it is INSYNC; the profile
// says how long that takes. Not modelled: routing by latency, place, failover and other values than
// weights, health checks, DNSSEC, delegation sets that are shared, traffic policies, the VPCs of private
// zones (a private zone answers everybody).
// Changes of one zone are processed one after the other: who sends the next one within a moment is told PriorRequestNotComplete.
package route53

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/resourceid"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// Config is what the service depends on.
type Config struct {
	IDs   *resourceid.Source
	Draws *profile.Draws
	// Balancer finds a load balancer by DNS name: the hosted zone of the name, and whether it has healthy
	// targets. Nil: there are none.
	Balancer func(name string) (hostedZone string, healthy, ok bool)
}

const (
	maxZones     = 500
	maxRecords   = 10_000
	maxZonePage  = 100
	maxSetPage   = 300
	maxWeighted  = 100
	maxBatch     = 1000
	maxBatchText = 32_000
)

// Service is Route 53 of one account. Its methods may be called from several goroutines.
type Service struct {
	config Config

	mu      sync.Mutex
	zones   map[string]*zone // by id
	changes map[string]change
}

type change struct {
	info   types.ChangeInfo
	insync time.Time
}

// zone is a hosted zone with its records as the API tells them, and as the name servers have them.
type zone struct {
	types.HostedZone
	nameServers []string
	vpcs        []types.VPC
	tags        map[string]string
	records     records
	versions    []version
	// busy is until when the last change is processed.
	busy time.Time
}

// records are record sets by their sort keys. A map that was put into a version is not changed any more.
type records map[string]*recordSet

type recordSet struct {
	types.ResourceRecordSet
	// since is when the name servers have it.
	since time.Time
}

type version struct {
	from    time.Time
	records records
}

// New returns a service without zones.
func New(config Config) *Service {
	return &Service{config: config, zones: map[string]*zone{}, changes: map[string]change{}}
}

// Operations are the operations that the service answers.
func (s *Service) Operations() wire.Operations[eventual.Reader] {
	return wire.NewOperations(
		wire.Of(s.CreateHostedZone),
		wire.Of(s.GetHostedZone),
		wire.Of(s.DeleteHostedZone),
		wire.Of(s.UpdateHostedZoneComment),
		wire.Of(s.GetHostedZoneCount),
		wire.Of(s.ListHostedZones),
		wire.Of(s.ListHostedZonesByName),
		wire.Of(s.ListResourceRecordSets),
		wire.Of(s.ChangeResourceRecordSets),
		wire.Of(s.GetChange),
		wire.Of(s.ListTagsForResource),
		wire.Of(s.ListTagsForResources),
		wire.Of(s.ChangeTagsForResource),
	)
}

func invalid(format string, args ...any) error { return wire.Errorf("InvalidInput", format, args...) }

func (s *Service) zone(id *string) (*zone, error) {
	found := s.zones[strings.TrimPrefix(deref(id), "/hostedzone/")]
	if found == nil {
		return nil, wire.Errorf("NoSuchHostedZone", "No hosted zone found with ID: %.60s", deref(id)).WithStatus(404)
	}
	return found, nil
}

// id is the form of Route 53's ids: a letter and capitals.
func (s *Service) id(letter, name string) string {
	return letter + strings.ToUpper(s.config.IDs.Hex(20, "route53 "+letter, name))
}

// CreateHostedZone makes a zone with the records that every zone has.
func (s *Service) CreateHostedZone(_ eventual.Reader, in *route53.CreateHostedZoneInput) (*route53.CreateHostedZoneOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name, err := parseName(deref(in.Name))
	if err != nil || name == "." {
		return nil, wire.Errorf("InvalidDomainName", "The domain name '%.260s' is not valid", deref(in.Name))
	}
	switch {
	case deref(in.CallerReference) == "" || len(*in.CallerReference) > 128:
		return nil, invalid("CallerReference must have 1 to 128 characters")
	case in.DelegationSetId != nil:
		return nil, wire.Errorf("NoSuchDelegationSet", "There is no reusable delegation set '%.60s'", *in.DelegationSetId)
	case len(s.zones) >= maxZones:
		return nil, wire.Errorf("TooManyHostedZones", "An account can have at most %d hosted zones", maxZones)
	}
	for _, other := range s.zones {
		if *other.CallerReference == *in.CallerReference {
			return nil, wire.Errorf("HostedZoneAlreadyExists", "A hosted zone has already been created with the caller reference %s", *in.CallerReference).WithStatus(409)
		}
	}
	z := &zone{
		HostedZone: types.HostedZone{
			Id: new("/hostedzone/" + s.id("Z", name)), Name: &name, CallerReference: in.CallerReference, Config: &types.HostedZoneConfig{PrivateZone: in.VPC != nil},
		},
		tags: map[string]string{}, records: records{},
	}
	if in.HostedZoneConfig != nil {
		z.Config.Comment = in.HostedZoneConfig.Comment
	}
	if in.VPC != nil {
		z.vpcs = []types.VPC{*in.VPC}
	}
	for i, top := range []string{"com", "net", "org", "co.uk"} {
		number := len(s.zones)*4 + i
		z.nameServers = append(z.nameServers, fmt.Sprintf("ns-%d.awsdns-%02d.%s", number, number%64, top))
	}
	s.zones[strings.TrimPrefix(*z.Id, "/hostedzone/")] = z
	made := s.newChange(z, nil)
	apex := func(kind types.RRType, ttl int64, values ...string) {
		set := &recordSet{ResourceRecordSet: types.ResourceRecordSet{Name: &name, Type: kind, TTL: &ttl}, since: made.insync}
		for _, value := range values {
			set.ResourceRecords = append(set.ResourceRecords, types.ResourceRecord{Value: &value})
		}
		z.records[set.key()] = set
	}
	var absolute []string
	for _, server := range z.nameServers {
		absolute = append(absolute, server+".")
	}
	apex(types.RRTypeNs, 172_800, absolute...)
	apex(types.RRTypeSoa, 900, absolute[0]+" awsdns-hostmaster.amazon.com. 1 7200 900 1209600 86400")
	z.publish(made.insync)
	out := &route53.CreateHostedZoneOutput{
		HostedZone: new(z.told()), ChangeInfo: &made.info, Location: new("https://route53.amazonaws.com/2013-04-01" + *z.Id), VPC: in.VPC,
	}
	if in.VPC == nil {
		out.DelegationSet = &types.DelegationSet{NameServers: z.nameServers}
	}
	return out, nil
}

// told is the zone as the API tells it.
func (z *zone) told() types.HostedZone {
	v := z.HostedZone
	v.Config = new(*z.Config)
	v.ResourceRecordSetCount = new(int64(len(z.records)))
	return v
}

// publish lets the name servers have the records from a time on.
func (z *zone) publish(from time.Time) {
	z.versions = append(z.versions, version{from, maps.Clone(z.records)})
}

// served are the records that the name servers have now. Older ones are forgotten.
func (z *zone) served(now time.Time) records {
	for len(z.versions) > 1 && !now.Before(z.versions[1].from) {
		z.versions = z.versions[1:]
	}
	if now.Before(z.versions[0].from) {
		return nil
	}
	return z.versions[0].records
}

// maxChanges bounds how many changes are remembered.
const maxChanges = 10_000

// newChange is a change of a zone that has just been accepted. It is not in sync before an earlier one is.
func (s *Service) newChange(z *zone, comment *string) change {
	now := time.Now().UTC()
	if len(s.changes) >= maxChanges {
		maps.DeleteFunc(s.changes, func(_ string, c change) bool { return now.Sub(c.insync) > time.Minute })
	}
	id := s.id("C", *z.Name)
	c := change{
		info:   types.ChangeInfo{Id: new("/change/" + id), Status: types.ChangeStatusPending, SubmittedAt: &now, Comment: comment},
		insync: now.Add(s.config.Draws.Once(profile.Route53InSync, id)),
	}
	z.busy = now.Add(min(processing(s.config.Draws), c.insync.Sub(now)))
	if len(z.versions) > 0 && c.insync.Before(z.versions[len(z.versions)-1].from) {
		c.insync = z.versions[len(z.versions)-1].from
	}
	s.changes[id] = c
	return c
}

// processing is how long Route 53 is busy with a change of a zone: an assumption, since AWS tells only that there is such a time. A profile without
// lags has none.
func processing(draws *profile.Draws) time.Duration {
	return time.Duration(draws.Scale() * float64(100*time.Millisecond))
}

// ready refuses a change of a zone that is busy with an earlier one.
func (z *zone) ready() error {
	if time.Now().Before(z.busy) {
		return wire.Errorf("PriorRequestNotComplete", "The request was rejected because Route 53 was still processing a prior request.")
	}
	return nil
}

// GetChange says whether all name servers have a change.
func (s *Service) GetChange(_ eventual.Reader, in *route53.GetChangeInput) (*route53.GetChangeOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, ok := s.changes[strings.TrimPrefix(deref(in.Id), "/change/")]
	if !ok {
		return nil, wire.Errorf("NoSuchChange", "Could not find resource with ID: %.60s", deref(in.Id)).WithStatus(404)
	}
	info := found.info
	if !time.Now().Before(found.insync) {
		info.Status = types.ChangeStatusInsync
	}
	return &route53.GetChangeOutput{ChangeInfo: &info}, nil
}

// GetHostedZone tells of a zone.
func (s *Service) GetHostedZone(_ eventual.Reader, in *route53.GetHostedZoneInput) (*route53.GetHostedZoneOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	z, err := s.zone(in.Id)
	if err != nil {
		return nil, err
	}
	out := &route53.GetHostedZoneOutput{HostedZone: new(z.told()), VPCs: z.vpcs}
	if !z.Config.PrivateZone {
		out.DelegationSet = &types.DelegationSet{NameServers: z.nameServers}
	}
	return out, nil
}

// DeleteHostedZone deletes a zone that has only the records that it was made with.
func (s *Service) DeleteHostedZone(_ eventual.Reader, in *route53.DeleteHostedZoneInput) (*route53.DeleteHostedZoneOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	z, err := s.zone(in.Id)
	if err != nil {
		return nil, err
	}
	if err := z.ready(); err != nil {
		return nil, err
	}
	for _, set := range z.records {
		if !z.ofApex(set) {
			return nil, wire.Errorf("HostedZoneNotEmpty", "The specified hosted zone contains non-required resource record sets and so cannot be deleted.")
		}
	}
	delete(s.zones, strings.TrimPrefix(*z.Id, "/hostedzone/"))
	made := s.newChange(z, nil)
	return &route53.DeleteHostedZoneOutput{ChangeInfo: &made.info}, nil
}

// ofApex says whether a record set is one that every zone has.
func (z *zone) ofApex(set *recordSet) bool {
	return *set.Name == *z.Name && (set.Type == types.RRTypeNs || set.Type == types.RRTypeSoa)
}

// UpdateHostedZoneComment changes the comment.
func (s *Service) UpdateHostedZoneComment(_ eventual.Reader, in *route53.UpdateHostedZoneCommentInput) (*route53.UpdateHostedZoneCommentOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	z, err := s.zone(in.Id)
	if err != nil {
		return nil, err
	}
	z.Config.Comment = in.Comment
	return &route53.UpdateHostedZoneCommentOutput{HostedZone: new(z.told())}, nil
}

// GetHostedZoneCount counts the zones.
func (s *Service) GetHostedZoneCount(eventual.Reader, *route53.GetHostedZoneCountInput) (*route53.GetHostedZoneCountOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &route53.GetHostedZoneCountOutput{HostedZoneCount: new(int64(len(s.zones)))}, nil
}

func pageSize(asked *int32, most int) (int, error) {
	if asked == nil {
		return most, nil
	}
	if *asked < 1 {
		return 0, invalid("maxitems %d is not above 0", *asked)
	}
	return min(int(*asked), most), nil
}

// ListHostedZones lists the zones by id.
func (s *Service) ListHostedZones(_ eventual.Reader, in *route53.ListHostedZonesInput) (*route53.ListHostedZonesOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	limit, err := pageSize(in.MaxItems, maxZonePage)
	if err != nil {
		return nil, err
	}
	ids := slices.Sorted(maps.Keys(s.zones))
	if in.Marker != nil { // the first of this page
		at := slices.Index(ids, *in.Marker)
		if at < 0 {
			return nil, invalid("The marker '%.60s' is not valid", *in.Marker)
		}
		ids = ids[at:]
	}
	out := &route53.ListHostedZonesOutput{HostedZones: []types.HostedZone{}, MaxItems: new(int32(limit)), Marker: in.Marker}
	for _, id := range ids {
		z := s.zones[id]
		if in.HostedZoneType == types.HostedZoneTypePrivateHostedZone && !z.Config.PrivateZone {
			continue
		}
		if len(out.HostedZones) == limit {
			out.IsTruncated, out.NextMarker = true, &id
			break
		}
		out.HostedZones = append(out.HostedZones, z.told())
	}
	return out, nil
}

// ListHostedZonesByName lists the zones in the order of their names, those of one name by id.
func (s *Service) ListHostedZonesByName(_ eventual.Reader, in *route53.ListHostedZonesByNameInput) (*route53.ListHostedZonesByNameOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	limit, err := pageSize(in.MaxItems, maxZonePage)
	if err != nil {
		return nil, err
	}
	key := func(name, id string) string { return sortKey(name, strings.TrimPrefix(id, "/hostedzone/"), "") }
	sorted := map[string]*zone{}
	for id, z := range s.zones {
		sorted[key(*z.Name, id)] = z
	}
	start := ""
	if in.DNSName != nil {
		name, err := parseName(*in.DNSName)
		if err != nil {
			return nil, wire.Errorf("InvalidDomainName", "The domain name '%.260s' is not valid", *in.DNSName)
		}
		start = key(name, deref(in.HostedZoneId))
	} else if in.HostedZoneId != nil {
		return nil, invalid("hostedzoneid can only be given together with dnsname")
	}
	out := &route53.ListHostedZonesByNameOutput{
		HostedZones: []types.HostedZone{}, MaxItems: new(int32(limit)), DNSName: in.DNSName, HostedZoneId: in.HostedZoneId,
	}
	for _, k := range slices.Sorted(maps.Keys(sorted)) {
		if k < start {
			continue
		}
		z := sorted[k]
		if len(out.HostedZones) == limit {
			out.IsTruncated, out.NextDNSName = true, z.Name
			out.NextHostedZoneId = new(strings.TrimPrefix(*z.Id, "/hostedzone/"))
			break
		}
		out.HostedZones = append(out.HostedZones, z.told())
	}
	return out, nil
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
