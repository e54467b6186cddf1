package consistency

import (
	"maps"
	"slices"
	"time"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
)

// version is what a listener said from one moment on: its rules, the default one under its own ARN; nil when there was no listener.
type version struct {
	from, to time.Time
	rules    map[string]Content
	joint    bool // it is the work of SetRulePriorities
}

// versions are all that a listener has said, beginning with nothing.
func versions(listener string, deeds []*deed) []version {
	list := []version{{}}
	state := book{}
	for _, d := range deeds {
		if !d.writes() {
			continue
		}
		state = state.changed(d)
		v := version{from: d.from, to: d.to, joint: d.joint > 0}
		for page, e := range state {
			if e.gone {
				continue
			}
			if v.rules == nil {
				v.rules = map[string]Content{}
			}
			if page == listenerPage {
				page = listener
			}
			v.rules[page] = e.now
		}
		list = append(list, v)
	}
	return list
}

// nodeName is one node.
type nodeName struct{ balancer, zone string }

func (h *History) toldByNode() map[nodeName][]Told {
	nodes := map[nodeName][]Told{}
	for _, t := range h.Told {
		name := nodeName{t.LoadBalancer, t.Zone}
		nodes[name] = append(nodes[name], t)
	}
	return nodes
}

// checkNodes holds each node to the versions of each listener.
func (h *History) checkNodes(order map[string][]*deed) []Violation {
	var found []Violation
	nodes := h.toldByNode()
	for _, listener := range slices.Sorted(maps.Keys(order)) {
		if !isListener(listener) || ambiguous(order[listener]) {
			continue
		}
		said := versions(listener, order[listener])
		for name, told := range nodes {
			if name.balancer == balancerOf(listener) {
				w := watch{History: h, listener: listener, zone: name.zone, said: said, lag: h.most(profile.ALBRuleChange)}
				if wrong := w.follow(told); wrong != nil {
					found = append(found, *wrong)
				}
			}
		}
	}
	return found
}

// ambiguous says whether the order of two writes is not known, though the nodes may have had the states in between: where two programs
// did the same to the same rule at the same moment.
func ambiguous(deeds []*deed) bool {
	for i, d := range deeds {
		for _, other := range deeds[:i] {
			if d.writes() && other.writes() && !(d.known && other.known) && !d.from.After(other.to) {
				return true
			}
		}
	}
	return false
}

// watch follows one node through the versions of one listener.
type watch struct {
	*History
	listener, zone string
	said           []version
	lag            time.Duration
	low            int // the oldest version that the node can have now
}

func (w *watch) follow(told []Told) *Violation {
	for i, t := range told {
		if t.Closed {
			return nil
		}
		rules := t.Listeners[w.listener]
		if wrong := w.take(t, rules); wrong != nil {
			return wrong
		}
		until := w.End
		if i+1 < len(told) {
			until = told[i+1].At
		}
		for k, v := range w.said {
			due := v.to.Add(w.lag)
			if k > 0 && due.After(t.Done) && due.Before(until) && w.among(rules, k, w.newest(due)) < 0 {
				return new(violated("lag", "node of %s still acts on an older version of %s at %s, %s after version %d was accepted",
					w.zone, short(w.listener), clock(due), w.lag, k))
			}
		}
	}
	return nil
}

// take checks what the node was told at one moment.
func (w *watch) take(t Told, rules map[string]Content) *Violation {
	newest, overdue := w.newest(t.Done), 0
	for k, v := range w.said {
		if k > 0 && v.to.Add(w.lag).Before(t.At) {
			overdue = k
		}
	}
	if k := w.among(rules, max(w.low, overdue), newest); k >= 0 {
		w.low = k
		return nil
	}
	k := w.among(rules, 0, len(w.said)-1)
	switch {
	case k < 0 && w.half(rules):
		return new(violated("permutation", "node of %s was given a part of a permutation of %s at %s: %v", w.zone, short(w.listener), clock(t.At), rules))
	case w.among(rules, w.low, newest) >= 0:
		return new(violated("lag", "node of %s was given version %d of %s at %s, when version %d was due", w.zone, k, short(w.listener), clock(t.At), overdue))
	case k > newest:
		return new(violated("order", "node of %s was given version %d of %s at %s, before it was accepted", w.zone, k, short(w.listener), clock(t.At)))
	}
	return new(violated("order", "node of %s was given version %d of %s at %s, after version %d (-1: no version): %v", w.zone, k, short(w.listener), clock(t.At), w.low, rules))
}

