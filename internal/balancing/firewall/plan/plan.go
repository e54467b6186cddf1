// Package plan decides which ingress rules the security groups of pods and nodes need, and which of ours
// may go. It performs nothing and knows no clock.
//
// Rules from one source security group are merged into one range of ports for each endpoint group and
// protocol, so that the number of target groups does not use up a group's rules. What is wanted is
// authorised first; only when a later read has shown all of it, and time to take effect has passed, is
// anything revoked (the third law: make before break), and never what a binding may need of which too little is
// known. At the limit of rules nothing is revoked to make
// room, since that would open a gap.
//
// Start reading at Plan.
package plan

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
)

// Label is the description that marks a rule as owned by the cluster's bindings together.
const Label = "elbv2.k8s.aws/targetGroupBinding=shared"

// Grant is traffic that an endpoint's security group must let in. Its Permission has exactly one source.
type Grant struct {
	GroupID string
	model.Permission
}

// Group is an endpoint security group as it was last read.
type Group struct {
	ID      string
	Ingress []model.Permission
	// SeenAt is when the read began, WrittenAt when our own last write to the group returned.
	SeenAt, WrittenAt time.Time
	// HeldSince is when the read began that first showed everything that is wanted now; zero when none has.
	HeldSince time.Time
}

// Snapshot is everything that a decision depends on.
type Snapshot struct {
	// Revocable says that Unheard is known. Otherwise nothing is revoked.
	Revocable bool
	Grants    []Grant
	// Unheard is what bindings ask for whose grants are not known, or not all: because they have not been worked
	// on yet, cannot be served, or have endpoints that cannot be found. They may need it in any group.
	Unheard []model.Permission
	Groups  []Group
	// Settle is how long a rule takes to reach the network interfaces.
	Settle time.Duration
}

// Change is what to do to one group: Authorize now, or Revoke; never both.
type Change struct {
	GroupID   string
	Authorize []model.Permission
	Revoke    []model.Permission
	// Held says that a read showed everything that is wanted.
	Held bool
	// Waits says that rules are to be revoked when a read from after the settle time still shows Held.
	Waits bool
	// Kept are rules that only bindings may need whose grants are not known.
	Kept []model.Permission
}

// Plan decides for each group of the snapshot.
func Plan(s Snapshot) []Change {
	wanted := Merged(s.Grants)
	var changes []Change
	for _, g := range s.Groups {
		changes = append(changes, forGroup(s, g, wanted[g.ID]))
	}
	slices.SortFunc(changes, func(a, b Change) int { return cmp.Compare(a.GroupID, b.GroupID) })
	return changes
}

func forGroup(s Snapshot, g Group, wanted []model.Permission) Change {
	change := Change{GroupID: g.ID}
	present := map[model.Permission]bool{}
	for _, p := range g.Ingress {
		present[identity(p)] = true
	}
	want := map[model.Permission]bool{}
	for _, p := range wanted {
		want[identity(p)] = true
		if !present[identity(p)] {
			change.Authorize = append(change.Authorize, p)
		}
	}
	if len(change.Authorize) > 0 || !g.SeenAt.After(g.WrittenAt) {
		return change
	}
	change.Held = true
	if !s.Revocable {
		return change
	}
	var obsolete []model.Permission
	for _, p := range g.Ingress {
		switch {
		case !Owned(p) || want[identity(p)]:
		case slices.ContainsFunc(s.Unheard, func(unheard model.Permission) bool { return serves(p, unheard, wanted) }):
			change.Kept = append(change.Kept, p)
		default:
			obsolete = append(obsolete, p)
		}
	}
	change.Kept = sorted(change.Kept)
	settled := !g.HeldSince.IsZero() && !g.SeenAt.Before(g.HeldSince.Add(s.Settle))
	switch {
	case len(obsolete) == 0:
	case len(wanted) == 0, settled:
		change.Revoke = sorted(obsolete)
	default:
		change.Waits = true
	}
	return change
}

// serves says that a rule may let in traffic that is asked for and that no wanted rule lets in.
func serves(rule, asked model.Permission, wanted []model.Permission) bool {
	low, high := max(rule.FromPort, asked.FromPort), min(rule.ToPort, asked.ToPort)
	if low > high || rule.Protocol != asked.Protocol || !sameSource(rule, asked) {
		return false
	}
	return !slices.ContainsFunc(wanted, func(w model.Permission) bool {
		return w.Protocol == asked.Protocol && w.FromPort <= low && high <= w.ToPort && source(w) == source(asked)
	})
}

// source is where a permission's traffic comes from.
func source(p model.Permission) model.Permission {
	p.Protocol, p.FromPort, p.ToPort, p.Description = "", 0, 0, ""
	return p
}

// sameSource says that traffic from one source may come from the other: the same one, or an address range that
// overlaps. What cannot be read may be anything.
func sameSource(a, b model.Permission) bool {
	if source(a) == source(b) {
		return true
	}
	x, y := cmp.Or(a.CIDR, a.IPv6CIDR), cmp.Or(b.CIDR, b.IPv6CIDR)
	if x == "" || y == "" {
		return false
	}
	one, err := netip.ParsePrefix(x)
	other, err2 := netip.ParsePrefix(y)
	return err != nil || err2 != nil || one.Overlaps(other)
}

// Merged are the rules that each group needs: one range for each protocol and source group, and every
// address range by itself.
func Merged(grants []Grant) map[string][]model.Permission {
	type source struct{ group, protocol, from string }
	ranges := map[source]model.Permission{}
	single := map[string]map[model.Permission]bool{}
	for _, g := range grants {
		p := identity(g.Permission)
		if p.SourceGroupID == "" {
			if single[g.GroupID] == nil {
				single[g.GroupID] = map[model.Permission]bool{}
			}
			single[g.GroupID][p] = true
			continue
		}
		key := source{g.GroupID, p.Protocol, p.SourceGroupID}
		if old, ok := ranges[key]; ok {
			p.FromPort, p.ToPort = min(p.FromPort, old.FromPort), max(p.ToPort, old.ToPort)
		}
		ranges[key] = p
	}
	merged := map[string][]model.Permission{}
	for key, p := range ranges {
		merged[key.group] = append(merged[key.group], labelled(p))
	}
	for group, permissions := range single {
		for p := range permissions {
			merged[group] = append(merged[group], labelled(p))
		}
	}
	for group := range merged {
		merged[group] = sorted(merged[group])
	}
	return merged
}

// Owned says whether a rule carries our label among the comma-separated pairs of its description.
func Owned(p model.Permission) bool {
	for pair := range strings.SplitSeq(p.Description, ",") {
		if strings.TrimSpace(pair) == Label {
			return true
		}
	}
	return false
}

// identity is what makes a rule the same to EC2: everything but the description.
func identity(p model.Permission) model.Permission {
	p.Description = ""
	return p
}

func labelled(p model.Permission) model.Permission {
	p.Description = Label
	return p
}

func sorted(permissions []model.Permission) []model.Permission {
	return slices.SortedFunc(slices.Values(permissions), func(a, b model.Permission) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.FromPort, b.FromPort), cmp.Compare(a.ToPort, b.ToPort),
			cmp.Compare(a.SourceGroupID, b.SourceGroupID), cmp.Compare(a.CIDR, b.CIDR), cmp.Compare(a.IPv6CIDR, b.IPv6CIDR), cmp.Compare(a.PrefixListID, b.PrefixListID))
	})
}
