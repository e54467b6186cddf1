package ec2

import (
	"cmp"
	"encoding/base64"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// query is what all describe operations take.
type query struct {
	ids     []string
	filters []types.Filter
	max     *int32
	token   *string
}

// filters are those of one kind by name, without tag:<key> and tag-key, which every kind with tags has. They tell what
// a filter's values are compared with.
type filters[T any] map[string]func(*Service, T) []string

// kind is what listing resources of one kind needs to know of it.
type kind[T any] struct {
	id      func(T) string
	ids     naming
	filters filters[T]
	// tags are those of a resource that has them elsewhere than under its id; nil: under its id.
	untagged bool
	// idsExcludePages says that MaxResults together with ids is refused.
	idsExcludePages bool
	// smallest and largest page; 0 stands for 5 and 1000.
	smallest, largest int32
}

// list answers a describe operation: resources by id and filter, sorted by id, and the token of the next page.
func list[T any](s *Service, r eventual.Reader, k kind[T], all []T, q query) (found []T, next *string, err error) {
	if q.max != nil && len(q.ids) > 0 && k.idsExcludePages {
		return nil, nil, invalidCombination("The parameter MaxResults cannot be used together with ids")
	}
	if err := k.check(q.filters); err != nil {
		return nil, nil, err
	}
	if all, err = k.byID(all, q.ids); err != nil {
		return nil, nil, err
	}
	found = []T{}
	for _, one := range all {
		if k.matches(s, r, one, q.filters) {
			found = append(found, one)
		}
	}
	slices.SortFunc(found, func(a, b T) int { return cmp.Compare(k.id(a), k.id(b)) })
	return k.page(found, q)
}

func (k kind[T]) byID(all []T, ids []string) ([]T, error) {
	if len(ids) == 0 {
		return all, nil
	}
	known := make(map[string]T, len(all))
	for _, one := range all {
		known[k.id(one)] = one
	}
	chosen := make([]T, 0, len(ids))
	taken := map[string]bool{}
	for _, id := range ids {
		one, ok := known[id]
		switch {
		case !ok:
			return nil, k.ids.missing(id)
		case !taken[id]: // an id given twice is answered once
			chosen = append(chosen, one)
			taken[id] = true
		}
	}
	return chosen, nil
}

// maxFilterValues is the number of values of all filters of a request.
const maxFilterValues = 200

func (k kind[T]) check(filters []types.Filter) error {
	values := 0
	for _, f := range filters {
		name := deref(f.Name)
		if name == "" {
			return invalidValue("A filter without a name")
		}
		_, ok := k.filters[name]
		if !ok && (k.untagged || name != "tag-key" && !strings.HasPrefix(name, "tag:")) {
			return invalidValue("The filter '%.80s' is invalid", name)
		}
		if len(f.Values) == 0 {
			return invalidValue("The filter '%.80s' has no value", name)
		}
		values += len(f.Values)
	}
	if values > maxFilterValues {
		return wire.Errorf("FilterLimitExceeded", "The maximum number of filter values specified on a single call is %d", maxFilterValues)
	}
	return nil
}

// matches: the values of one filter are alternatives, all filters must hold.
func (k kind[T]) matches(s *Service, r eventual.Reader, one T, filters []types.Filter) bool {
	for _, f := range filters {
		name := deref(f.Name)
		var have []string
		if of, ok := k.filters[name]; ok {
			have = of(s, one)
		} else if tags := s.tagsOf(r, k.id(one)); name == "tag-key" {
			have = slices.Collect(maps.Keys(tags))
		} else if value, tagged := tags[strings.TrimPrefix(name, "tag:")]; tagged {
			have = []string{value}
		}
		if !slices.ContainsFunc(f.Values, func(pattern string) bool { return anyLike(pattern, have) }) {
			return false
		}
	}
	return true
}

func anyLike(pattern string, values []string) bool {
	if !strings.ContainsAny(pattern, `*?\`) {
		return slices.Contains(values, pattern)
	}
	return slices.ContainsFunc(values, func(v string) bool { return like([]rune(pattern), []rune(v)) })
}

// like matches * with any characters and ? with one; \ takes the special meaning from the next.
func like(pattern, value []rune) bool {
	// star and mark are where to go on when what follows the last * does not fit: let it take one more.
	p, v, star, mark := 0, 0, -1, 0
	for v < len(value) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, v
			p++
		case p < len(pattern) && pattern[p] == '?':
			p, v = p+1, v+1
		case p+1 < len(pattern) && pattern[p] == '\\' && pattern[p+1] == value[v]:
			p, v = p+2, v+1
		case p < len(pattern) && (pattern[p] != '\\' || p+1 == len(pattern)) && pattern[p] == value[v]:
			p, v = p+1, v+1
		case star >= 0:
			mark++
			p, v = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// page cuts the page that is asked for out of the sorted resources. Tokens name the kind, and the last resource of the
// page before, so that additions and deletions between two pages neither repeat nor lose another one.
func (k kind[T]) page(found []T, q query) ([]T, *string, error) {
	smallest, largest := cmp.Or(k.smallest, 5), cmp.Or(k.largest, 1000)
	if q.max != nil && (*q.max < smallest || *q.max > largest) {
		return nil, nil, invalidValue("Value ( %d ) for parameter maxResults is invalid. Expecting a value from %d to %d", *q.max, smallest, largest)
	}
	mark := k.ids.prefix + "\n"
	if deref(q.token) != "" {
		text, err := base64.RawURLEncoding.DecodeString(*q.token)
		last, ours := strings.CutPrefix(string(text), mark)
		if err != nil || !ours || last == "" {
			return nil, nil, wire.Errorf("InvalidPaginationToken", "The pagination token '%.40s' is not valid", *q.token)
		}
		found = slices.DeleteFunc(found, func(one T) bool { return k.id(one) <= last })
	}
	if q.max == nil || len(found) <= int(*q.max) {
		return found, nil, nil
	}
	found = found[:*q.max]
	return found, new(base64.RawURLEncoding.EncodeToString([]byte(mark + k.id(found[len(found)-1])))), nil
}

// one wraps an optional string into the list that filters compare with.
func one(s *string) []string {
	if s == nil {
		return nil
	}
	return []string{*s}
}

// given wraps a text that may be empty.
func given(texts ...string) []string {
	return slices.DeleteFunc(texts, func(t string) bool { return t == "" })
}

// each collects what filters compare with from a list.
func each[E any](list []E, of func(E) []string) []string {
	var values []string
	for _, e := range list {
		values = append(values, of(e)...)
	}
	return values
}
