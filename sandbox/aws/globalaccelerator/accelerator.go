// Package globalaccelerator keeps accelerators with their listeners and endpoint groups. No traffic
// goes through them: the static addresses are from a range for documentation, endpoints are always told as
// healthy. Not modelled: custom routing, attributes and flow logs, own address ranges, cross-account attachments.
package globalaccelerator

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	ga "github.com/aws/aws-sdk-go-v2/service/globalaccelerator"
	"github.com/aws/aws-sdk-go-v2/service/globalaccelerator/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/paging"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/resourceid"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// Config is what the service depends on.
type Config struct {
	AccountID string
	IDs       *resourceid.Source
	Draws     *profile.Draws
}

const (
	maxAccelerators = 20
	maxListeners    = 10 // per accelerator
	maxPage         = 100
)

// Service is Global Accelerator of one account. Its methods may be called from several goroutines.
type Service struct {
	config Config

	mu           sync.Mutex
	accelerators map[string]*accelerator // by ARN, as everything below
	listeners    map[string]*listener
	groups       map[string]*group
	requests     map[string]string // ARN by idempotency token
}

type accelerator struct {
	types.Accelerator
	tags     map[string]string
	deployed time.Time
	changes  int
}

type listener struct {
	types.Listener
	accelerator *accelerator
}

type group struct {
	types.EndpointGroup
	listener *listener
}

// New returns a service without accelerators.
func New(config Config) *Service {
	return &Service{
		config: config, accelerators: map[string]*accelerator{}, listeners: map[string]*listener{}, groups: map[string]*group{}, requests: map[string]string{},
	}
}

// Operations are the operations that the service answers.
func (s *Service) Operations() wire.Operations[eventual.Reader] {
	return wire.NewOperations(
		wire.Of(s.CreateAccelerator),
		wire.Of(s.DescribeAccelerator),
		wire.Of(s.UpdateAccelerator),
		wire.Of(s.DeleteAccelerator),
		wire.Of(s.ListAccelerators),
		wire.Of(s.CreateListener),
		wire.Of(s.DescribeListener),
		wire.Of(s.UpdateListener),
		wire.Of(s.DeleteListener),
		wire.Of(s.ListListeners),
		wire.Of(s.CreateEndpointGroup),
		wire.Of(s.DescribeEndpointGroup),
		wire.Of(s.UpdateEndpointGroup),
		wire.Of(s.DeleteEndpointGroup),
		wire.Of(s.ListEndpointGroups),
		wire.Of(s.AddEndpoints),
		wire.Of(s.RemoveEndpoints),
		wire.Of(s.TagResource),
		wire.Of(s.UntagResource),
		wire.Of(s.ListTagsForResource),
	)
}

// Tagged are the tags of all accelerators by ARN.
func (s *Service) Tagged() map[string]map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[string]map[string]string, len(s.accelerators))
	for arn, a := range s.accelerators {
		all[arn] = a.tags
	}
	return all
}

func invalid(format string, args ...any) error {
	return wire.Errorf("InvalidArgumentException", format, args...)
}

func (s *Service) accelerator(arn *string) (*accelerator, error) {
	found := s.accelerators[deref(arn)]
	if found == nil {
		return nil, wire.Errorf("AcceleratorNotFoundException", "There is no accelerator '%.200s'", deref(arn))
	}
	return found, nil
}

// changed begins to deploy an accelerator: after any change of it or of what belongs to it.
func (s *Service) changed(a *accelerator) {
	a.changes++
	now := time.Now().UTC()
	a.LastModifiedTime = &now
	a.deployed = now.Add(s.config.Draws.Once(profile.AcceleratorDeploy, fmt.Sprint(*a.AcceleratorArn, "#", a.changes)))
}

// told is the accelerator as the API tells it.
func (a *accelerator) told() *types.Accelerator {
	v := a.Accelerator
	v.Status = types.AcceleratorStatusDeployed
	if time.Now().Before(a.deployed) {
		v.Status = types.AcceleratorStatusInProgress
	}
	return &v
}

// CreateAccelerator makes an accelerator; one of the same idempotency token is answered again.
func (s *Service) CreateAccelerator(_ eventual.Reader, in *ga.CreateAcceleratorInput) (*ga.CreateAcceleratorOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.accelerators[s.requests[deref(in.IdempotencyToken)]]; known != nil && in.IdempotencyToken != nil {
		return &ga.CreateAcceleratorOutput{Accelerator: known.told()}, nil
	}
	name := deref(in.Name)
	switch {
	case name == "" || len(name) > 64:
		return nil, invalid("An accelerator needs a name of at most 64 characters")
	case len(s.accelerators) >= maxAccelerators:
		return nil, wire.Errorf("LimitExceededException", "An account can have at most %d accelerators", maxAccelerators)
	}
	arn := "arn:aws:globalaccelerator::" + s.config.AccountID + ":accelerator/" + s.config.IDs.UUID("accelerator", name)
	now, number := time.Now().UTC(), len(s.requests)*2+len(s.accelerators)*2
	a := &accelerator{tags: map[string]string{}, Accelerator: types.Accelerator{
		AcceleratorArn: &arn, Name: &name, Enabled: new(in.Enabled == nil || *in.Enabled), IpAddressType: in.IpAddressType, CreatedTime: &now,
		DnsName: new("a" + s.config.IDs.Hex(16, "accelerator name", name) + ".awsglobalaccelerator.com"),
		IpSets: []types.IpSet{{IpAddressFamily: types.IpAddressFamilyIPv4, IpFamily: new("IPv4"), IpAddresses: []string{
			fmt.Sprintf("198.51.100.%d", number%256), fmt.Sprintf("203.0.113.%d", number%256),
		}}},
	}}
	if a.IpAddressType == "" {
		a.IpAddressType = types.IpAddressTypeIpv4
	}
	for _, t := range in.Tags {
		a.tags[deref(t.Key)] = deref(t.Value)
	}
	s.changed(a)
	s.accelerators[arn] = a
	if in.IdempotencyToken != nil {
		s.requests[*in.IdempotencyToken] = arn
	}
	return &ga.CreateAcceleratorOutput{Accelerator: a.told()}, nil
}

