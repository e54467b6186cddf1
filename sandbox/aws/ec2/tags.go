package ec2

import (
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// setTags adds tags that everybody sees at once.
func (s *Service) setTags(id string, keysAndValues ...string) {
	tags, _ := s.tags.get(id)
	tags = maps.Clone(tags)
	if tags == nil {
		tags = map[string]string{}
	}
	for i := 0; i+1 < len(keysAndValues); i += 2 {
		tags[keysAndValues[i]] = keysAndValues[i+1]
	}
	s.tags.settle(id, tags)
}

// tagsOf are the tags of a resource as r sees them.
func (s *Service) tagsOf(r eventual.Reader, id string) map[string]string {
	v := s.tags.values[id]
	if v == nil {
		return nil
	}
	tags, ok := v.Read(r)
	if !ok {
		return nil
	}
	return tags
}

func (s *Service) tagList(r eventual.Reader, id string) []types.Tag { return tagList(s.tagsOf(r, id)) }

func tagList(tags map[string]string) []types.Tag {
	list := []types.Tag{}
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		list = append(list, types.Tag{Key: new(key), Value: new(tags[key])})
	}
	return list
}

// tagsFor takes the tags of one type of resource out of tag specifications. Those of others that the operation makes, too, are left alone.
func tagsFor(specifications []types.TagSpecification, kind types.ResourceType, others ...types.ResourceType) (map[string]string, error) {
	tags := map[string]string{}
	for _, spec := range specifications {
		if slices.Contains(others, spec.ResourceType) {
			continue
		}
		if spec.ResourceType != kind {
			return nil, invalidValue("'%s' is not a valid taggable resource type for this operation.", spec.ResourceType)
		}
		for _, t := range spec.Tags {
			if err := checkTag(t); err != nil {
				return nil, err
			}
			if _, twice := tags[*t.Key]; twice {
				return nil, invalidValue("Duplicate tag key '%s' specified.", *t.Key)
			}
			tags[*t.Key] = deref(t.Value)
		}
	}
	if len(tags) > maxTags {
		return nil, exceeded("TagLimitExceeded", "Tags for a resource", maxTags)
	}
	return tags, nil
}

func checkTag(t types.Tag) error {
	key := deref(t.Key)
	switch {
	case key == "" || len([]rune(key)) > 127:
		return invalidValue("Tag key '%.130s' must have 1 to 127 characters", key)
	case strings.HasPrefix(strings.ToLower(key), "aws:"):
		return invalidValue("Tag keys starting with 'aws:' are reserved for internal use")
	case len([]rune(deref(t.Value))) > 256:
		return invalidValue("Tag value of '%s' exceeds 256 characters", key)
	}
	return nil
}

// taggable is a kind of resource that can have tags.
type taggable struct {
	naming
	kind   types.ResourceType
	exists func(eventual.Reader, string) bool
}

func (s *Service) taggable(id string) (taggable, bool) {
	for _, t := range []taggable{
		{vpcID, types.ResourceTypeVpc, sees(s.vpcs)},
		{subnetID, types.ResourceTypeSubnet, sees(s.subnets)},
		{groupID, types.ResourceTypeSecurityGroup, sees(s.groups)},
		{ruleID, types.ResourceTypeSecurityGroupRule, func(_ eventual.Reader, id string) bool { return s.ruleExists(id) }},
		{instanceID, types.ResourceTypeInstance, sees(s.instances)},
		{interfaceID, types.ResourceTypeNetworkInterface, sees(s.interfaces)},
		{routeTableID, types.ResourceTypeRouteTable, sees(s.routeTables)},
		{gatewayID, types.ResourceTypeInternetGateway, sees(s.gateways)},
		{allocationID, types.ResourceTypeElasticIp, sees(s.addresses)},
		{prefixListID, types.ResourceTypePrefixList, sees(s.prefixLists)},
	} {
		if strings.HasPrefix(id, t.prefix) {
			return t, true
		}
	}
	return taggable{}, false
}

func sees[T any](t *table[T]) func(eventual.Reader, string) bool {
	return func(r eventual.Reader, id string) bool { _, ok := t.found(r, id); return ok }
}

func (s *Service) ruleExists(id string) bool {
	for _, g := range s.groups.all {
		if slices.ContainsFunc(slices.Concat(g.ingress, g.egress), func(r rule) bool { return r.id == id }) {
			return true
		}
	}
	return false
}

// CreateTags and DeleteTags are the operations for programs in the same process.
func (s *Service) CreateTags(r eventual.Reader, in *ec2.CreateTagsInput) (*ec2.CreateTagsOutput, error) {
	return change(s, s.createTags, r, in)
}

