// Package plan compares the load balancer that is wanted with the one that AWS has and says which
// operations are safe now, what must be waited for, and what a person must resolve.
//
// It keeps three laws by itself, whoever asks for what:
//
//   - no share of traffic rises to a target group without healthy targets while another group of the live
//     action has some (law.go);
//   - the new is made before the old is broken: rules, target groups, security-group rules, listeners;
//   - only what carries this cluster's ownership tags is changed, and nothing is deleted on the word of
//     an incomplete observation.
//
// It performs nothing, reads no clock and logs nothing. Every operation of a plan is safe when it is
// carried out after those before it, even if the round ends right there: so whoever applies a plan may
// stop anywhere, look again and make a new one.
//
//	p := plan.Make(desired, observed, state)
//	fmt.Print(p) // the preview
//
// Start reading at Make; the order of operations is that of the stage constants.
package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
)

// Plan is what should be done about one stack.
type Plan struct {
	// Operations are safe now, in this order.
	Operations []Operation
	// Waits say what is held back until something happens.
	Waits []Wait
	// Blocked says what only a person can resolve; everything else goes on.
	Blocked []Blocked
	// Reads are ARNs of target groups whose targets must be read afresh before more can be said.
	Reads []string
	// Overlaps are the security groups and load balancers that keep something old beside the new for a while. Whoever
	// plans again gives State.OverlapSince what Overlapping makes of them.
	Overlaps []string
	// StaleGroups says that a security group must be read from AWS again before old sources are revoked.
	StaleGroups bool
	// Gone says that a stack without load balancer has nothing left, in AWS and in Kubernetes.
	Gone bool
}

// Wait is one thing that is waited for.
type Wait struct {
	// Reason is for a person and names groups and counts.
	Reason string
	// TargetGroups are the ARNs whose health ends the wait.
	TargetGroups []string
	// Until is when to look again; zero when a change in AWS or Kubernetes wakes us.
	Until time.Time
}

// Blocked is a difference that is not removed automatically.
type Blocked struct {
	Resource string
	Reason   string
	Remedy   string
}

// State is what a plan depends on besides the wanted and the observed stack.
type State struct {
	Now     time.Time
	Cluster string
	// Settle is how long AWS's data plane may still use a target group after the last rule named it.
	Settle time.Duration
	// HealthAge is how old the read of a group's targets may be when a share is raised; 0 means any age.
	HealthAge time.Duration
	// ReadSince is when the reads that the plan before asked for began, if it did: nothing younger can be had.
	ReadSince time.Time
	// FirewallSettle is how long a source takes to be effective after AWS has accepted it; 0 waits for no more
	// than an observation that shows it.
	FirewallSettle time.Duration
	// OverlapSince is since when all wanted sources of a security group, or security groups of a load balancer,
	// have been in place beside old ones, by id or ARN.
	OverlapSince map[string]time.Time
	// Health holds reads of targets that are newer than those of the observation, by ARN.
	Health map[string]Health
	// Bindings are the TargetGroupBinding objects that carry the stack's labels.
	Bindings []ObservedBinding
	// BackendGroupID is the security group that the cluster's load balancers share; empty when there is none.
	BackendGroupID string
	// Alone says that no other object of the cluster needs the shared security group, so that it goes with this stack.
	Alone bool
	// ExternalTags are keys that somebody else manages: they are not taken away.
	ExternalTags []string
}

// Overlapping is State.OverlapSince for the next plan: a group that still overlaps keeps its time. It may be
// kept in memory alone: after a restart the old sources stay for one more settle time.
func Overlapping(before map[string]time.Time, p Plan, now time.Time) map[string]time.Time {
	after := map[string]time.Time{}
	for _, id := range p.Overlaps {
		since, known := before[id]
		if !known {
			since = now
		}
		after[id] = since
	}
	return after
}

// Health is what a read of a target group's targets said.
type Health struct {
	Healthy int
	Total   int
	// SeenAt is when the read began.
	SeenAt time.Time
}

