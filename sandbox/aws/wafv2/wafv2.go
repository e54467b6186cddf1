// Package wafv2 keeps web ACLs and which load balancer has which. No request is inspected: an association
// is stored and told, nothing more. Of a web ACL only the name and the default action matter; rules are
// stored as they come. Scope CLOUDFRONT, rule groups, IP sets, logging and capacity are not modelled.
package wafv2

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/wafv2"
	"github.com/aws/aws-sdk-go-v2/service/wafv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/paging"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/resourceid"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// Config is what the service depends on.
type Config struct {
	Region    string
	AccountID string
	IDs       *resourceid.Source
	Draws     *profile.Draws
	// Protects says whether an ARN is that of an application load balancer, which alone can have a web ACL.
	Protects func(arn string) bool
}

const (
	maxACLs      = 100 // per region
	maxResources = 100 // load balancers per web ACL
	maxPage      = 100
)

// Service is WAFv2 of one account in one region. Its methods may be called from several goroutines.
type Service struct {
	config Config

	mu           sync.Mutex
	acls         map[string]*acl   // by ARN
	associations map[string]string // ARN of the web ACL by that of the load balancer
}

type acl struct {
	types.WebACL
	lock string
	// usable is when the web ACL can be associated: a new one needs a while to spread.
	usable time.Time
}

// New returns a service without web ACLs.
func New(config Config) *Service {
	return &Service{config: config, acls: map[string]*acl{}, associations: map[string]string{}}
}

// Operations are the operations that the service answers.
func (s *Service) Operations() wire.Operations[eventual.Reader] {
	return wire.NewOperations(
		wire.Of(s.CreateWebACL),
		wire.Of(s.GetWebACL),
		wire.Of(s.ListWebACLs),
		wire.Of(s.DeleteWebACL),
		wire.Of(s.AssociateWebACL),
		wire.Of(s.DisassociateWebACL),
		wire.Of(s.GetWebACLForResource),
		wire.Of(s.ListResourcesForWebACL),
	)
}

var entityName = regexp.MustCompile(`^[\w-]{1,128}$`)

func invalid(format string, args ...any) error {
	return wire.Errorf("WAFInvalidParameterException", "Error reason: "+format, args...)
}

func regional(scope types.Scope) error {
	if scope != types.ScopeRegional {
		return invalid("scope '%.40s' is not REGIONAL, the only one that is modelled", scope)
	}
	return nil
}

// CreateWebACL makes a web ACL.
func (s *Service) CreateWebACL(_ eventual.Reader, in *wafv2.CreateWebACLInput) (*wafv2.CreateWebACLOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := regional(in.Scope); err != nil {
		return nil, err
	}
	name := deref(in.Name)
	switch {
	case !entityName.MatchString(name):
		return nil, invalid("the name '%.140s' must have 1 to 128 letters, digits, hyphens and underscores", name)
	case in.DefaultAction == nil || in.VisibilityConfig == nil:
		return nil, invalid("a web ACL needs DefaultAction and VisibilityConfig")
	case len(s.acls) >= maxACLs:
		return nil, wire.Errorf("WAFLimitsExceededException", "A region can have at most %d web ACLs", maxACLs)
	}
	for _, other := range s.acls {
		if *other.Name == name {
			return nil, wire.Errorf("WAFDuplicateItemException", "There is a web ACL of the name '%s'", name)
		}
	}
	id := s.config.IDs.UUID("wafv2", name)
	arn := "arn:aws:wafv2:" + s.config.Region + ":" + s.config.AccountID + ":regional/webacl/" + name + "/" + id
	one := &acl{WebACL: types.WebACL{
		ARN: &arn, Id: &id, Name: &name, Description: in.Description, DefaultAction: in.DefaultAction,
		VisibilityConfig: in.VisibilityConfig, Rules: in.Rules, Capacity: int64(len(in.Rules)),
	}, lock: s.config.IDs.UUID("wafv2 lock", name)}
	one.usable = time.Now().Add(s.config.Draws.Once(profile.FirewallAssociate, arn))
	s.acls[arn] = one
	return &wafv2.CreateWebACLOutput{Summary: new(one.summary())}, nil
}

func (a *acl) summary() types.WebACLSummary {
	return types.WebACLSummary{ARN: a.ARN, Id: a.Id, Name: a.Name, Description: a.Description, LockToken: &a.lock}
}

// GetWebACL tells of a web ACL, by ARN or by name and id.
func (s *Service) GetWebACL(_ eventual.Reader, in *wafv2.GetWebACLInput) (*wafv2.GetWebACLOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for arn, one := range s.acls {
		if deref(in.ARN) == arn || in.ARN == nil && deref(in.Id) == *one.Id && deref(in.Name) == *one.Name {
			return &wafv2.GetWebACLOutput{WebACL: &one.WebACL, LockToken: &one.lock}, nil
		}
	}
	return nil, nonexistent("There is no such web ACL")
}

