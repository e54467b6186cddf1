package ec2

import (
	"cmp"
	"encoding/base64"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// query is what all describe operations take.
type query struct {
	ids     []string
	filters []types.Filter
	max     *int32
	token   *string
}

// kind is what finding resources of one kind needs to know of it.
type kind[T any] struct {
	id func(T) string
	// notFound is the error code for an unknown id, malformed the one for an id without prefix.
	notFound, malformed, prefix string
	// filters by name, without tag:<key> and tag-key, which every kind has.
	filters map[string]func(T) []string
	// idsExcludePages says that MaxResults together with ids is refused.
	idsExcludePages bool
}

// find answers a describe operation: resources by id and filter, sorted by id, and the token of the next page.
func find[T any](k kind[T], all []T, tags map[string]map[string]string, q query) (found []T, next *string, err error) {
	if q.max != nil && len(q.ids) > 0 && k.idsExcludePages {
		return nil, nil, wire.Errorf("InvalidParameterCombination", "The parameter MaxResults cannot be used together with ids")
	}
	if all, err = k.byID(all, q.ids); err != nil {
		return nil, nil, err
	}
	if err := k.check(q.filters); err != nil {
		return nil, nil, err
	}
	for _, one := range all {
		if k.matches(one, tags[k.id(one)], q.filters) {
			found = append(found, one)
		}
	}
	slices.SortFunc(found, func(a, b T) int { return cmp.Compare(k.id(a), k.id(b)) })
	return page(k.id, found, q)
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
	for _, id := range ids {
		one, ok := known[id]
		switch {
		case ok:
			chosen = append(chosen, one)
			delete(known, id) // an id given twice is answered once
		case !strings.HasPrefix(id, k.prefix):
			return nil, wire.Errorf(k.malformed, "Invalid id: %q (expecting %q)", id, k.prefix+"...")
		case !slices.ContainsFunc(chosen, func(c T) bool { return k.id(c) == id }):
			return nil, k.missing(id)
		}
	}
	return chosen, nil
}

func (k kind[T]) missing(id string) error {
	return wire.Errorf(k.notFound, "The id '%s' does not exist", id)
}

func (k kind[T]) check(filters []types.Filter) error {
	values := 0
	for _, f := range filters {
		name := deref(f.Name)
		if name == "" {
			return wire.Errorf("InvalidParameterValue", "A filter without a name")
		}
		if _, ok := k.filters[name]; !ok && name != "tag-key" && !strings.HasPrefix(name, "tag:") {
			return wire.Errorf("InvalidParameterValue", "The filter '%s' is invalid", name)
		}
		values += len(f.Values)
	}
	if values > 200 {
		return wire.Errorf("FilterLimitExceeded", "The maximum number of filter values specified on a single call is 200")
	}
	return nil
}

// matches: the values of one filter are alternatives, all filters must hold.
func (k kind[T]) matches(one T, tags map[string]string, filters []types.Filter) bool {
	for _, f := range filters {
		name := deref(f.Name)
		var have []string
		if key, ok := strings.CutPrefix(name, "tag:"); ok {
			if value, tagged := tags[key]; tagged {
				have = []string{value}
			}
		} else if name == "tag-key" {
			have = slices.Collect(maps.Keys(tags))
		} else {
			have = k.filters[name](one)
		}
		if !slices.ContainsFunc(f.Values, func(pattern string) bool { return anyLike(pattern, have) }) {
			return false
		}
	}
	return true
}

func anyLike(pattern string, values []string) bool {
	if !strings.ContainsAny(pattern, "*?") {
		return slices.Contains(values, pattern)
	}
	return slices.ContainsFunc(values, func(v string) bool { return like(pattern, v) })
}

// like matches * with any characters and ? with one; \ takes the special meaning from the next.
func like(pattern, value string) bool {
	// path.Match stops its * at a slash and knows character classes, which these filters do not.
	const slash = "\x00"
	pattern = strings.NewReplacer("[", `\[`, "/", slash).Replace(pattern)
	ok, err := path.Match(pattern, strings.ReplaceAll(value, "/", slash))
	return ok && err == nil
}

// page cuts the page that is asked for out of the sorted resources. Tokens name the last resource of the
// page before, so that additions and deletions between two pages neither repeat nor lose another one.
func page[T any](id func(T) string, found []T, q query) ([]T, *string, error) {
	if q.token != nil && *q.token != "" {
		last, err := base64.RawURLEncoding.DecodeString(*q.token)
		if err != nil || len(last) == 0 {
			return nil, nil, wire.Errorf("InvalidNextToken", "The token '%.40s' is invalid", *q.token)
		}
		found = slices.DeleteFunc(found, func(one T) bool { return id(one) <= string(last) })
	}
	if q.max == nil {
		return found, nil, nil
	}
	if *q.max < 5 || *q.max > 1000 {
		return nil, nil, wire.Errorf("InvalidParameterValue", "Value ( %d ) for parameter maxResults is invalid. Expecting a value from 5 to 1000", *q.max)
	}
	if len(found) <= int(*q.max) {
		return found, nil, nil
	}
	found = found[:*q.max]
	return found, new(base64.RawURLEncoding.EncodeToString([]byte(id(found[len(found)-1])))), nil
}

// one wraps an optional string into the list that filters compare with.
func one(s *string) []string {
	if s == nil {
		return nil
	}
	return []string{*s}
}