// ObservedBinding is a TargetGroupBinding object as Kubernetes has it.
type ObservedBinding struct {
	// Binding holds the spec; its sources have only GroupID, and TargetGroup is empty.
	model.Binding
	TargetGroupARN string
	// UnusedSince is when the last rule that names the group was seen gone; zero while one names it.
	UnusedSince time.Time
	// Deleting says that it is being deleted and its targets are being deregistered.
	Deleting bool
	// Pending says that its present spec has not been carried out yet, so that traffic may not be let in.
	Pending bool
}

// stage orders operations. Each stage may rely on all before it having been carried out.
type stage int

const (
	stageTraffic   stage = iota // weights, routes and priorities between things that exist
	stageTransport              // certificates and policies of listeners
	stageFirewall               // security groups made, sources authorised
	stageGroups                 // target groups made
	stageBindings               // pods become targets
	stageBalancer               // load balancer made or adjusted
	stageListener               // listeners made
	stageRoutes                 // rules that need something made above
	stageSettings               // health checks and attributes
	stageRemoval                // what nothing refers to any more
	stageTags
	stages
)

// situation is one call of Make.
type situation struct {
	desired  model.Stack
	observed model.Observed
	state    State

	balancer *model.ObservedLoadBalancer
	groups   map[string]*model.ObservedTargetGroup // the one that serves, by resource id
	byARN    map[string]*model.ObservedTargetGroup
	firewall map[string]*model.ObservedSecurityGroup // by resource id
	live     map[string]bool                         // ARNs that a rule or default action names

	out    Plan
	staged [stages][]Operation
}

// Make compares and plans. Calling it twice with the same values gives the same plan.
//
//	wanted | observed            | plan
//	-------+---------------------+------------------------------------------------------------
//	yes    | incomplete          | traffic between known rules only; wait for the rest
//	yes    | nothing             | security groups, target groups, bindings, balancer, listeners, rules
//	yes    | equal               | nothing
//	yes    | differs             | make, shift (law 1), then remove after Settle
//	no     | protected           | blocked
//	no     | something           | bindings, listeners, balancer, target groups, security groups
//	no     | nothing             | Gone
func Make(desired model.Stack, observed model.Observed, state State) Plan {
	s := &situation{desired: desired, observed: observed, state: state}
	s.match()
	switch {
	case len(s.out.Blocked) > 0:
		// Ownership is not clear: hands off.
	case !observed.Complete:
		s.wait(Wait{Reason: "not all of the stack has been read from AWS yet: " + observed.Missing})
		if desired.LoadBalancer != nil {
			s.listeners()
			s.staged = [stages][]Operation{stageTraffic: s.staged[stageTraffic]}
		}
	case desired.LoadBalancer == nil:
		s.removeAll()
	default:
		s.securityGroups()
		s.targetGroups()
		s.loadBalancer()
		s.listeners()
		s.bindings()
		s.removeUnused()
	}
	for _, operations := range s.staged {
		s.out.Operations = append(s.out.Operations, operations...)
	}
	slices.Sort(s.out.Reads)
	s.out.Reads = slices.Compact(s.out.Reads)
	return s.out
}

func (s *situation) add(at stage, op Operation) { s.staged[at] = append(s.staged[at], op) }

func (s *situation) wait(w Wait) { s.out.Waits = append(s.out.Waits, w) }

func (s *situation) block(resource, reason, remedy string) {
	s.out.Blocked = append(s.out.Blocked, Blocked{resource, reason, remedy})
}

