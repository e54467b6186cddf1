package plan

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
)

// heirs are the rules to be made that take over requests of a live rule that nobody wants any more: those that
// some of its requests match before any other wanted rule. Until they are in place, it must stay.
func heirs(live model.ObservedRule, pairs []pair) []string {
	var out []string
	for _, p := range pairs {
		covered := func(other pair) bool {
			return other.wanted.Priority < p.wanted.Priority && covers(other.wanted.Conditions, live.Conditions, p.wanted.Conditions)
		}
		if p.have == nil && overlap(live.Conditions, p.wanted.Conditions) && !slices.ContainsFunc(pairs, covered) {
			out = append(out, p.wanted.ResourceID)
		}
	}
	return out
}

// overlap says that a request may match both lists of conditions; true when in doubt.
func overlap(a, b []model.Condition) bool {
	for _, x := range a {
		for _, y := range b {
			if x.Field == y.Field && disjoint(x, y) {
				return false
			}
		}
	}
	return true
}

// disjoint says that no request has one value that matches both conditions on its field. A request may have many
// headers of a name and many query parameters, so that those are never disjoint.
func disjoint(a, b model.Condition) bool {
	if len(a.RegexValues)+len(b.RegexValues) > 0 || len(a.Values) == 0 || len(b.Values) == 0 {
		return false
	}
	var meet func(x, y string) bool
	switch a.Field {
	case "path-pattern":
		meet = patternsMeet
	case "host-header":
		meet = func(x, y string) bool { return patternsMeet(strings.ToLower(x), strings.ToLower(y)) }
	case "http-request-method":
		meet = func(x, y string) bool { return x == y }
	case "source-ip":
		meet = networksMeet
	default:
		return false
	}
	return !slices.ContainsFunc(a.Values, func(x string) bool {
		return slices.ContainsFunc(b.Values, func(y string) bool { return meet(x, y) })
	})
}

func networksMeet(x, y string) bool {
	a, err := netip.ParsePrefix(x)
	b, err2 := netip.ParsePrefix(y)
	return err != nil || err2 != nil || a.Overlaps(b)
}

// patternsMeet says that some text matches both patterns, in which * is any text and ? any character.
func patternsMeet(a, b string) bool {
	// meets[j] is whether the rest of a from i and the rest of b from j have a common text.
	meets := make([]bool, len(b)+1)
	for i := len(a); i >= 0; i-- {
		before := slices.Clone(meets) // for i+1
		for j := len(b); j >= 0; j-- {
			switch {
			case i == len(a) && j == len(b):
				meets[j] = true
			case i < len(a) && a[i] == '*':
				meets[j] = before[j] || j < len(b) && meets[j+1]
			case j < len(b) && b[j] == '*':
				meets[j] = meets[j+1] || i < len(a) && before[j]
			case i == len(a) || j == len(b):
				meets[j] = false
			default:
				meets[j] = (a[i] == b[j] || a[i] == '?' || b[j] == '?') && before[j+1]
			}
		}
	}
	return meets[0]
}

// covers says that every request that matches both a and b also matches the rule's conditions; false when in doubt.
func covers(rule, a, b []model.Condition) bool {
	given := slices.Concat(a, b)
	return !slices.ContainsFunc(rule, func(wanted model.Condition) bool {
		return !slices.ContainsFunc(given, func(g model.Condition) bool { return implies(g, wanted) })
	})
}

// implies says that what matches a condition matches the other too; false when in doubt.
func implies(given, wanted model.Condition) bool {
	if given.Field != wanted.Field || !strings.EqualFold(given.HeaderName, wanted.HeaderName) {
		return false
	}
	pattern := given.Field == "path-pattern" || given.Field == "host-header"
	if !pattern || cmp.Or(len(given.RegexValues), len(given.Query)) > 0 || len(given.Values) == 0 {
		return conditionsKey([]model.Condition{given}) == conditionsKey([]model.Condition{wanted})
	}
	return !slices.ContainsFunc(given.Values, func(v string) bool {
		return !slices.ContainsFunc(wanted.Values, func(w string) bool { return patternHolds(w, v) })
	})
}

// patternHolds says that each text that matches the other pattern matches the pattern too: what * and ? stand
// for there must be taken by a * here, or a ? by a ?. Patterns are what users write: the time it takes is at most
// the product of their lengths, whatever is in them.
func patternHolds(pattern, other string) bool {
	i, j := 0, 0
	star, taken := -1, 0 // the last star of the pattern, and the end of what it takes of the other
	for j < len(other) {
		switch {
		case i < len(pattern) && pattern[i] == '*':
			star, taken = i, j
			i++
		case i < len(pattern) && other[j] != '*' && (pattern[i] == other[j] || pattern[i] == '?'):
			i, j = i+1, j+1
		case star >= 0:
			taken++
			i, j = star+1, taken
		default:
			return false
		}
	}
	return strings.Trim(pattern[i:], "*") == ""
}
