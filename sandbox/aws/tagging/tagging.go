// Package tagging is the Resource Groups Tagging API: it finds resources of other services by their tags,
// a good while after those tags were set. Only GetResources is modelled; compliance is not.
package tagging

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	rgt "github.com/aws/aws-sdk-go-v2/service/resourcegroupstaggingapi"
	"github.com/aws/aws-sdk-go-v2/service/resourcegroupstaggingapi/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/paging"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// Source is a service whose resources are found: their tags by ARN, as they are.
type Source func() map[string]map[string]string

// Service is the tagging API of one account in one region. Its methods may be called from several
// goroutines.
type Service struct {
	draws   *profile.Draws
	sources []Source

	// looking is held while the sources are looked at and what they say is taken over, so that nobody takes over what was true before. It is taken
	// before mu, which nobody may hold who asks the sources.
	looking sync.Mutex

	mu        sync.Mutex
	resources map[string]*resource // by ARN
}

// resource is what is known of a resource: states that begin to be shown one after the other.
type resource struct {
	states  []state
	changes int
}

type state struct {
	shown  time.Time
	exists bool
	tags   map[string]string
}

// New returns a service that knows no resource yet.
func New(draws *profile.Draws, sources ...Source) *Service {
	return &Service{draws: draws, sources: sources, resources: map[string]*resource{}}
}

// Operations are the operations that the service answers.
func (s *Service) Operations() wire.Operations[eventual.Reader] {
	return wire.NewOperations(wire.Of(s.GetResources))
}