// DeleteTags removes tags.
func (s *Service) DeleteTags(r eventual.Reader, in *ec2.DeleteTagsInput) (*ec2.DeleteTagsOutput, error) {
	return change(s, s.deleteTags, r, in)
}

// createTags adds tags to resources; present keys get the new value.
func (s *Service) createTags(r eventual.Reader, in *ec2.CreateTagsInput) (func() *ec2.CreateTagsOutput, error) {
	if len(in.Tags) == 0 {
		return nil, missingParameter("Tag")
	}
	for _, t := range in.Tags {
		if err := checkTag(t); err != nil {
			return nil, err
		}
	}
	if err := s.checkResources(r, in.Resources); err != nil {
		return nil, err
	}
	changed := map[string]map[string]string{}
	for _, id := range in.Resources {
		tags, _ := s.tags.get(id)
		tags = maps.Clone(tags)
		if tags == nil {
			tags = map[string]string{}
		}
		for _, t := range in.Tags {
			tags[*t.Key] = deref(t.Value)
		}
		if len(tags) > maxTags {
			return nil, exceeded("TagLimitExceeded", "Tags for a resource", maxTags)
		}
		changed[id] = tags
	}
	return func() *ec2.CreateTagsOutput {
		for id, tags := range changed {
			s.tags.put(id, tags)
		}
		return &ec2.CreateTagsOutput{}
	}, nil
}

func (s *Service) checkResources(r eventual.Reader, ids []string) error {
	if len(ids) == 0 {
		return missingParameter("resourceIdSet")
	}
	if len(ids) > 1000 {
		return invalidValue("At most 1000 resources can be named, not %d", len(ids))
	}
	for _, id := range ids {
		t, ok := s.taggable(id)
		switch {
		case !ok:
			return wire.Errorf("InvalidID", "The ID '%.60s' is not valid", id)
		case !t.exists(r, id):
			return t.missing(id)
		}
	}
	return nil
}

// deleteTags removes tags: all, or those of the given keys, of a given value only if that is the tag's.
func (s *Service) deleteTags(r eventual.Reader, in *ec2.DeleteTagsInput) (func() *ec2.DeleteTagsOutput, error) {
	if err := s.checkResources(r, in.Resources); err != nil {
		return nil, err
	}
	return func() *ec2.DeleteTagsOutput {
		for _, id := range in.Resources {
			tags, tagged := s.tags.get(id)
			if !tagged {
				continue
			}
			left := map[string]string{}
			if len(in.Tags) > 0 {
				left = maps.Clone(tags)
			}
			for _, t := range in.Tags {
				if value, tagged := left[deref(t.Key)]; tagged && (t.Value == nil || *t.Value == value) {
					delete(left, *t.Key)
				}
			}
			s.tags.put(id, left)
		}
		return &ec2.DeleteTagsOutput{}
	}, nil
}

var tagKind = kind[types.TagDescription]{
	id: func(t types.TagDescription) string { return *t.ResourceId + "\x00" + *t.Key }, ids: naming{prefix: "tag"},
	filters: filters[types.TagDescription]{
		"key":           func(_ *Service, t types.TagDescription) []string { return one(t.Key) },
		"tag-key":       func(_ *Service, t types.TagDescription) []string { return one(t.Key) },
		"value":         func(_ *Service, t types.TagDescription) []string { return one(t.Value) },
		"resource-id":   func(_ *Service, t types.TagDescription) []string { return one(t.ResourceId) },
		"resource-type": func(_ *Service, t types.TagDescription) []string { return given(string(t.ResourceType)) },
	},
}

// DescribeTags lists tags of all resources. Its filter tag:<key> compares the value of the tag itself.
func (s *Service) DescribeTags(r eventual.Reader, in *ec2.DescribeTagsInput) (*ec2.DescribeTagsOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []types.TagDescription
	for id := range s.tags.all {
		t, ok := s.taggable(id)
		if !ok || !t.exists(r, id) {
			continue
		}
		for key, value := range s.tagsOf(r, id) {
			all = append(all, types.TagDescription{ResourceId: new(id), ResourceType: t.kind, Key: new(key), Value: new(value)})
		}
	}
	var filters []types.Filter
	for _, f := range in.Filters {
		if key, ok := strings.CutPrefix(deref(f.Name), "tag:"); ok {
			filters = append(filters, types.Filter{Name: new("key"), Values: []string{key}}, types.Filter{Name: new("value"), Values: f.Values})
			continue
		}
		filters = append(filters, f)
	}
	found, next, err := list(s, r, tagKind, all, query{nil, filters, in.MaxResults, in.NextToken})
	if err != nil {
		return nil, err
	}
	return &ec2.DescribeTagsOutput{Tags: found, NextToken: next}, nil
}
