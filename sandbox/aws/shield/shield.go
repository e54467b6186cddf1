// Package shield keeps the subscription to Shield Advanced and the protections of load balancers. Nothing
// is protected: a protection is stored and told, nothing more. Groups, health checks, attacks, the
// response team and the automatic response are not modelled.
package shield

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/shield"
	"github.com/aws/aws-sdk-go-v2/service/shield/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/paging"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/resourceid"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// Config is what the service depends on.
type Config struct {
	AccountID string
	IDs       *resourceid.Source
	// Exists says whether an ARN is that of a load balancer.
	Exists func(arn string) bool
}

const (
	maxProtections = 1000
	maxPage        = 10_000
)

// Service is Shield of one account. Its methods may be called from several goroutines. A new one is not
// subscribed to; CreateSubscription changes that.
type Service struct {
	config Config

	mu          sync.Mutex
	subscribed  bool
	protections map[string]types.Protection // by id
}

// New returns a service without subscription.
func New(config Config) *Service {
	return &Service{config: config, protections: map[string]types.Protection{}}
}

// Operations are the operations that the service answers.
func (s *Service) Operations() wire.Operations[eventual.Reader] {
	return wire.NewOperations(
		wire.Of(s.CreateSubscription),
		wire.Of(s.GetSubscriptionState),
		wire.Of(s.CreateProtection),
		wire.Of(s.DescribeProtection),
		wire.Of(s.ListProtections),
		wire.Of(s.DeleteProtection),
	)
}

// CreateSubscription subscribes; there is no way back within the year.
func (s *Service) CreateSubscription(eventual.Reader, *shield.CreateSubscriptionInput) (*shield.CreateSubscriptionOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.subscribed {
		return nil, wire.Errorf("ResourceAlreadyExistsException", "The account is subscribed already")
	}
	s.subscribed = true
	return &shield.CreateSubscriptionOutput{}, nil
}

// GetSubscriptionState says whether the account is subscribed.
func (s *Service) GetSubscriptionState(eventual.Reader, *shield.GetSubscriptionStateInput) (*shield.GetSubscriptionStateOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := types.SubscriptionStateInactive
	if s.subscribed {
		state = types.SubscriptionStateActive
	}
	return &shield.GetSubscriptionStateOutput{SubscriptionState: state}, nil
}

func notFound(format string, args ...any) error {
	return wire.Errorf("ResourceNotFoundException", format, args...)
}

// of finds the protection of a resource.
func (s *Service) of(resource string) (types.Protection, bool) {
	for _, p := range s.protections {
		if *p.ResourceArn == resource {
			return p, true
		}
	}
	return types.Protection{}, false
}

// CreateProtection protects a load balancer.
func (s *Service) CreateProtection(_ eventual.Reader, in *shield.CreateProtectionInput) (*shield.CreateProtectionOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name, resource := deref(in.Name), deref(in.ResourceArn)
	_, protected := s.of(resource)
	switch {
	case !s.subscribed:
		return nil, notFound("The subscription does not exist.")
	case name == "" || len(name) > 128:
		return nil, wire.Errorf("InvalidParameterException", "A protection needs a name of at most 128 characters")
	case !strings.HasPrefix(resource, "arn:") || !strings.Contains(resource, ":loadbalancer/"):
		return nil, wire.Errorf("InvalidResourceException", "'%.200s' is not the ARN of a resource that can be protected", resource)
	case !s.config.Exists(resource):
		return nil, notFound("The resource %s does not exist", resource)
	case protected:
		return nil, wire.Errorf("ResourceAlreadyExistsException", "The resource is protected already")
	case len(s.protections) >= maxProtections:
		return nil, wire.Errorf("LimitsExceededException", "An account can have at most %d protections", maxProtections)
	}
	id := s.config.IDs.UUID("shield", name)
	s.protections[id] = types.Protection{
		Id: &id, Name: &name, ResourceArn: &resource, ProtectionArn: new("arn:aws:shield::" + s.config.AccountID + ":protection/" + id),
	}
	return &shield.CreateProtectionOutput{ProtectionId: &id}, nil
}

// DescribeProtection tells of a protection, by its id or by what is protected.
func (s *Service) DescribeProtection(_ eventual.Reader, in *shield.DescribeProtectionInput) (*shield.DescribeProtectionOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found types.Protection
	var ok bool
	switch {
	case (in.ProtectionId == nil) == (in.ResourceArn == nil):
		return nil, wire.Errorf("InvalidParameterException", "Either ProtectionId or ResourceArn must be given, but not both")
	case in.ProtectionId != nil:
		found, ok = s.protections[*in.ProtectionId]
	default:
		found, ok = s.of(*in.ResourceArn)
	}
	if !ok {
		return nil, notFound("The referenced protection does not exist.")
	}
	return &shield.DescribeProtectionOutput{Protection: &found}, nil
}

// ListProtections lists protections by id. Filters are not modelled.
func (s *Service) ListProtections(_ eventual.Reader, in *shield.ListProtectionsInput) (*shield.ListProtectionsOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	limit := maxPage
	if in.MaxResults != nil {
		if limit = int(*in.MaxResults); limit < 1 || limit > maxPage {
			return nil, wire.Errorf("InvalidParameterException", "MaxResults %d is not between 1 and %d", limit, maxPage)
		}
	}
	page, next, err := paging.Cut(slices.Sorted(maps.Keys(s.protections)), func(id string) string { return id }, in.NextToken, limit)
	if err != nil {
		return nil, wire.Errorf("InvalidPaginationTokenException", "%v", err)
	}
	out := &shield.ListProtectionsOutput{Protections: []types.Protection{}, NextToken: next}
	for _, id := range page {
		out.Protections = append(out.Protections, s.protections[id])
	}
	return out, nil
}

// DeleteProtection ends a protection.
func (s *Service) DeleteProtection(_ eventual.Reader, in *shield.DeleteProtectionInput) (*shield.DeleteProtectionOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.protections[deref(in.ProtectionId)]; !ok {
		return nil, notFound("The referenced protection does not exist.")
	}
	delete(s.protections, *in.ProtectionId)
	return &shield.DeleteProtectionOutput{}, nil
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