// DescribeAccelerator tells of an accelerator.
func (s *Service) DescribeAccelerator(_ eventual.Reader, in *ga.DescribeAcceleratorInput) (*ga.DescribeAcceleratorOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, err := s.accelerator(in.AcceleratorArn)
	if err != nil {
		return nil, err
	}
	return &ga.DescribeAcceleratorOutput{Accelerator: a.told()}, nil
}

// UpdateAccelerator changes name, address type and whether it is enabled.
func (s *Service) UpdateAccelerator(_ eventual.Reader, in *ga.UpdateAcceleratorInput) (*ga.UpdateAcceleratorOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, err := s.accelerator(in.AcceleratorArn)
	if err != nil {
		return nil, err
	}
	a.Name, a.Enabled = cmp.Or(in.Name, a.Name), cmp.Or(in.Enabled, a.Enabled)
	a.IpAddressType = cmp.Or(in.IpAddressType, a.IpAddressType)
	s.changed(a)
	return &ga.UpdateAcceleratorOutput{Accelerator: a.told()}, nil
}

// DeleteAccelerator deletes an accelerator that is disabled and has no listener.
func (s *Service) DeleteAccelerator(_ eventual.Reader, in *ga.DeleteAcceleratorInput) (*ga.DeleteAcceleratorOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, err := s.accelerator(in.AcceleratorArn)
	if err != nil {
		return nil, err
	}
	switch {
	case *a.Enabled:
		return nil, wire.Errorf("AcceleratorNotDisabledException", "The accelerator must be disabled before it is deleted")
	case len(s.listenersOf(a)) > 0:
		return nil, wire.Errorf("AssociatedListenerFoundException", "The accelerator has listeners")
	case time.Now().Before(a.deployed):
		return nil, wire.Errorf("TransactionInProgressException", "The accelerator is being deployed")
	}
	delete(s.accelerators, *a.AcceleratorArn)
	return &ga.DeleteAcceleratorOutput{}, nil
}

func (s *Service) listenersOf(a *accelerator) []*listener {
	of := slices.DeleteFunc(slices.Collect(maps.Values(s.listeners)), func(l *listener) bool { return l.accelerator != a })
	slices.SortFunc(of, func(x, y *listener) int { return strings.Compare(*x.ListenerArn, *y.ListenerArn) })
	return of
}

// page cuts a page out of things sorted by ARN.
func page[T any](sorted []T, arn func(T) string, token *string, size *int32) ([]T, *string, error) {
	limit := 10
	if size != nil {
		limit = int(*size)
	}
	if limit < 1 || limit > maxPage {
		return nil, nil, invalid("MaxResults %d is not between 1 and %d", limit, maxPage)
	}
	found, next, err := paging.Cut(sorted, arn, token, limit)
	if err != nil {
		return nil, nil, wire.Errorf("InvalidNextTokenException", "%v", err)
	}
	return found, next, nil
}

// ListAccelerators lists accelerators by ARN.
func (s *Service) ListAccelerators(_ eventual.Reader, in *ga.ListAcceleratorsInput) (*ga.ListAcceleratorsOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, next, err := page(slices.Sorted(maps.Keys(s.accelerators)), func(arn string) string { return arn }, in.NextToken, in.MaxResults)
	if err != nil {
		return nil, err
	}
	out := &ga.ListAcceleratorsOutput{Accelerators: []types.Accelerator{}, NextToken: next}
	for _, arn := range found {
		out.Accelerators = append(out.Accelerators, *s.accelerators[arn].told())
	}
	return out, nil
}

// TagResource sets tags of an accelerator.
func (s *Service) TagResource(_ eventual.Reader, in *ga.TagResourceInput) (*ga.TagResourceOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, err := s.accelerator(in.ResourceArn)
	if err != nil {
		return nil, err
	}
	a.tags = maps.Clone(a.tags)
	for _, t := range in.Tags {
		a.tags[deref(t.Key)] = deref(t.Value)
	}
	return &ga.TagResourceOutput{}, nil
}

// UntagResource removes tags of an accelerator.
func (s *Service) UntagResource(_ eventual.Reader, in *ga.UntagResourceInput) (*ga.UntagResourceOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, err := s.accelerator(in.ResourceArn)
	if err != nil {
		return nil, err
	}
	a.tags = maps.Clone(a.tags)
	for _, key := range in.TagKeys {
		delete(a.tags, key)
	}
	return &ga.UntagResourceOutput{}, nil
}

// ListTagsForResource lists the tags of an accelerator.
func (s *Service) ListTagsForResource(_ eventual.Reader, in *ga.ListTagsForResourceInput) (*ga.ListTagsForResourceOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, err := s.accelerator(in.ResourceArn)
	if err != nil {
		return nil, err
	}
	out := &ga.ListTagsForResourceOutput{Tags: []types.Tag{}}
	for _, key := range slices.Sorted(maps.Keys(a.tags)) {
		out.Tags = append(out.Tags, types.Tag{Key: &key, Value: new(a.tags[key])})
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
