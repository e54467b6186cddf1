package ec2

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// prefixList is a managed prefix list with the entries of each of its versions.
type prefixList struct {
	types.ManagedPrefixList
	versions [][]types.PrefixListEntry // version n is at n-1
	blocks   []netip.Prefix            // of the newest
}

func (l *prefixList) entries() []types.PrefixListEntry { return l.versions[len(l.versions)-1] }

// contains says whether an address is in one of the blocks.
func (l *prefixList) contains(a netip.Addr) bool {
	return slices.ContainsFunc(l.blocks, func(b netip.Prefix) bool { return b.Contains(a) })
}

func (l *prefixList) with(entries []types.PrefixListEntry) *prefixList {
	return changed(l, func(l *prefixList) {
		l.versions = append(slices.Clip(l.versions), entries)
		l.Version = new(int64(len(l.versions)))
		l.blocks = nil
		for _, e := range entries {
			l.blocks = append(l.blocks, netip.MustParsePrefix(*e.Cidr))
		}
	})
}

var prefixListKind = kind[*prefixList]{
	id: func(l *prefixList) string { return *l.PrefixListId }, ids: prefixListID, smallest: 1, largest: 100,
	filters: filters[*prefixList]{
		"owner-id":         func(_ *Service, l *prefixList) []string { return one(l.OwnerId) },
		"prefix-list-id":   func(_ *Service, l *prefixList) []string { return one(l.PrefixListId) },
		"prefix-list-name": func(_ *Service, l *prefixList) []string { return one(l.PrefixListName) },
	},
}

// DescribeManagedPrefixLists lists prefix lists.
func (s *Service) DescribeManagedPrefixLists(r eventual.Reader, in *ec2.DescribeManagedPrefixListsInput) (*ec2.DescribeManagedPrefixListsOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, next, err := list(s, r, prefixListKind, s.prefixLists.visible(r), query{in.PrefixListIds, in.Filters, in.MaxResults, in.NextToken})
	if err != nil {
		return nil, err
	}
	out := &ec2.DescribeManagedPrefixListsOutput{NextToken: next, PrefixLists: []types.ManagedPrefixList{}}
	for _, l := range found {
		shown := l.ManagedPrefixList
		shown.Tags = s.tagList(r, *l.PrefixListId)
		out.PrefixLists = append(out.PrefixLists, shown)
	}
	return out, nil
}

var entryKind = kind[types.PrefixListEntry]{
	id: func(e types.PrefixListEntry) string { return *e.Cidr }, ids: naming{prefix: "entry"}, untagged: true, smallest: 1, largest: 100,
}

// GetManagedPrefixListEntries lists the entries of a version of a prefix list.
func (s *Service) GetManagedPrefixListEntries(r eventual.Reader, in *ec2.GetManagedPrefixListEntriesInput) (*ec2.GetManagedPrefixListEntriesOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := find(r, prefixListID, s.prefixLists, in.PrefixListId, "prefixListId")
	if err != nil {
		return nil, err
	}
	entries := l.entries()
	if v := in.TargetVersion; v != nil {
		if *v < 1 || *v > int64(len(l.versions)) {
			return nil, invalidValue("Prefix list '%s' has no version %d", *l.PrefixListId, *v)
		}
		entries = l.versions[*v-1]
	}
	found, next, err := list(s, r, entryKind, entries, query{max: in.MaxResults, token: in.NextToken})
	if err != nil {
		return nil, err
	}
	return &ec2.GetManagedPrefixListEntriesOutput{Entries: found, NextToken: next}, nil
}