// match finds for every wanted resource the observed one with the same resource id. Names play no role:
// what another controller made under another name is taken over as it is.
func (s *situation) match() {
	s.groups, s.byARN = map[string]*model.ObservedTargetGroup{}, map[string]*model.ObservedTargetGroup{}
	s.firewall, s.live = map[string]*model.ObservedSecurityGroup{}, map[string]bool{}
	for i := range s.observed.LoadBalancers {
		lb := &s.observed.LoadBalancers[i]
		s.owned(lb.Tags, lb.ResourceID, lb.ARN)
		if s.balancer == nil {
			s.balancer = lb
		} else if s.desired.LoadBalancer != nil {
			s.block(lb.ARN, "it carries the same ownership tags as "+s.balancer.ARN, "delete one of the two or correct its tags")
		}
		for _, l := range lb.Listeners {
			s.refer(l.DefaultActions)
			for _, r := range l.Rules {
				s.refer(r.Actions)
			}
		}
	}
	wanted := map[string]model.TargetGroup{}
	for _, g := range s.desired.TargetGroups {
		wanted[g.ResourceID] = g
	}
	for i := range s.observed.TargetGroups {
		g := &s.observed.TargetGroups[i]
		s.owned(g.Tags, g.ResourceID, g.ARN)
		s.byARN[g.ARN] = g
		w, ok := wanted[g.ResourceID]
		if !ok || replaces(w, g.TargetGroup) {
			continue
		}
		if other := s.groups[g.ResourceID]; other == nil || !s.live[other.ARN] && s.live[g.ARN] {
			s.groups[g.ResourceID] = g
		}
	}
	for i := range s.observed.SecurityGroups {
		g := &s.observed.SecurityGroups[i]
		s.owned(g.Tags, g.ResourceID, g.GroupID)
		if s.firewall[g.ResourceID] == nil {
			s.firewall[g.ResourceID] = g
		}
	}
}

// owned blocks when a resource's tags say that it is not this stack's; unread tags are trusted to the
// observation, which found the resource by them.
func (s *situation) owned(tags map[string]string, resourceID, name string) {
	if resourceID == "" {
		s.block(name, "it has the stack's tags but no tag "+model.TagResource, "add the tag or remove the stack's tags")
	}
	if cluster, ok := tags[model.TagCluster]; ok && s.state.Cluster != "" && cluster != s.state.Cluster {
		s.block(name, "its tag says that cluster "+cluster+" owns it", "correct the tag or the controller's cluster name")
	}
}

func (s *situation) refer(actions []model.Action) {
	for _, a := range actions {
		if a.Forward != nil {
			for _, g := range a.Forward.TargetGroups {
				s.live[g.ARN] = true
			}
		}
	}
}

// resolved fills in the ARN of every target group that exists.
func (s *situation) resolved(actions []model.Action) []model.Action {
	out := slices.Clone(actions)
	for i, a := range out {
		if a.Forward == nil {
			continue
		}
		forward := *a.Forward
		forward.TargetGroups = slices.Clone(forward.TargetGroups)
		for j, g := range forward.TargetGroups {
			if found := s.groups[g.ResourceID]; g.ARN == "" && found != nil {
				forward.TargetGroups[j].ARN = found.ARN
			}
		}
		out[i].Forward = &forward
	}
	return out
}

// routeStage is where an operation with these actions belongs: with traffic when all its groups exist.
func routeStage(actions []model.Action) stage {
	for _, a := range actions {
		if a.Forward != nil && slices.ContainsFunc(a.Forward.TargetGroups, func(g model.WeightedTargetGroup) bool { return g.ARN == "" }) {
			return stageRoutes
		}
	}
	return stageTraffic
}

// String is the preview that users see.
func (p Plan) String() string {
	var b strings.Builder
	for _, op := range p.Operations {
		fmt.Fprintf(&b, "do      %s\n", op)
	}
	for _, w := range p.Waits {
		fmt.Fprintf(&b, "wait    %s\n", w)
	}
	for _, x := range p.Blocked {
		fmt.Fprintf(&b, "blocked %s\n", x)
	}
	for _, arn := range p.Reads {
		fmt.Fprintf(&b, "read    targets of %s\n", shortARN(arn))
	}
	if p.Gone {
		b.WriteString("gone    nothing is left\n")
	}
	if b.Len() == 0 {
		return "nothing to do\n"
	}
	return b.String()
}

func (w Wait) String() string {
	if w.Until.IsZero() {
		return w.Reason
	}
	return fmt.Sprintf("%s, again at %s", w.Reason, w.Until.UTC().Format(time.TimeOnly))
}

func (b Blocked) String() string { return fmt.Sprintf("%s: %s; %s", b.Resource, b.Reason, b.Remedy) }