// ListWebACLs lists web ACLs by name.
func (s *Service) ListWebACLs(_ eventual.Reader, in *wafv2.ListWebACLsInput) (*wafv2.ListWebACLsOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := regional(in.Scope); err != nil {
		return nil, err
	}
	limit := maxPage
	if in.Limit != nil {
		if limit = int(*in.Limit); limit < 1 || limit > maxPage {
			return nil, invalid("the limit %d is not between 1 and %d", limit, maxPage)
		}
	}
	all := slices.SortedFunc(maps.Values(s.acls), func(a, b *acl) int { return strings.Compare(*a.Name, *b.Name) })
	page, next, err := paging.Cut(all, func(a *acl) string { return *a.Name }, in.NextMarker, limit)
	if err != nil {
		return nil, invalid("NextMarker: %v", err)
	}
	out := &wafv2.ListWebACLsOutput{WebACLs: []types.WebACLSummary{}, NextMarker: next}
	for _, one := range page {
		out.WebACLs = append(out.WebACLs, one.summary())
	}
	return out, nil
}

// DeleteWebACL deletes a web ACL that no load balancer has.
func (s *Service) DeleteWebACL(_ eventual.Reader, in *wafv2.DeleteWebACLInput) (*wafv2.DeleteWebACLOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for arn, one := range s.acls {
		if deref(in.Id) != *one.Id || deref(in.Name) != *one.Name {
			continue
		}
		switch {
		case deref(in.LockToken) != one.lock:
			return nil, wire.Errorf("WAFOptimisticLockException", "The lock token is not that of the web ACL as it is now")
		case len(s.resources(arn)) > 0:
			return nil, wire.Errorf("WAFAssociatedItemException", "Load balancers are associated with the web ACL")
		}
		delete(s.acls, arn)
		return &wafv2.DeleteWebACLOutput{}, nil
	}
	return nil, nonexistent("There is no such web ACL")
}

func nonexistent(text string) error { return wire.Errorf("WAFNonexistentItemException", "%s", text) }

// resource validates the ARN of what can have a web ACL.
func (s *Service) resource(arn *string) (string, error) {
	text := deref(arn)
	switch {
	case !strings.HasPrefix(text, "arn:") || !strings.Contains(text, ":loadbalancer/app/"):
		return "", invalid("'%.200s' is not the ARN of an application load balancer", text)
	case !s.config.Protects(text):
		return "", nonexistent("There is no load balancer " + text)
	}
	return text, nil
}

// resources lists the load balancers of a web ACL that are still there.
func (s *Service) resources(acl string) []string {
	found := []string{}
	for resource, associated := range s.associations {
		switch {
		case !s.config.Protects(resource):
			delete(s.associations, resource)
		case associated == acl:
			found = append(found, resource)
		}
	}
	slices.Sort(found)
	return found
}

// AssociateWebACL gives a load balancer a web ACL, in place of the one that it had.
func (s *Service) AssociateWebACL(_ eventual.Reader, in *wafv2.AssociateWebACLInput) (*wafv2.AssociateWebACLOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	resource, err := s.resource(in.ResourceArn)
	if err != nil {
		return nil, err
	}
	one := s.acls[deref(in.WebACLArn)]
	switch {
	case one == nil:
		return nil, nonexistent("There is no such web ACL")
	case time.Now().Before(one.usable):
		return nil, wire.Errorf("WAFUnavailableEntityException", "The web ACL is not available everywhere yet. Retry your request.")
	case len(s.resources(*one.ARN)) >= maxResources && s.associations[resource] != *one.ARN:
		return nil, wire.Errorf("WAFLimitsExceededException", "A web ACL can protect at most %d load balancers", maxResources)
	}
	s.associations[resource] = *one.ARN
	return &wafv2.AssociateWebACLOutput{}, nil
}

// DisassociateWebACL takes the web ACL away from a load balancer; that it has none is no error.
func (s *Service) DisassociateWebACL(_ eventual.Reader, in *wafv2.DisassociateWebACLInput) (*wafv2.DisassociateWebACLOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	resource, err := s.resource(in.ResourceArn)
	if err != nil {
		return nil, err
	}
	delete(s.associations, resource)
	return &wafv2.DisassociateWebACLOutput{}, nil
}

// GetWebACLForResource tells of the web ACL of a load balancer: an empty answer if it has none.
func (s *Service) GetWebACLForResource(_ eventual.Reader, in *wafv2.GetWebACLForResourceInput) (*wafv2.GetWebACLForResourceOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	resource, err := s.resource(in.ResourceArn)
	if err != nil {
		return nil, err
	}
	out := &wafv2.GetWebACLForResourceOutput{}
	if one := s.acls[s.associations[resource]]; one != nil {
		out.WebACL = &one.WebACL
	}
	return out, nil
}

// ListResourcesForWebACL lists the load balancers of a web ACL.
func (s *Service) ListResourcesForWebACL(_ eventual.Reader, in *wafv2.ListResourcesForWebACLInput) (*wafv2.ListResourcesForWebACLOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.acls[deref(in.WebACLArn)] == nil {
		return nil, nonexistent("There is no such web ACL")
	}
	if in.ResourceType != "" && in.ResourceType != types.ResourceTypeApplicationLoadBalancer {
		return &wafv2.ListResourcesForWebACLOutput{ResourceArns: []string{}}, nil
	}
	return &wafv2.ListResourcesForWebACLOutput{ResourceArns: s.resources(*in.WebACLArn)}, nil
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
