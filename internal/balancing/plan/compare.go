package plan

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
)

// replaces reports that a target group cannot be changed into the wanted one.
func replaces(wanted, have model.TargetGroup) bool {
	return wanted.TargetType != have.TargetType || wanted.Protocol != have.Protocol ||
		cmp.Or(wanted.ProtocolVersion, "HTTP1") != cmp.Or(have.ProtocolVersion, "HTTP1")
}

// key names a destination of a forward: by ARN, or by resource id while it does not exist.
func key(g model.WeightedTargetGroup) string {
	if g.ARN != "" {
		return g.ARN
	}
	return "new " + g.ResourceID
}

// sameActions compares as AWS does: the order of target groups, the weight of a lone one and unset
// redirect fields have no meaning.
func sameActions(a, b []model.Action) bool { return slices.EqualFunc(a, b, sameAction) }

func sameAction(a, b model.Action) bool {
	if a.Type != b.Type {
		return false
	}
	switch {
	case a.Forward != nil && b.Forward != nil:
		return a.Forward.Stickiness == b.Forward.Stickiness && maps.Equal(weights(a.Forward), weights(b.Forward))
	case a.Redirect != nil && b.Redirect != nil:
		return spelledOut(*a.Redirect) == spelledOut(*b.Redirect)
	case a.FixedResponse != nil && b.FixedResponse != nil:
		return *a.FixedResponse == *b.FixedResponse
	}
	return a.Forward == nil && b.Forward == nil && a.Redirect == nil && b.Redirect == nil && a.FixedResponse == nil && b.FixedResponse == nil
}

func weights(f *model.Forward) map[string]int32 {
	m := map[string]int32{}
	for _, g := range f.TargetGroups {
		m[key(g)] += g.Weight
	}
	if len(m) == 1 {
		for k := range m {
			m[k] = 1 // AWS ignores the weight of a lone group
		}
	}
	return m
}

func spelledOut(r model.Redirect) model.Redirect {
	r.Protocol, r.Host, r.Port = cmp.Or(r.Protocol, "#{protocol}"), cmp.Or(r.Host, "#{host}"), cmp.Or(r.Port, "#{port}")
	r.Path, r.Query = cmp.Or(r.Path, "/#{path}"), cmp.Or(r.Query, "#{query}")
	return r
}

// conditionsKey is equal for conditions that match the same requests whatever their order.
func conditionsKey(conditions []model.Condition) string {
	var parts []string
	for _, c := range conditions {
		values := append(slices.Sorted(slices.Values(c.Values)), "~")
		values = append(values, slices.Sorted(slices.Values(c.RegexValues))...)
		var query []string
		for _, q := range c.Query {
			query = append(query, q.Key+"="+q.Value)
		}
		slices.Sort(query)
		parts = append(parts, strings.Join(append([]string{c.Field, strings.ToLower(c.HeaderName)}, append(values, query...)...), "\x00"))
	}
	slices.Sort(parts)
	return strings.Join(parts, "\x01")
}

// differing is the part of wanted that have does not say. A nil have has not been read, and says nothing
// against it.
func differing(wanted, have map[string]string) map[string]string {
	if have == nil {
		return nil
	}
	var out map[string]string
	for k, v := range wanted {
		if have[k] != v {
			if out == nil {
				out = map[string]string{}
			}
			out[k] = v
		}
	}
	return out
}

// sameSource compares permissions as EC2 does: the description has no part in their identity.
func sameSource(p model.Permission) model.Permission {
	p.Description = ""
	return p
}

func without(all, remove []model.Permission) []model.Permission {
	var out []model.Permission
	for _, p := range all {
		if !slices.ContainsFunc(remove, func(r model.Permission) bool { return sameSource(r) == sameSource(p) }) {
			out = append(out, p)
		}
	}
	return out
}

func sameSet(a, b []string) bool {
	return slices.Equal(slices.Compact(slices.Sorted(slices.Values(a))), slices.Compact(slices.Sorted(slices.Values(b))))
}

// The tags that are never taken away, whoever wrote them.
var keptTags = []string{
	"kubernetes.io/cluster-name", "kubernetes.io/namespace", "kubernetes.io/ingress-name", "kubernetes.io/service-name",
	"kubernetes.io/service-port", "ingress.k8s.aws/cluster",
}

func (s *situation) tags(resource Ref, wanted, have map[string]string) {
	if have == nil || wanted == nil {
		return // not read
	}
	if add := differing(wanted, have); len(add) > 0 {
		s.add(stageTags, AddTags{Resource: resource, Tags: add})
	}
	var remove []string
	for _, k := range slices.Sorted(maps.Keys(have)) {
		_, keep := wanted[k]
		if keep || strings.HasPrefix(k, "aws:") || strings.HasPrefix(k, "kubernetes.io/cluster/") || slices.Contains(keptTags, k) || slices.Contains(s.state.ExternalTags, k) {
			continue
		}
		remove = append(remove, k)
	}
	if len(remove) > 0 {
		s.add(stageTags, RemoveTags{Resource: resource, Keys: remove})
	}
}