// Observe looks at the sources: call it when resources or tags may have changed, so that the time until
// a change is shown begins to run.
func (s *Service) Observe() {
	s.looking.Lock()
	defer s.looking.Unlock()
	truth := map[string]map[string]string{}
	for _, source := range s.sources {
		maps.Copy(truth, source())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for arn, tags := range truth {
		known := s.resources[arn]
		switch {
		case known == nil && len(tags) == 0: // never tagged: not its business
		case known == nil:
			known = &resource{}
			s.resources[arn] = known
			s.expect(arn, known, state{exists: true, tags: tags})
		case !known.last().exists || !maps.Equal(known.last().tags, tags):
			s.expect(arn, known, state{exists: true, tags: tags})
		}
	}
	now := time.Now()
	for arn, known := range s.resources {
		if _, there := truth[arn]; !there && known.last().exists {
			s.expect(arn, known, state{})
		}
		known.shown(now) // forgets older states
		if known.forgotten(now) {
			delete(s.resources, arn)
		}
	}
}

func (r *resource) last() state { return r.states[len(r.states)-1] }

// expect adds a state; states are not shown before those that were true earlier.
func (s *Service) expect(arn string, r *resource, next state) {
	key := profile.TaggingLag
	if !next.exists {
		key = profile.TaggingLagDeleted
	}
	r.changes++
	next.tags = maps.Clone(next.tags)
	next.shown = time.Now().Add(s.draws.Once(key, arn+"#"+strconv.Itoa(r.changes)))
	if len(r.states) > 0 && next.shown.Before(r.last().shown) {
		next.shown = r.last().shown
	}
	r.states = append(r.states, next)
}

// shown is the state that is shown now. Older ones are forgotten.
func (r *resource) shown(now time.Time) state {
	for len(r.states) > 1 && !now.Before(r.states[1].shown) {
		r.states = r.states[1:]
	}
	if now.Before(r.states[0].shown) {
		return state{}
	}
	return r.states[0]
}

// forgotten says whether the resource is deleted and everybody knows it.
func (r *resource) forgotten(now time.Time) bool {
	return !r.last().exists && !now.Before(r.last().shown)
}

const (
	maxTagFilters   = 50
	maxFilterValues = 20
	maxResourcePage = 100
)

func invalid(format string, args ...any) error {
	return wire.Errorf("InvalidParameterException", format, args...)
}

func validate(in *rgt.GetResourcesInput) (limit int, err error) {
	limit = 50
	if in.ResourcesPerPage != nil {
		limit = int(*in.ResourcesPerPage)
	}
	switch {
	case limit < 1 || limit > maxResourcePage:
		return 0, invalid("ResourcesPerPage %d is not between 1 and %d", limit, maxResourcePage)
	case len(in.TagFilters) > maxTagFilters:
		return 0, invalid("There can be at most %d tag filters", maxTagFilters)
	case len(in.ResourceARNList) > 0 && (len(in.TagFilters) > 0 || len(in.ResourceTypeFilters) > 0 || in.ResourcesPerPage != nil || in.TagsPerPage != nil):
		return 0, invalid("ResourceARNList cannot be combined with filters and page sizes")
	case len(in.ResourceARNList) > 100:
		return 0, invalid("ResourceARNList can have at most 100 ARNs")
	case in.TagsPerPage != nil && (*in.TagsPerPage < 100 || *in.TagsPerPage > 500 || *in.TagsPerPage%100 != 0):
		return 0, invalid("TagsPerPage must be 100, 200, 300, 400 or 500")
	}
	for _, f := range in.TagFilters {
		if f.Key == nil || *f.Key == "" || len(*f.Key) > 128 || len(f.Values) > maxFilterValues {
			return 0, invalid("A tag filter needs a key of 1 to 128 characters and at most %d values", maxFilterValues)
		}
	}
	for _, kind := range in.ResourceTypeFilters {
		if service, _, _ := strings.Cut(kind, ":"); service == "" || strings.ContainsAny(kind, "*/ ") {
			return 0, invalid("'%.100s' is not of the form service:type", kind)
		}
	}
	return limit, nil
}

// GetResources finds resources that have, or once had, tags. All tag filters have to match.
func (s *Service) GetResources(_ eventual.Reader, in *rgt.GetResourcesInput) (*rgt.GetResourcesOutput, error) {
	limit, err := validate(in)
	if err != nil {
		return nil, err
	}
	s.Observe()
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []types.ResourceTagMapping
	now := time.Now()
	for arn, known := range s.resources {
		shown := known.shown(now)
		if !shown.exists {
			if known.forgotten(now) {
				delete(s.resources, arn)
			}
			continue
		}
		if wanted(in, arn, shown.tags) {
			found = append(found, mapping(arn, shown.tags))
		}
	}
	arnOf := func(m types.ResourceTagMapping) string { return *m.ResourceARN }
	slices.SortFunc(found, func(a, b types.ResourceTagMapping) int { return cmp.Compare(arnOf(a), arnOf(b)) })
	page, next, err := paging.Cut(found, arnOf, in.PaginationToken, limit)
	if err != nil {
		return nil, wire.Errorf("PaginationTokenExpiredException", "%v", err)
	}
	if next == nil {
		next = new("")
	}
	// The list is there when it is empty, too.
	return &rgt.GetResourcesOutput{ResourceTagMappingList: append([]types.ResourceTagMapping{}, page...), PaginationToken: next}, nil
}

func mapping(arn string, tags map[string]string) types.ResourceTagMapping {
	m := types.ResourceTagMapping{ResourceARN: &arn, Tags: []types.Tag{}}
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		m.Tags = append(m.Tags, types.Tag{Key: &key, Value: new(tags[key])})
	}
	return m
}

func wanted(in *rgt.GetResourcesInput, arn string, tags map[string]string) bool {
	if len(in.ResourceARNList) > 0 {
		return slices.Contains(in.ResourceARNList, arn)
	}
	if len(in.ResourceTypeFilters) > 0 && !slices.ContainsFunc(in.ResourceTypeFilters, func(kind string) bool { return isOf(arn, kind) }) {
		return false
	}
	for _, f := range in.TagFilters {
		value, ok := tags[*f.Key]
		if !ok || len(f.Values) > 0 && !slices.Contains(f.Values, value) {
			return false
		}
	}
	return true
}

// isOf says whether a resource is of a type such as elasticloadbalancing:loadbalancer, or of a whole service.
func isOf(arn, kind string) bool {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) < 6 {
		return false
	}
	service, resource, typed := strings.Cut(kind, ":")
	end := strings.IndexAny(parts[5], "/:")
	if end < 0 {
		end = len(parts[5])
	}
	return parts[2] == service && (!typed || parts[5][:end] == resource)
}
