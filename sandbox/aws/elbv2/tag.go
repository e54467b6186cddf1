package elbv2

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

const (
	maxTags         = 50
	maxDescribeARNs = 20
)

var (
	tagKey   = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]{1,128}$`)
	tagValue = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]{0,256}$`)
)

// newTags validates the tags of a request.
func newTags(given []types.Tag) (map[string]string, error) {
	tags := map[string]string{}
	for _, t := range given {
		key, value := deref(t.Key), deref(t.Value)
		_, twice := tags[key]
		switch {
		case !tagKey.MatchString(key):
			return nil, wire.Errorf("ValidationError", "Tag key '%.140s' must have 1 to 128 letters, digits, spaces and any of + - = . _ : / @", key)
		case !tagValue.MatchString(value):
			return nil, wire.Errorf("ValidationError", "Tag value '%.270s' must have at most 256 letters, digits, spaces and any of + - = . _ : / @", value)
		case strings.HasPrefix(strings.ToLower(key), "aws:"):
			return nil, wire.Errorf("ValidationError", "Tag key '%s' begins with the reserved prefix aws:", key)
		case twice:
			return nil, wire.Errorf("DuplicateTagKeys", "Tag key '%s' is given twice", key)
		}
		tags[key] = value
	}
	if len(tags) > maxTags {
		return nil, wire.Errorf("TooManyTags", "A resource can have at most %d tags", maxTags)
	}
	return tags, nil
}

func equalTags(a, b map[string]string) bool { return maps.Equal(a, b) }

// tagged is the tags of one resource.
type tagged struct {
	arn      string
	tags     *map[string]string
	formerly *earlier
}

// set replaces the tags.
func (t tagged) set(m *eventual.Model, tags map[string]string) {
	t.formerly.replace(m, "tags/"+t.arn, *t.tags, tags)
	*t.tags = tags
}

// tagsOf finds the tags of a resource that r sees.
func (s *Service) tagsOf(r eventual.Reader, arn string) (tagged, error) {
	switch {
	case strings.Contains(arn, ":loadbalancer/"):
		lb, err := s.balancer(r, &arn)
		if err != nil {
			return tagged{}, err
		}
		return tagged{arn, &lb.tags, &lb.formerly.tags}, nil
	case strings.Contains(arn, ":listener/"):
		l, err := s.listener(r, &arn)
		if err != nil {
			return tagged{}, err
		}
		return tagged{arn, &l.tags, &l.formerly.tags}, nil
	case strings.Contains(arn, ":listener-rule/"):
		one, err := s.rule(r, &arn)
		if err != nil {
			return tagged{}, err
		}
		return tagged{arn, &one.tags, &one.formerly.tags}, nil
	case strings.Contains(arn, ":targetgroup/"):
		g, err := s.targetGroup(r, &arn)
		if err != nil {
			return tagged{}, err
		}
		return tagged{arn, &g.tags, &g.formerly.tags}, nil
	case strings.Contains(arn, ":truststore/"):
		t, err := s.trustStore(r, &arn)
		if err != nil {
			return tagged{}, err
		}
		return tagged{arn, &t.tags, &t.formerly.tags}, nil
	}
	return tagged{}, wire.Errorf("ValidationError", "'%.200s' is not a valid ARN of a load balancer, listener, rule, target group or trust store", arn)
}

// allTags finds the tags of several resources.
func (s *Service) allTags(r eventual.Reader, arns []string) ([]tagged, error) {
	if len(arns) == 0 {
		return nil, wire.Errorf("ValidationError", "At least one resource ARN must be specified")
	}
	var all []tagged
	for _, arn := range arns {
		one, err := s.tagsOf(r, arn)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

// AddTags adds tags to resources; present keys get the new value. All resources get them, or none.
func (s *Service) AddTags(r eventual.Reader, in *elb.AddTagsInput) (*elb.AddTagsOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	added, err := newTags(in.Tags)
	if err != nil {
		return nil, err
	}
	if len(added) == 0 {
		return nil, wire.Errorf("ValidationError", "At least one tag must be specified")
	}
	all, err := s.allTags(r, in.ResourceArns)
	if err != nil {
		return nil, err
	}
	merged := make([]map[string]string, len(all))
	for i, one := range all {
		merged[i] = maps.Clone(*one.tags)
		maps.Copy(merged[i], added)
		if len(merged[i]) > maxTags {
			return nil, wire.Errorf("TooManyTags", "A resource can have at most %d tags", maxTags)
		}
	}
	for i, one := range all {
		one.set(s.model, merged[i])
	}
	return &elb.AddTagsOutput{}, nil
}

// RemoveTags removes tags by key. More keys than a resource can have tags are too many.
func (s *Service) RemoveTags(r eventual.Reader, in *elb.RemoveTagsInput) (*elb.RemoveTagsOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case len(in.TagKeys) == 0:
		return nil, wire.Errorf("ValidationError", "At least one tag key must be specified")
	case len(in.TagKeys) > maxTags:
		return nil, wire.Errorf("TooManyTags", "At most %d tag keys can be specified", maxTags)
	}
	all, err := s.allTags(r, in.ResourceArns)
	if err != nil {
		return nil, err
	}
	for _, one := range all {
		left := maps.Clone(*one.tags)
		for _, key := range in.TagKeys {
			delete(left, key)
		}
		one.set(s.model, left)
	}
	return &elb.RemoveTagsOutput{}, nil
}

// DescribeTags lists the tags of up to 20 resources.
func (s *Service) DescribeTags(r eventual.Reader, in *elb.DescribeTagsInput) (*elb.DescribeTagsOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(in.ResourceArns) > maxDescribeARNs {
		return nil, wire.Errorf("ValidationError", "At most %d resource ARNs can be specified", maxDescribeARNs)
	}
	all, err := s.allTags(r, in.ResourceArns)
	if err != nil {
		return nil, err
	}
	out := &elb.DescribeTagsOutput{TagDescriptions: []types.TagDescription{}}
	for i, one := range all {
		tags, list := one.formerly.read(r, *one.tags), []types.Tag{}
		for _, key := range slices.Sorted(maps.Keys(tags)) {
			list = append(list, types.Tag{Key: new(key), Value: new(tags[key])})
		}
		out.TagDescriptions = append(out.TagDescriptions, types.TagDescription{ResourceArn: new(in.ResourceArns[i]), Tags: list})
	}
	return out, nil
}
