package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/split"
)

// destination is one target group of a forward that changes: what it gets now, what is wanted, and what
// is safe.
type destination struct {
	group      model.WeightedTargetGroup
	have, want int64 // weights
	safe       int64 // share in units of 1/(total have * total want)
	wanted     bool  // named by the wanted action
	held       bool  // must not rise
	keeps      bool  // keeps more than is wanted, since others are held
}

// law1 returns the part of a wanted action that may be carried out now: no share rises to a group without
// healthy targets while another group of the live action has some. What such a group must not get yet
// stays with the groups that would have given it; the group itself is attached at its present share (0
// for a new one), so that its health checks can start. Exempt: no group of the live action has a healthy
// target.
func (s *situation) law1(where string, live, wanted []model.Action) []model.Action {
	from, to := forwardOf(live), forwardOf(wanted)
	if from == nil || to == nil {
		return wanted
	}
	all, haveTotal, wantTotal := destinations(from, to)
	s.name(all)
	var held []string
	for i := range all {
		d := &all[i]
		if !d.rises(haveTotal, wantTotal) {
			continue
		}
		if health, fresh := s.health(d.group); !fresh || health.Healthy == 0 {
			d.held = true
			held = append(held, fmt.Sprintf("%s from %s to %s (%s)", groupText(d.group), percent(d.have, haveTotal), percent(d.want, wantTotal), healthText(health, fresh)))
			if !fresh {
				s.out.Reads = append(s.out.Reads, d.group.ARN)
			}
		}
	}
	if len(held) == 0 || s.nobodyServes(from) {
		return wanted
	}
	groups := safeWeights(all, haveTotal, wantTotal, s)
	w := Wait{Reason: fmt.Sprintf("%s: not raised before targets are healthy: %s", where, strings.Join(held, ", "))}
	for _, d := range all {
		if d.held && d.group.ARN != "" {
			w.TargetGroups = append(w.TargetGroups, d.group.ARN)
		}
	}
	if len(groups) > split.MaxDestinations {
		s.block(where, fmt.Sprintf("going over from the live target groups needs %d at once and AWS allows %d", len(groups), split.MaxDestinations), "change fewer of them at a time")
		return live
	}
	s.wait(w)
	safe := slices.Clone(wanted)
	for i := range safe {
		if safe[i].Forward != nil {
			safe[i].Forward = &model.Forward{TargetGroups: groups, Stickiness: to.Stickiness}
		}
	}
	return safe
}

// raised are the groups, by ARN, whose share rises from the live action to what may be carried out now, and that
// have healthy targets.
func (s *situation) raised(live, actions []model.Action) []string {
	from, to := forwardOf(live), forwardOf(actions)
	if from == nil || to == nil {
		return nil
	}
	var arns []string
	all, haveTotal, wantTotal := destinations(from, to)
	for _, d := range all {
		if health, _ := s.health(d.group); d.rises(haveTotal, wantTotal) && health.Healthy > 0 {
			arns = append(arns, d.group.ARN)
		}
	}
	return arns
}

// rises reports whether the group's share is to grow, given the totals of all weights before and after.
func (d destination) rises(haveTotal, wantTotal int64) bool {
	return d.want*haveTotal > d.have*wantTotal || haveTotal == 0 && d.want > 0
}

func forwardOf(actions []model.Action) *model.Forward {
	for _, a := range actions {
		if a.Forward != nil {
			return a.Forward
		}
	}
	return nil
}

// destinations joins the groups of two forwards, the wanted ones first.
func destinations(from, to *model.Forward) (all []destination, haveTotal, wantTotal int64) {
	have, want := weights(from), weights(to)
	for _, f := range []*model.Forward{to, from} {
		for _, g := range f.TargetGroups {
			if slices.ContainsFunc(all, func(d destination) bool { return key(d.group) == key(g) }) {
				continue
			}
			_, wanted := want[key(g)]
			d := destination{group: g, have: int64(have[key(g)]), want: int64(want[key(g)]), wanted: wanted}
			haveTotal, wantTotal = haveTotal+d.have, wantTotal+d.want
			all = append(all, d)
		}
	}
	return all, haveTotal, wantTotal
}

// name gives groups that only the live action names their resource ids, for people to read.
func (s *situation) name(all []destination) {
	for i := range all {
		if g := s.byARN[all[i].group.ARN]; all[i].group.ResourceID == "" && g != nil && s.groups[g.ResourceID] == g {
			all[i].group.ResourceID = g.ResourceID
		}
	}
}

// absenceAge is how old a read may be that shows no healthy target: one may become healthy at any moment. A read that was
// made for this very plan counts however long AWS took to answer, or a slow AWS would never be young enough.
const absenceAge = 2 * time.Second

