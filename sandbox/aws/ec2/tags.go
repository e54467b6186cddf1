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

const maxTags = 50

func (s *Service) setTags(id string, keysAndValues ...string) {
	if s.tags[id] == nil {
		s.tags[id] = map[string]string{}
	}
	for i := 0; i+1 < len(keysAndValues); i += 2 {
		s.tags[id][keysAndValues[i]] = keysAndValues[i+1]
	}
}

func (s *Service) tagList(id string) []types.Tag {
	list := []types.Tag{}
	for _, key := range slices.Sorted(maps.Keys(s.tags[id])) {
		list = append(list, types.Tag{Key: new(key), Value: new(s.tags[id][key])})
	}
	return list
}

// tagsFor takes the tags of one type of resource out of tag specifications.
func tagsFor(specifications []types.TagSpecification, kind types.ResourceType) (map[string]string, error) {
	tags := map[string]string{}
	for _, spec := range specifications {
		if spec.ResourceType != kind {
			return nil, wire.Errorf("InvalidParameterValue", "'%s' is not a valid taggable resource type for this operation.", spec.ResourceType)
		}
		for _, t := range spec.Tags {
			if err := checkTag(t); err != nil {
				return nil, err
			}
			if _, twice := tags[*t.Key]; twice {
				return nil, wire.Errorf("InvalidParameterValue", "Duplicate tag key '%s' specified.", *t.Key)
			}
			tags[*t.Key] = deref(t.Value)
		}
	}
	if len(tags) > maxTags {
		return nil, wire.Errorf("TagLimitExceeded", "The maximum number of Tags for a resource, %d, has been reached.", maxTags)
	}
	return tags, nil
}

func checkTag(t types.Tag) error {
	key := deref(t.Key)
	switch {
	case key == "" || len([]rune(key)) > 127:
		return wire.Errorf("InvalidParameterValue", "Tag key '%.130s' must have 1 to 127 characters", key)
	case strings.HasPrefix(strings.ToLower(key), "aws:"):
		return wire.Errorf("InvalidParameterValue", "Tag keys starting with 'aws:' are reserved for internal use")
	case len([]rune(deref(t.Value))) > 256:
		return wire.Errorf("InvalidParameterValue", "Tag value of '%s' exceeds 256 characters", key)
	}
	return nil
}

// resourceType tells by prefix what an id names; notFound is the error code if it names nothing.
func (s *Service) resourceType(id string) (kind types.ResourceType, notFound string, exists bool) {
	prefix, _, _ := strings.Cut(id, "-")
	switch prefix {
	case "vpc":
		return types.ResourceTypeVpc, "InvalidVpcID.NotFound", id == *s.vpc.VpcId
	case "subnet":
		return types.ResourceTypeSubnet, "InvalidSubnetID.NotFound", s.subnets[id] != nil
	case "sg":
		return types.ResourceTypeSecurityGroup, "InvalidGroup.NotFound", s.groups[id] != nil
	case "i":
		return types.ResourceTypeInstance, "InvalidInstanceID.NotFound", s.instances[id] != nil
	case "eni":
		return types.ResourceTypeNetworkInterface, "InvalidNetworkInterfaceID.NotFound", s.interfaces[id] != nil
	case "rtb":
		return types.ResourceTypeRouteTable, "InvalidRouteTableID.NotFound", s.routeTables[id] != nil
	case "igw":
		return types.ResourceTypeInternetGateway, "InvalidInternetGatewayID.NotFound", id == *s.gateway.InternetGatewayId
	case "sgr":
		return types.ResourceTypeSecurityGroupRule, "InvalidSecurityGroupRuleId.NotFound", s.ruleExists(id)
	}
	return "", "InvalidID", false
}

func (s *Service) ruleExists(id string) bool {
	for _, g := range s.groups {
		if slices.ContainsFunc(slices.Concat(g.Get().ingress, g.Get().egress), func(r rule) bool { return r.id == id }) {
			return true
		}
	}
	return false
}

// CreateTags adds tags to resources; present keys get the new value.
func (s *Service) CreateTags(_ eventual.Reader, in *ec2.CreateTagsInput) (*ec2.CreateTagsOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(in.Tags) == 0 {
		return nil, wire.Errorf("MissingParameter", "The request must contain the parameter Tag")
	}
	for _, t := range in.Tags {
		if err := checkTag(t); err != nil {
			return nil, err
		}
	}
	if err := s.checkResources(in.Resources); err != nil {
		return nil, err
	}
	changed := map[string]map[string]string{}
	for _, id := range in.Resources {
		tags := maps.Clone(s.tags[id])
		if tags == nil {
			tags = map[string]string{}
		}
		for _, t := range in.Tags {
			tags[*t.Key] = deref(t.Value)
		}
		if len(tags) > maxTags {
			return nil, wire.Errorf("TagLimitExceeded", "The maximum number of Tags for a resource, %d, has been reached.", maxTags)
		}
		changed[id] = tags
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	maps.Copy(s.tags, changed)
	return &ec2.CreateTagsOutput{}, nil
}

func (s *Service) checkResources(ids []string) error {
	if len(ids) == 0 || len(ids) > 1000 {
		return wire.Errorf("InvalidParameterValue", "Between 1 and 1000 resources must be named, not %d", len(ids))
	}
	for _, id := range ids {
		if _, notFound, exists := s.resourceType(id); !exists {
			return wire.Errorf(notFound, "The ID '%s' is not valid", id)
		}
	}
	return nil
}

// DeleteTags removes tags: all, or those of the given keys, of a given value only if that is the tag's.
func (s *Service) DeleteTags(_ eventual.Reader, in *ec2.DeleteTagsInput) (*ec2.DeleteTagsOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.checkResources(in.Resources); err != nil {
		return nil, err
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	for _, id := range in.Resources {
		if len(in.Tags) == 0 {
			delete(s.tags, id)
		}
		for _, t := range in.Tags {
			if value, tagged := s.tags[id][deref(t.Key)]; tagged && (t.Value == nil || *t.Value == value) {
				delete(s.tags[id], *t.Key)
			}
		}
	}
	return &ec2.DeleteTagsOutput{}, nil
}

// DescribeTags lists tags of all resources.
func (s *Service) DescribeTags(_ eventual.Reader, in *ec2.DescribeTagsInput) (*ec2.DescribeTagsOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []types.TagDescription
	for id, tags := range s.tags {
		kind, _, exists := s.resourceType(id)
		if !exists {
			continue
		}
		for key, value := range tags {
			all = append(all, types.TagDescription{ResourceId: new(id), ResourceType: kind, Key: new(key), Value: new(value)})
		}
	}
	k := kind[types.TagDescription]{
		id: func(t types.TagDescription) string { return *t.ResourceId + "\x00" + *t.Key },
		filters: map[string]func(types.TagDescription) []string{
			"key":           func(t types.TagDescription) []string { return one(t.Key) },
			"value":         func(t types.TagDescription) []string { return one(t.Value) },
			"resource-id":   func(t types.TagDescription) []string { return one(t.ResourceId) },
			"resource-type": func(t types.TagDescription) []string { return []string{string(t.ResourceType)} },
		},
	}
	found, next, err := find(k, all, nil, query{nil, in.Filters, in.MaxResults, in.NextToken})
	if err != nil {
		return nil, err
	}
	return &ec2.DescribeTagsOutput{Tags: found, NextToken: next}, nil
}
