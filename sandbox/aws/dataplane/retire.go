package dataplane

import "slices"

// This file is what a node remembers of what it was told to forget: what it has counted must not become less, and the memory of it must not grow for
// ever.

const (
	// goneKept is how many targets that have left a node remembers one by one for Stats.
	goneKept = 10_000
	// removedKept is how many groups that were removed it remembers one by one: what comes back counts on.
	removedKept = 100
)

// history is what a node has counted for what has left. Guarded by Node.mu.
type history struct {
	gone []*target
	// forgotten holds the sums of the targets that are no longer in gone, by group; those of forgotten groups have no name.
	forgotten map[string]TargetUsage
	// nameless has counted what forgotten groups have. Nil: there are none.
	nameless *group
	removed  []*group // in the order of their newest removal; some may be back
}

// retire remembers a target that has left, if it was ever used: otherwise there is nothing to tell of it.
func (n *Node) retire(t *target) {
	if t.usage.snapshot() == (TargetUsage{}) {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.gone) == goneKept {
		for _, old := range n.gone[:goneKept/10] {
			n.forgotten[old.group.arn] = n.forgotten[old.group.arn].and(old.usage.snapshot())
		}
		n.gone = slices.Delete(n.gone, 0, goneKept/10)
	}
	n.gone = append(n.gone, t)
}

// remember takes note of a group that was removed, and forgets the one that was removed longest ago if they become too many. Called with n.apply
// held, so that no rule begins to name a group that is forgotten.
func (n *Node) remember(g *group) {
	n.mu.Lock()
	n.removed = append(slices.DeleteFunc(n.removed, func(before *group) bool { return before == g }), g)
	var oldest *group
	if len(n.removed) > removedKept {
		oldest = n.removed[0]
		n.removed = slices.Delete(n.removed, 0, 1)
	}
	n.mu.Unlock()
	if oldest == nil {
		return
	}
	oldest.mu.Lock()
	defer oldest.mu.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case oldest.known(): // it is back
	case n.routes.Load().name(oldest):
		n.removed = append(n.removed, oldest)
	default:
		n.forget(oldest)
	}
}

// forget drops a group for good; what it and its targets have counted goes into sums. What requests that are still in flight will count is lost. Called
// with the locks of the group and the node held.
func (n *Node) forget(g *group) {
	g.forgotten = true
	delete(n.groups, g.arn)
	sum := n.forgotten[""].and(n.forgotten[g.arn])
	delete(n.forgotten, g.arn)
	n.gone = slices.DeleteFunc(n.gone, func(t *target) bool {
		if t.group != g {
			return false
		}
		sum = sum.and(t.usage.snapshot())
		return true
	})
	n.forgotten[""] = sum
	if n.nameless == nil {
		n.nameless = newGroup(n, "")
	}
	n.nameless.absorb(g)
}

// known says whether the node was told anything of the group that it has not been told to forget.
func (g *group) known() bool { return g.settings != nil || g.setVersion != 0 || len(g.targets) > 0 }

// absorb adds what another group has counted.
func (g *group) absorb(other *group) {
	g.requests.Add(other.requests.Load())
	g.opened.Add(other.opened.Load())
	for status, count := range other.generated {
		g.generated[status] += count
	}
	for i := range other.times.buckets {
		g.times.buckets[i].Add(other.times.buckets[i].Load())
	}
}

// name says whether a rule or a default action names a group.
func (r *routes) name(g *group) bool {
	names := func(a *action) bool { return a != nil && a.forward != nil && slices.Contains(a.forward.groups, g) }
	for _, l := range r.listeners {
		if names(l.fallback) || slices.ContainsFunc(l.rules, func(c compiledRule) bool { return names(c.action) }) {
			return true
		}
	}
	return false
}