// nobodyServes reports that no group of the live action has a healthy target, from reads of all that were made just now.
func (s *situation) nobodyServes(live *model.Forward) bool {
	var old []string
	for _, g := range live.TargetGroups {
		health, fresh := s.health(g)
		if fresh && health.Healthy > 0 {
			return false
		}
		asked := !s.state.ReadSince.IsZero() && !health.SeenAt.Before(s.state.ReadSince)
		if !fresh || s.state.HealthAge > 0 && !asked && s.state.Now.Sub(health.SeenAt) > absenceAge {
			old = append(old, g.ARN)
		}
	}
	s.out.Reads = append(s.out.Reads, old...)
	return len(old) == 0
}

// safeWeights are the weights in which held groups keep their share, the other rising ones get what is
// wanted, and the falling ones keep what the held ones must not have, those with healthy targets first.
func safeWeights(all []destination, haveTotal, wantTotal int64, s *situation) []model.WeightedTargetGroup {
	back, moving := int64(0), false
	for i := range all {
		d := &all[i]
		if d.safe = d.want * haveTotal; d.held {
			back += d.safe - d.have*wantTotal
			d.safe = d.have * wantTotal
		} else if d.safe > d.have*wantTotal {
			moving = true
		}
	}
	for _, healthyFirst := range []bool{true, false} {
		for i := range all {
			d := &all[i]
			health, _ := s.health(d.group)
			if d.held || d.safe >= d.have*wantTotal || healthyFirst && health.Healthy == 0 {
				continue
			}
			more := min(back, d.have*wantTotal-d.safe)
			d.safe, back = d.safe+more, back-more
			d.keeps = d.keeps || more > 0
		}
	}
	if !moving { // nothing but attachments is safe: the live weights stay as they are written
		for i := range all {
			all[i].safe = all[i].have
			if haveTotal == 0 && !all[i].held {
				all[i].safe = all[i].want
			}
		}
	}
	left := slices.DeleteFunc(slices.Clone(all), func(d destination) bool { return !d.wanted && d.safe == 0 })
	if len(left) > 1 || !left[0].held { // a lone group gets everything, whatever its weight
		all = left
	}
	if moving && !slices.ContainsFunc(all, func(d destination) bool { return d.safe%haveTotal != 0 }) {
		for i := range all {
			all[i].safe /= haveTotal // as the wanted weights are written
		}
	}
	return inWeights(all)
}

// inWeights writes shares as the whole numbers that AWS takes. Where rounding is needed, what is lost goes
// to the group with the largest share that is neither held nor rising.
func inWeights(all []destination) []model.WeightedTargetGroup {
	divisor, total, largest := int64(0), int64(0), int64(0)
	for _, d := range all {
		divisor, total, largest = gcd(divisor, d.safe), total+d.safe, max(largest, d.safe)
	}
	if largest <= split.MaxWeight {
		divisor = 1 // they can be written as they are
	}
	exact := largest/divisor <= split.MaxWeight
	rest, keeper := int64(split.MaxWeight), -1
	groups := make([]model.WeightedTargetGroup, len(all))
	for i, d := range all {
		groups[i] = d.group
		if exact {
			groups[i].Weight = int32(d.safe / divisor)
			continue
		}
		groups[i].Weight = int32(d.safe * split.MaxWeight / total)
		rest -= int64(groups[i].Weight)
		if d.keeps && (keeper < 0 || groups[i].Weight > groups[keeper].Weight) {
			keeper = i
		}
	}
	if !exact && keeper >= 0 {
		groups[keeper].Weight += int32(rest)
	}
	return groups
}

func gcd(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// health is what is known of a group's targets, and whether it is fresh enough to raise a share on it. A
// group that does not exist yet has none.
func (s *situation) health(g model.WeightedTargetGroup) (Health, bool) {
	if g.ARN == "" {
		return Health{}, true
	}
	health, known := s.state.Health[g.ARN]
	if observed := s.byARN[g.ARN]; observed != nil && observed.TargetsSeenAt.After(health.SeenAt) {
		health = HealthOf(observed.Targets, observed.TargetsSeenAt)
		known = true
	}
	fresh := known && (s.state.HealthAge == 0 || s.state.Now.Sub(health.SeenAt) <= s.state.HealthAge)
	return health, fresh
}

// HealthOf counts targets, of which draining ones are no longer part.
func HealthOf(targets []model.TargetHealth, seenAt time.Time) Health {
	h := Health{SeenAt: seenAt}
	for _, t := range targets {
		switch t.State {
		case "draining", "unhealthy.draining":
			continue
		case "healthy":
			h.Healthy++
		}
		h.Total++
	}
	return h
}

func percent(part, total int64) string {
	if total == 0 {
		return "0 %"
	}
	return fmt.Sprintf("%.4g %%", float64(part)*100/float64(total))
}

func healthText(h Health, fresh bool) string {
	if !fresh {
		return "its targets have not been read"
	}
	return fmt.Sprintf("%d of %d targets healthy", h.Healthy, h.Total)
}
