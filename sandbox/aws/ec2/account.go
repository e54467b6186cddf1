package ec2

import (
	"slices"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
)

// zoneName is how zones are named: not by ids with digits.
var zoneKind = kind[types.AvailabilityZone]{
	id: func(z types.AvailabilityZone) string { return *z.ZoneName }, untagged: true,
	filters: filters[types.AvailabilityZone]{
		"group-name":    func(_ *Service, z types.AvailabilityZone) []string { return one(z.GroupName) },
		"message":       func(*Service, types.AvailabilityZone) []string { return nil },
		"region-name":   func(_ *Service, z types.AvailabilityZone) []string { return one(z.RegionName) },
		"state":         func(_ *Service, z types.AvailabilityZone) []string { return given(string(z.State)) },
		"zone-id":       func(_ *Service, z types.AvailabilityZone) []string { return one(z.ZoneId) },
		"zone-name":     func(_ *Service, z types.AvailabilityZone) []string { return one(z.ZoneName) },
		"zone-type":     func(_ *Service, z types.AvailabilityZone) []string { return one(z.ZoneType) },
		"opt-in-status": func(_ *Service, z types.AvailabilityZone) []string { return given(string(z.OptInStatus)) },
	},
}

// DescribeAvailabilityZones lists the zones of the configuration.
func (s *Service) DescribeAvailabilityZones(r eventual.Reader, in *ec2.DescribeAvailabilityZonesInput) (*ec2.DescribeAvailabilityZonesOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.config
	var all []types.AvailabilityZone
	for _, zone := range c.Zones {
		all = append(all, types.AvailabilityZone{
			ZoneName: new(zone), ZoneId: new(s.zoneIDOf(zone)), RegionName: new(c.Region), GroupName: new(c.Region), NetworkBorderGroup: new(c.Region),
			GroupLongName: new(c.Region + " 1"), ZoneType: new("availability-zone"), State: types.AvailabilityZoneStateAvailable,
			OptInStatus: types.AvailabilityZoneOptInStatusOptInNotRequired, Messages: []types.AvailabilityZoneMessage{},
		})
	}
	for _, name := range in.ZoneNames {
		if !slices.Contains(c.Zones, name) {
			return nil, invalidValue("Invalid availability zone: [%.40s]", name)
		}
	}
	for _, id := range in.ZoneIds {
		if !slices.ContainsFunc(all, func(z types.AvailabilityZone) bool { return *z.ZoneId == id }) {
			return nil, invalidValue("Invalid availability zone-id: [%.40s]", id)
		}
	}
	if len(in.ZoneNames)+len(in.ZoneIds) > 0 {
		all = slices.DeleteFunc(all, func(z types.AvailabilityZone) bool {
			return !slices.Contains(in.ZoneNames, *z.ZoneName) && !slices.Contains(in.ZoneIds, *z.ZoneId)
		})
	}
	found, _, err := list(s, r, zoneKind, all, query{filters: in.Filters})
	if err != nil {
		return nil, err
	}
	return &ec2.DescribeAvailabilityZonesOutput{AvailabilityZones: found}, nil
}

var regionKind = kind[types.Region]{
	id: func(r types.Region) string { return *r.RegionName }, untagged: true,
	filters: filters[types.Region]{
		"endpoint":      func(_ *Service, r types.Region) []string { return one(r.Endpoint) },
		"region-name":   func(_ *Service, r types.Region) []string { return one(r.RegionName) },
		"opt-in-status": func(_ *Service, r types.Region) []string { return one(r.OptInStatus) },
	},
}

// DescribeRegions lists the one region that there is.
func (s *Service) DescribeRegions(r eventual.Reader, in *ec2.DescribeRegionsInput) (*ec2.DescribeRegionsOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	region := s.config.Region
	for _, name := range in.RegionNames {
		if name != region {
			return nil, invalidValue("Invalid region name: [%.40s]: the sandbox has %s only", name, region)
		}
	}
	all := []types.Region{{RegionName: new(region), Endpoint: new("ec2." + region + ".amazonaws.com"), OptInStatus: new("opt-in-not-required")}}
	found, _, err := list(s, r, regionKind, all, query{filters: in.Filters})
	if err != nil {
		return nil, err
	}
	return &ec2.DescribeRegionsOutput{Regions: found}, nil
}

// DescribeAccountAttributes tells a few numbers of the account.
func (s *Service) DescribeAccountAttributes(_ eventual.Reader, in *ec2.DescribeAccountAttributesInput) (*ec2.DescribeAccountAttributesOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	standard := "none"
	if v, ok := s.defaultVPC(); ok {
		standard = *v.VpcId
	}
	q := s.config.Quotas
	out := &ec2.DescribeAccountAttributesOutput{AccountAttributes: []types.AccountAttribute{}}
	known := []string{}
	for _, a := range []struct{ name, value string }{
		{"supported-platforms", "VPC"}, {"default-vpc", standard}, {"max-instances", "20"}, {"vpc-max-security-groups-per-interface", strconv.Itoa(q.GroupsPerInterface)},
		{"max-elastic-ips", strconv.Itoa(q.Addresses)}, {"vpc-max-elastic-ips", strconv.Itoa(q.Addresses)},
	} {
		known = append(known, a.name)
		if len(in.AttributeNames) == 0 || slices.Contains(in.AttributeNames, types.AccountAttributeName(a.name)) {
			out.AccountAttributes = append(out.AccountAttributes, types.AccountAttribute{
				AttributeName: new(a.name), AttributeValues: []types.AccountAttributeValue{{AttributeValue: new(a.value)}},
			})
		}
	}
	for _, name := range in.AttributeNames {
		if !slices.Contains(known, string(name)) {
			return nil, invalidValue("Invalid attribute name '%.60s'", name)
		}
	}
	return out, nil
}