func (s *Service) createManagedPrefixList(_ eventual.Reader, in *ec2.CreateManagedPrefixListInput) (func() *ec2.CreateManagedPrefixListOutput, error) {
	name, family := deref(in.PrefixListName), deref(in.AddressFamily)
	switch {
	case name == "":
		return nil, missingParameter("PrefixListName")
	case family == "":
		return nil, missingParameter("AddressFamily")
	case in.MaxEntries == nil:
		return nil, missingParameter("MaxEntries")
	case len(name) > 255 || strings.HasPrefix(name, "com.amazonaws"):
		return nil, invalidValue("Value (%.80s) for parameter PrefixListName is invalid: up to 255 characters, not beginning with com.amazonaws", name)
	case family != "IPv4" && family != "IPv6":
		return nil, invalidValue("Value (%.20s) for parameter AddressFamily is invalid: IPv4 or IPv6", family)
	case *in.MaxEntries < 1 || int(*in.MaxEntries) > s.config.Quotas.EntriesPerList:
		return nil, invalidValue("Value (%d) for parameter MaxEntries is invalid: from 1 to %d", *in.MaxEntries, s.config.Quotas.EntriesPerList)
	}
	entries, err := addEntries(nil, family, in.Entries)
	if err != nil {
		return nil, err
	}
	if len(entries) > int(*in.MaxEntries) {
		return nil, wire.Errorf("PrefixListMaxEntriesExceeded", "%d entries are more than the maximum of %d", len(entries), *in.MaxEntries)
	}
	tags, err := tagsFor(in.TagSpecifications, types.ResourceTypePrefixList)
	if err != nil {
		return nil, err
	}
	if s.prefixLists.count() >= s.config.Quotas.PrefixLists {
		return nil, exceeded("PrefixListLimitExceeded", "prefix lists", s.config.Quotas.PrefixLists)
	}
	return func() *ec2.CreateManagedPrefixListOutput {
		id := s.config.IDs.EC2("pl", name)
		l := (&prefixList{ManagedPrefixList: types.ManagedPrefixList{
			PrefixListId: new(id), PrefixListName: new(name), PrefixListArn: new(s.arn("prefix-list", id)), OwnerId: new(s.config.AccountID),
			AddressFamily: new(family), MaxEntries: new(*in.MaxEntries), State: types.PrefixListStateCreateComplete,
		}}).with(entries)
		s.prefixLists.put(id, l)
		s.listsInForce[id] = begin(id, l)
		s.tags.settle(id, tags)
		shown := l.ManagedPrefixList
		shown.State, shown.Tags = types.PrefixListStateCreateInProgress, tagList(tags)
		return &ec2.CreateManagedPrefixListOutput{PrefixList: &shown}
	}, nil
}

// addEntries is entries with more, in canonical form. One that is there gets the new description.
func addEntries(entries []types.PrefixListEntry, family string, more []types.AddPrefixListEntry) ([]types.PrefixListEntry, error) {
	entries = slices.Clone(entries)
	seen := map[string]bool{}
	for _, e := range more {
		block, err := canonicalCIDR(deref(e.Cidr), family == "IPv4")
		if err != nil {
			return nil, err
		}
		if seen[block] {
			return nil, invalidValue("The entry %s is given twice", block)
		}
		seen[block] = true
		entries = slices.DeleteFunc(entries, func(o types.PrefixListEntry) bool { return *o.Cidr == block })
		entries = append(entries, types.PrefixListEntry{Cidr: new(block), Description: e.Description})
	}
	return entries, nil
}

