// Package wafregional keeps web ACLs of the older WAF and which load balancer has which. No request is
// inspected. Rules, conditions and rate limits are not modelled.
package wafregional

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/wafregional"
	"github.com/aws/aws-sdk-go-v2/service/wafregional/types"

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

const maxPage = 100

// Service is WAF Regional of one account in one region. Its methods may be called from several goroutines.
type Service struct {
	config Config

	mu           sync.Mutex
	acls         map[string]*acl // by id
	tokens       map[string]bool // change tokens that were given out and not used
	associations map[string]string
}

type acl struct {
	types.WebACL
	usable time.Time
}

// New returns a service without web ACLs.
func New(config Config) *Service {
	return &Service{config: config, acls: map[string]*acl{}, tokens: map[string]bool{}, associations: map[string]string{}}
}

// Operations are the operations that the service answers.
func (s *Service) Operations() wire.Operations[eventual.Reader] {
	return wire.NewOperations(
		wire.Of(s.GetChangeToken),
		wire.Of(s.CreateWebACL),
		wire.Of(s.DeleteWebACL),
		wire.Of(s.ListWebACLs),
		wire.Of(s.AssociateWebACL),
		wire.Of(s.DisassociateWebACL),
		wire.Of(s.GetWebACLForResource),
		wire.Of(s.ListResourcesForWebACL),
	)
}

// GetChangeToken gives out what a change has to come with.
func (s *Service) GetChangeToken(eventual.Reader, *wafregional.GetChangeTokenInput) (*wafregional.GetChangeTokenOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	token := s.config.IDs.UUID("waf token", "")
	if len(s.tokens) > 1000 { // of those that ask and never change anything
		clear(s.tokens)
	}
	s.tokens[token] = true
	return &wafregional.GetChangeTokenOutput{ChangeToken: &token}, nil
}

// use takes a change token.
func (s *Service) use(token *string) error {
	if !s.tokens[deref(token)] {
		return wire.Errorf("WAFStaleDataException", "The change token was used already, or never given out")
	}
	delete(s.tokens, *token)
	return nil
}

func invalid(format string, args ...any) error {
	return wire.Errorf("WAFInvalidParameterException", format, args...)
}

func nonexistent(text string) error { return wire.Errorf("WAFNonexistentItemException", "%s", text) }

// CreateWebACL makes a web ACL.
func (s *Service) CreateWebACL(_ eventual.Reader, in *wafregional.CreateWebACLInput) (*wafregional.CreateWebACLOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if deref(in.Name) == "" || deref(in.MetricName) == "" || in.DefaultAction == nil {
		return nil, invalid("a web ACL needs Name, MetricName and DefaultAction")
	}
	if err := s.use(in.ChangeToken); err != nil {
		return nil, err
	}
	id := s.config.IDs.UUID("waf", *in.Name)
	arn := "arn:aws:waf-regional:" + s.config.Region + ":" + s.config.AccountID + ":webacl/" + id
	one := &acl{WebACL: types.WebACL{
		WebACLId: &id, WebACLArn: &arn, Name: in.Name, MetricName: in.MetricName, DefaultAction: in.DefaultAction, Rules: []types.ActivatedRule{},
	}}
	one.usable = time.Now().Add(s.config.Draws.Once(profile.FirewallAssociate, arn))
	s.acls[id] = one
	return &wafregional.CreateWebACLOutput{WebACL: &one.WebACL, ChangeToken: in.ChangeToken}, nil
}

// DeleteWebACL deletes a web ACL that no load balancer has.
func (s *Service) DeleteWebACL(_ eventual.Reader, in *wafregional.DeleteWebACLInput) (*wafregional.DeleteWebACLOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.acls[deref(in.WebACLId)] == nil {
		return nil, nonexistent("There is no such web ACL")
	}
	if len(s.resources(*in.WebACLId)) > 0 {
		return nil, wire.Errorf("WAFReferencedItemException", "Load balancers are associated with the web ACL")
	}
	if err := s.use(in.ChangeToken); err != nil {
		return nil, err
	}
	delete(s.acls, *in.WebACLId)
	return &wafregional.DeleteWebACLOutput{ChangeToken: in.ChangeToken}, nil
}

// ListWebACLs lists web ACLs by id.
func (s *Service) ListWebACLs(_ eventual.Reader, in *wafregional.ListWebACLsInput) (*wafregional.ListWebACLsOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	limit := int(in.Limit)
	if limit < 0 || limit > maxPage {
		return nil, invalid("the limit %d is not between 1 and %d", limit, maxPage)
	}
	if limit == 0 {
		limit = maxPage
	}
	page, next, err := paging.Cut(slices.Sorted(maps.Keys(s.acls)), func(id string) string { return id }, in.NextMarker, limit)
	if err != nil {
		return nil, invalid("NextMarker: %v", err)
	}
	out := &wafregional.ListWebACLsOutput{WebACLs: []types.WebACLSummary{}, NextMarker: next}
	for _, id := range page {
		out.WebACLs = append(out.WebACLs, types.WebACLSummary{WebACLId: &id, Name: s.acls[id].Name})
	}
	return out, nil
}

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
func (s *Service) AssociateWebACL(_ eventual.Reader, in *wafregional.AssociateWebACLInput) (*wafregional.AssociateWebACLOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	resource, err := s.resource(in.ResourceArn)
	if err != nil {
		return nil, err
	}
	one := s.acls[deref(in.WebACLId)]
	switch {
	case one == nil:
		return nil, nonexistent("There is no such web ACL")
	case time.Now().Before(one.usable):
		return nil, wire.Errorf("WAFUnavailableEntityException", "The web ACL is not available everywhere yet. Retry your request.")
	}
	s.associations[resource] = *one.WebACLId
	return &wafregional.AssociateWebACLOutput{}, nil
}

// DisassociateWebACL takes the web ACL away from a load balancer; that it has none is no error.
func (s *Service) DisassociateWebACL(_ eventual.Reader, in *wafregional.DisassociateWebACLInput) (*wafregional.DisassociateWebACLOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	resource, err := s.resource(in.ResourceArn)
	if err != nil {
		return nil, err
	}
	delete(s.associations, resource)
	return &wafregional.DisassociateWebACLOutput{}, nil
}

// GetWebACLForResource tells of the web ACL of a load balancer: an empty answer if it has none.
func (s *Service) GetWebACLForResource(_ eventual.Reader, in *wafregional.GetWebACLForResourceInput) (*wafregional.GetWebACLForResourceOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	resource, err := s.resource(in.ResourceArn)
	if err != nil {
		return nil, err
	}
	out := &wafregional.GetWebACLForResourceOutput{}
	if one := s.acls[s.associations[resource]]; one != nil {
		out.WebACLSummary = &types.WebACLSummary{Name: one.Name, WebACLId: one.WebACLId}
	}
	return out, nil
}

// ListResourcesForWebACL lists the load balancers of a web ACL.
func (s *Service) ListResourcesForWebACL(_ eventual.Reader, in *wafregional.ListResourcesForWebACLInput) (*wafregional.ListResourcesForWebACLOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.acls[deref(in.WebACLId)] == nil {
		return nil, nonexistent("There is no such web ACL")
	}
	return &wafregional.ListResourcesForWebACLOutput{ResourceArns: s.resources(*in.WebACLId)}, nil
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