// newest is the last version that can have been accepted by a moment.
func (w *watch) newest(at time.Time) int {
	newest := 0
	for k, v := range w.said {
		if k > 0 && !v.from.After(at) {
			newest = k
		}
	}
	return newest
}

// among is the first version with these rules from one on to another one, or -1.
func (w *watch) among(rules map[string]Content, from, to int) int {
	for k := from; k <= to; k++ {
		if maps.Equal(w.said[k].rules, rules) {
			return k
		}
	}
	return -1
}

// half says whether rules are a mixture of what they were before a permutation and after it.
func (w *watch) half(rules map[string]Content) bool {
	for k, v := range w.said {
		if !v.joint || len(v.rules) != len(rules) {
			continue
		}
		mixed := true
		for rule, c := range rules {
			mixed = mixed && (c == v.rules[rule] || c == w.said[k-1].rules[rule])
		}
		if mixed {
			return true
		}
	}
	return false
}

// registration is one call that registered or deregistered a target.
type registration struct {
	from, to   time.Time
	registered bool
}

// registrations are the accepted ones by group and target, in order. The calls for one target must not overlap.
func (h *History) registrations() map[string]map[string][]registration {
	all := map[string]map[string][]registration{}
	note := func(c Call, group, target string, registered bool) {
		if all[group] == nil {
			all[group] = map[string][]registration{}
		}
		all[group][target] = append(all[group][target], registration{c.Received, c.done(), registered})
	}
	for _, c := range h.Calls {
		if c.Code != "" {
			continue
		}
		switch in := c.Input.(type) {
		case *elb.RegisterTargetsInput:
			for _, t := range in.Targets {
				note(c, *in.TargetGroupArn, *t.Id, true)
			}
		case *elb.DeregisterTargetsInput:
			for _, t := range in.Targets {
				note(c, *in.TargetGroupArn, *t.Id, false)
			}
		}
	}
	return all
}

// checkDrained holds each node to the registrations: it was given a target only after it had been registered, and not any more when its
// deregistration is due.
func (h *History) checkDrained() []Violation {
	var found []Violation
	type place struct{ balancer, zone, group string }
	last := map[place]ToldTargets{}
	lag := h.most(profile.ALBDeregister)
	calls := h.registrations()
	check := func(t ToldTargets, until time.Time) {
		for _, target := range t.Targets {
			if since, forbidden := notHere(calls[t.Group][target], lag, t.Done, until); forbidden {
				found = append(found, violated("drained", "node of %s has target %s at some time from %s to %s; it was not to have it from %s on", t.Zone, target, clock(t.Done), clock(until), clock(since)))
			}
		}
	}
	for _, t := range h.Targets {
		at := place{t.LoadBalancer, t.Zone, t.Group}
		if before, ok := last[at]; ok {
			check(before, t.At)
		}
		last[at] = t
	}
	for at, t := range last {
		end := h.End
		for _, told := range h.Told {
			if told.Closed && told.LoadBalancer == at.balancer && told.Zone == at.zone {
				end = told.At
			}
		}
		check(t, end)
	}
	return found
}

// notHere says whether a node that had a target all the time was not to have it at some moment: before it was registered, or from when its
// deregistration was due until it was registered again.
func notHere(calls []registration, lag time.Duration, from, until time.Time) (since time.Time, forbidden bool) {
	if len(calls) == 0 || from.Before(calls[0].from) {
		return from, true
	}
	for i, r := range calls {
		if r.registered {
			continue
		}
		due, again := r.to.Add(lag), until
		if i+1 < len(calls) {
			again = calls[i+1].from
		}
		if start := later(due, from); start.Before(again) && start.Before(until) {
			return due, true
		}
	}
	return time.Time{}, false
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func clock(t time.Time) string { return t.Format("15:04:05.000") }