func (s *Service) modifyManagedPrefixList(r eventual.Reader, in *ec2.ModifyManagedPrefixListInput) (func() *ec2.ModifyManagedPrefixListOutput, error) {
	l, err := find(r, prefixListID, s.prefixLists, in.PrefixListId, "prefixListId")
	if err != nil {
		return nil, err
	}
	if len(in.AddEntries)+len(in.RemoveEntries) > 0 {
		switch {
		case in.CurrentVersion == nil:
			return nil, missingParameter("CurrentVersion")
		case *in.CurrentVersion != *l.Version:
			return nil, wire.Errorf("PrefixListVersionMismatch", "The prefix list is of version %d, not %d", *l.Version, *in.CurrentVersion)
		case in.MaxEntries != nil:
			return nil, invalidCombination("Entries and MaxEntries cannot be changed in one request")
		}
	}
	entries := slices.Clone(l.entries())
	for _, e := range in.RemoveEntries {
		i := slices.IndexFunc(entries, func(o types.PrefixListEntry) bool { return *o.Cidr == deref(e.Cidr) })
		if i < 0 {
			return nil, wire.Errorf("InvalidPrefixListModification", "The entry %.60s is not in prefix list '%s'", deref(e.Cidr), *l.PrefixListId)
		}
		entries = slices.Delete(entries, i, i+1)
	}
	if entries, err = addEntries(entries, *l.AddressFamily, in.AddEntries); err != nil {
		return nil, err
	}
	next := l
	if len(in.AddEntries)+len(in.RemoveEntries) > 0 {
		next = l.with(entries)
	}
	next = changed(next, func(l *prefixList) {
		if in.PrefixListName != nil {
			l.PrefixListName = in.PrefixListName
		}
		if in.MaxEntries != nil {
			l.MaxEntries = in.MaxEntries
		}
		l.State = types.PrefixListStateModifyComplete
	})
	if len(entries) > int(*next.MaxEntries) {
		return nil, wire.Errorf("PrefixListMaxEntriesExceeded", "%d entries are more than the maximum of %d", len(entries), *next.MaxEntries)
	}
	if err := s.checkUsers(l, next); err != nil {
		return nil, err
	}
	return func() *ec2.ModifyManagedPrefixListOutput {
		s.prefixLists.put(*l.PrefixListId, next)
		f := s.listsInForce[*l.PrefixListId]
		f.change(next)
		s.spreadList(*l.PrefixListId, f.event(f.changes))
		shown := next.ManagedPrefixList
		shown.State = types.PrefixListStateModifyInProgress
		return &ec2.ModifyManagedPrefixListOutput{PrefixList: &shown}
	}, nil
}

// checkUsers checks the quota of rules of the groups that use a list whose size changes.
func (s *Service) checkUsers(l, next *prefixList) error {
	if *next.MaxEntries <= *l.MaxEntries {
		return nil
	}
	v := s.prefixLists.values[*l.PrefixListId]
	s.prefixLists.values[*l.PrefixListId] = eventual.Settled(s.prefixLists.model, "", next)
	defer func() { s.prefixLists.values[*l.PrefixListId] = v }()
	for _, g := range s.groups.all {
		for _, rules := range [][]rule{g.ingress, g.egress} {
			if slices.ContainsFunc(rules, func(r rule) bool { return r.prefixList == *l.PrefixListId }) {
				if err := s.checkRuleQuota(rules); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (s *Service) deleteManagedPrefixList(r eventual.Reader, in *ec2.DeleteManagedPrefixListInput) (func() *ec2.DeleteManagedPrefixListOutput, error) {
	l, err := find(r, prefixListID, s.prefixLists, in.PrefixListId, "prefixListId")
	if err != nil {
		return nil, err
	}
	id := *l.PrefixListId
	for _, g := range s.groups.all {
		if slices.ContainsFunc(slices.Concat(g.ingress, g.egress), func(r rule) bool { return r.prefixList == id }) {
			return nil, depends("prefix list", id, "a rule of "+g.id)
		}
	}
	for t, routes := range s.routeTables.all {
		if slices.ContainsFunc(routes.Routes, func(r types.Route) bool { return deref(r.DestinationPrefixListId) == id }) {
			return nil, depends("prefix list", id, "a route of "+t)
		}
	}
	return func() *ec2.DeleteManagedPrefixListOutput {
		s.prefixLists.drop(id)
		delete(s.listsInForce, id)
		s.tags.drop(id)
		shown := l.ManagedPrefixList
		shown.State = types.PrefixListStateDeleteInProgress
		return &ec2.DeleteManagedPrefixListOutput{PrefixList: &shown}
	}, nil
}
