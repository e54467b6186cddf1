package route53

import (
	"maps"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// Tagged are the tags of all zones by ARN.
func (s *Service) Tagged() map[string]map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[string]map[string]string, len(s.zones))
	for id, z := range s.zones {
		all["arn:aws:route53:::hostedzone/"+id] = z.tags
	}
	return all
}

func (s *Service) tagSet(kind types.TagResourceType, id string) (types.ResourceTagSet, error) {
	if kind != types.TagResourceTypeHostedzone {
		return types.ResourceTagSet{}, wire.Errorf("NoSuchHealthCheck", "Only hosted zones have tags here, not a '%.40s'", kind).WithStatus(404)
	}
	z, err := s.zone(&id)
	if err != nil {
		return types.ResourceTagSet{}, err
	}
	set := types.ResourceTagSet{ResourceId: &id, ResourceType: kind, Tags: []types.Tag{}}
	for _, key := range slices.Sorted(maps.Keys(z.tags)) {
		set.Tags = append(set.Tags, types.Tag{Key: &key, Value: new(z.tags[key])})
	}
	return set, nil
}

// ListTagsForResource lists the tags of a zone.
func (s *Service) ListTagsForResource(_ eventual.Reader, in *route53.ListTagsForResourceInput) (*route53.ListTagsForResourceOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	set, err := s.tagSet(in.ResourceType, deref(in.ResourceId))
	if err != nil {
		return nil, err
	}
	return &route53.ListTagsForResourceOutput{ResourceTagSet: &set}, nil
}

// ListTagsForResources lists the tags of up to ten zones.
func (s *Service) ListTagsForResources(_ eventual.Reader, in *route53.ListTagsForResourcesInput) (*route53.ListTagsForResourcesOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(in.ResourceIds) == 0 || len(in.ResourceIds) > 10 {
		return nil, invalid("Between 1 and 10 resources can be named, not %d", len(in.ResourceIds))
	}
	out := &route53.ListTagsForResourcesOutput{ResourceTagSets: []types.ResourceTagSet{}}
	for _, id := range in.ResourceIds {
		set, err := s.tagSet(in.ResourceType, id)
		if err != nil {
			return nil, err
		}
		out.ResourceTagSets = append(out.ResourceTagSets, set)
	}
	return out, nil
}

// ChangeTagsForResource sets and removes tags of a zone.
func (s *Service) ChangeTagsForResource(_ eventual.Reader, in *route53.ChangeTagsForResourceInput) (*route53.ChangeTagsForResourceOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.tagSet(in.ResourceType, deref(in.ResourceId)); err != nil {
		return nil, err
	}
	z, err := s.zone(in.ResourceId)
	if err != nil {
		return nil, err
	}
	tags := maps.Clone(z.tags)
	for _, key := range in.RemoveTagKeys {
		delete(tags, key)
	}
	for _, t := range in.AddTags {
		if deref(t.Key) == "" || len(*t.Key) > 128 || len(deref(t.Value)) > 256 {
			return nil, invalid("A tag needs a key of 1 to 128 characters and a value of at most 256")
		}
		tags[*t.Key] = deref(t.Value)
	}
	if len(tags) > 10 {
		return nil, invalid("A hosted zone can have at most 10 tags")
	}
	z.tags = tags
	return &route53.ChangeTagsForResourceOutput{}, nil
}
