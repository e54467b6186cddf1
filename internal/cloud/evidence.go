package cloud

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/cloud/budget"
	"github.com/lockstep-delivery/lockstep/internal/evidence"
)

// evidenceSource answers from what the mirror has seen, never from what it believes.
type evidenceSource struct {
	cloud *Cloud
	pods  PodFinder

	mu sync.Mutex
	// asked are the Ingresses whose evidence rests on a stack or target group, by its id or ARN.
	asked map[string]map[ingressKey]bool
}

type ingressKey struct{ namespace, name string }

// Evidence gives evidence of the splits of Ingresses, also of those whose load balancer another controller
// owns: everything is found by tags. Pods are joined to targets by their addresses.
func (c *Cloud) Evidence(pods PodFinder) evidence.Source {
	return &evidenceSource{cloud: c, pods: pods, asked: map[string]map[ingressKey]bool{}}
}

// Subscribe implements evidence.Source.
func (s *evidenceSource) Subscribe(changed func(namespace, ingress string)) (cancel func()) {
	return s.cloud.Subscribe(func(change Change) {
		for ingress := range s.concerned(change) {
			changed(ingress.namespace, ingress.name)
		}
	})
}

// concerned are the Ingresses that a change may matter to.
func (s *evidenceSource) concerned(change Change) map[ingressKey]bool {
	found := map[ingressKey]bool{}
	if namespace, name, implicit := strings.Cut(change.StackID, "/"); implicit {
		found[ingressKey{namespace, name}] = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range []string{change.StackID, change.TargetGroupARN} {
		for ingress := range s.asked[key] {
			found[ingress] = true
		}
	}
	return found
}

func (s *evidenceSource) remember(ingress ingressKey, keys ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range keys {
		if key == "" {
			continue
		}
		if s.asked[key] == nil {
			s.asked[key] = map[ingressKey]bool{}
		}
		s.asked[key][ingress] = true
	}
}

// found is what the tags say about a query.
type found struct {
	loadBalancers []string
	// groups are the candidates for each Service of the query, in its order.
	groups [][]string
}

func (f found) missing() bool {
	return len(f.loadBalancers) == 0 || slices.ContainsFunc(f.groups, func(arns []string) bool { return len(arns) == 0 })
}

func (f found) all() []string { return slices.Concat(f.groups...) }

// Observe implements evidence.Source. SeenAt is when the oldest of the reads of weights began, and is never
// before a write of ours to one of them; targets have their own time. A load balancer that was once seen
// active is not asked for that again.
func (s *evidenceSource) Observe(ctx context.Context, query evidence.Query, notBefore time.Time) (evidence.Snapshot, error) {
	const attempts = 3 // resources may vanish between two reads
	for attempt := 1; ; attempt++ {
		snapshot, err := s.observe(ctx, query, notBefore)
		if err == nil {
			return snapshot, nil
		}
		if attempt == attempts || !errors.Is(err, ErrNotFound) {
			return evidence.Snapshot{}, fmt.Errorf("cannot see the traffic of Ingress %s/%s: %w", query.Namespace, query.Ingress, err)
		}
	}
}

func (s *evidenceSource) observe(ctx context.Context, query evidence.Query, notBefore time.Time) (evidence.Snapshot, error) {
	c := s.cloud
	f, err := s.find(ctx, query, notBefore)
	if err != nil {
		return evidence.Snapshot{}, err
	}
	ingress := ingressKey{query.Namespace, query.Ingress}
	s.remember(ingress, f.all()...)
	for _, arn := range f.loadBalancers {
		s.remember(ingress, c.stackOf(arn))
	}
	group, groupCtx := errgroup.WithContext(ctx)
	for _, arn := range f.loadBalancers {
		group.Go(func() error { return c.seeLoadBalancer(groupCtx, arn, f.all(), notBefore) })
	}
	for _, arn := range f.all() {
		c.leaseTargets(arn, evidenceLease)
		if !c.have.targets.Fresh(arn, notBefore) {
			group.Go(func() error { return c.readTargets(groupCtx, budget.Targets, arn, notBefore) })
		}
	}
	if err := group.Wait(); err != nil {
		return evidence.Snapshot{}, err
	}
	if !notBefore.IsZero() { // somebody is about to act on it
		for _, listener := range c.listenersOf(f) {
			c.expectPredecessor(listener)
		}
	}
	return s.assemble(query, f), nil
}

// find looks the query's load balancers and target groups up by their tags. When something is missing
// the lists are read again: at once if notBefore asks for it, else at most once in ListInterval.
func (s *evidenceSource) find(ctx context.Context, query evidence.Query, notBefore time.Time) (found, error) {
	c := s.cloud
	if err := c.readBalancers(ctx, budget.Targets, time.Time{}); err != nil {
		return found{}, err
	}
	f := s.lookUp(query)
	if f.missing() && c.filled.listed().Order == 0 { // the long list may be on its way; these tags are a short one
		if err := c.readAttachedTags(ctx, budget.Targets, f.loadBalancers); err != nil {
			return found{}, err
		}
		f = s.lookUp(query)
	}
	if !f.missing() {
		return f, nil
	}
	since := notBefore
	if oldest := c.now().Add(-c.settings.ListInterval); since.Before(oldest) {
		since = oldest
	}
	if err := c.readLists(ctx, budget.Targets, since); err != nil {
		return found{}, err
	}
	return s.lookUp(query), nil
}

func (s *evidenceSource) lookUp(query evidence.Query) found {
	c := s.cloud
	var f found
	loadBalancers, _, resources := c.byTag()
	for _, service := range query.Services {
		f.groups = append(f.groups, c.groupsOf(resources, query, service))
	}
	f.loadBalancers = c.carrying(loadBalancers[query.Namespace+"/"+query.Ingress], c.config.EvidenceCluster)
	if len(f.loadBalancers) == 0 { // an Ingress of an explicit group: where its target groups are
		for _, arn := range f.all() {
			group, _ := c.have.targetGroups.Believed(arn)
			f.loadBalancers = append(f.loadBalancers, group.LoadBalancerARNs...)
		}
		slices.Sort(f.loadBalancers)
		f.loadBalancers = slices.Compact(f.loadBalancers)
	}
	return f
}

// groupsOf gives the target groups of a Service by the resource tag "<ns>/<ingress>-<service>:<port>". A
// port that is written otherwise in the tag (by name, by number) is accepted when there is only one.
func (c *Cloud) groupsOf(resources map[string][]string, query evidence.Query, service evidence.ServicePort) []string {
	prefix := query.Namespace + "/" + query.Ingress + "-" + service.Service + ":"
	if exact := c.carrying(resources[prefix+service.Port], c.config.EvidenceCluster); len(exact) > 0 {
		return exact
	}
	var others []string
	for resource, arns := range resources {
		if strings.HasPrefix(resource, prefix) {
			others = append(others, c.carrying(arns, c.config.EvidenceCluster)...)
		}
	}
	if len(others) == 1 {
		return others
	}
	return nil
}

// seeLoadBalancer has the load balancer's listeners and routes read as freshly as asked for. Routes that
// hold the groups are read again, too, when they were read before our last write to any other of them: the
// snapshot's age must not hide that write.
func (c *Cloud) seeLoadBalancer(ctx context.Context, arn string, groups []string, notBefore time.Time) error {
	lb, _ := c.have.loadBalancers.Believed(arn)
	if lb.State != stateActive && lb.State != stateImpaired {
		c.watchProvisioning(arn)
		if _, at, _ := c.have.loadBalancers.Seen(arn); at.Time.Before(notBefore) {
			if err := c.readLoadBalancer(ctx, budget.Targets, arn, notBefore); err != nil {
				return err
			}
		}
	}
	_, known := c.have.listeners.Believed(arn)
	if !known || c.have.listeners.Doubtful(arn) || !notBefore.IsZero() && !c.have.listeners.Fresh(arn, notBefore) {
		if err := c.readListeners(ctx, budget.Traffic, arn, notBefore); err != nil {
			return err
		}
	}
	listeners, _ := c.have.listeners.Believed(arn)
	since := notBefore
	for _, listener := range listeners {
		if routes, _ := c.have.routes.Believed(listener.ARN); routes.forwardTo(groups) {
			if wrote := c.have.routes.WroteAt(listener.ARN).Time; wrote.After(since) {
				since = wrote
			}
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, listener := range listeners {
		wanted := notBefore
		if routes, _ := c.have.routes.Believed(listener.ARN); routes.forwardTo(groups) {
			wanted = since
		}
		if !c.have.routes.Fresh(listener.ARN, wanted) {
			group.Go(func() error { return c.readRoutes(ctx, budget.Traffic, listener.ARN, wanted) })
		}
	}
	return group.Wait()
}

// listenersOf are the listeners that forward to what was found.
func (c *Cloud) listenersOf(f found) []string {
	var arns []string
	for _, lb := range f.loadBalancers {
		listeners, _ := c.have.listeners.Believed(lb)
		for _, listener := range listeners {
			if routes, _ := c.have.routes.Believed(listener.ARN); routes.forwardTo(f.all()) {
				arns = append(arns, listener.ARN)
			}
		}
	}
	return arns
}

// forwardTo reports whether any rule or the default action forwards to one of the groups.
func (r routes) forwardTo(groups []string) bool {
	return actionsForwardTo(r.Default, groups) ||
		slices.ContainsFunc(r.Rules, func(rule model.ObservedRule) bool { return actionsForwardTo(rule.Actions, groups) })
}

func actionsForwardTo(actions []model.Action, groups []string) bool {
	return slices.ContainsFunc(actions, func(a model.Action) bool {
		return a.Forward != nil && slices.ContainsFunc(a.Forward.TargetGroups, func(g model.WeightedTargetGroup) bool {
			return slices.Contains(groups, g.ARN)
		})
	})
}

// placed is an action that forwards to groups of the query.
type placed struct {
	arn     string
	forward model.Forward
}

// assemble makes the snapshot of what has been seen.
func (s *evidenceSource) assemble(query evidence.Query, f found) evidence.Snapshot {
	c := s.cloud
	var out evidence.Snapshot
	if len(f.loadBalancers) == 0 {
		out.SeenAt = c.filled.listed().Time
	}
	var all []placed
	for _, arn := range f.loadBalancers {
		lb, _ := c.have.loadBalancers.Believed(arn)
		active := lb.State == stateActive || lb.State == stateImpaired
		if out.LoadBalancer.ARN == "" || active && !out.LoadBalancer.Active {
			out.LoadBalancer = evidence.LoadBalancer{ARN: arn, DNSName: lb.DNSName, Active: active}
		}
		placements, seenAt := c.placements(arn, f.all())
		all = append(all, placements...)
		if out.SeenAt.IsZero() || seenAt.Before(out.SeenAt) {
			out.SeenAt = seenAt
		}
	}
	services := map[string]string{} // by target group ARN
	for i, service := range query.Services {
		arn, problem := chosen(service, f.groups[i], all)
		if problem != "" && len(f.loadBalancers) > 0 {
			out.Problem = cmp.Or(out.Problem, problem)
		}
		group := s.group(query.Namespace, service.Service, arn)
		for _, p := range all {
			if weightOf(p.forward, arn) >= 0 {
				group.Stickiness = max(group.Stickiness, p.forward.Stickiness)
			}
		}
		if known, _ := c.have.targetGroups.Believed(arn); arn != "" && known.TargetType == model.TargetInstance {
			out.Problem = cmp.Or(out.Problem, fmt.Sprintf("the target group of Service %s has instances as targets, so its pods cannot be told apart: use target type ip", service.Service))
		}
		services[arn] = service.Service
		out.Groups = append(out.Groups, group)
	}
	delete(services, "")
	for _, p := range all {
		if delay := c.delayOf(p.arn); !delay.Since.IsZero() && (out.Delay.Since.IsZero() || delay.Since.Before(out.Delay.Since)) {
			out.Delay = delay
		}
		placement := evidence.Placement{ARN: p.arn, Weights: map[string]int32{}}
		for _, g := range p.forward.TargetGroups {
			if service, ok := services[g.ARN]; ok {
				placement.Weights[service] = g.Weight
			}
		}
		out.Placements = append(out.Placements, placement)
	}
	for _, listener := range c.listenersOf(f) {
		until := c.lateUntil(listener, func(l lateCall, seen routes) bool {
			return l.change != nil && !reflect.DeepEqual(allPlaced(listener, l.change(seen), f.all()), allPlaced(listener, seen, f.all()))
		})
		if until.After(out.UnansweredUntil) {
			out.UnansweredUntil = until
		}
		if until := c.outdatedUntil(listener); until.After(out.OutdatedUntil) {
			out.OutdatedUntil = until
		}
	}
	if len(f.loadBalancers) > 0 && len(all) == 0 {
		out.Problem = cmp.Or(out.Problem, fmt.Sprintf("no rule and no default action of load balancer %s forwards to the target groups of action %s",
			out.LoadBalancer.ARN, query.Action))
	}
	return out
}

// placements are the actions of a load balancer that forward to any of the groups, as seen, and when the
// oldest read of them began; of all routes when there are none.
func (c *Cloud) placements(loadBalancerARN string, groups []string) (found []placed, seenAt time.Time) {
	var emptyAt time.Time
	older := func(at *time.Time, other time.Time) {
		if at.IsZero() || other.Before(*at) {
			*at = other
		}
	}
	listeners, _ := c.have.listeners.Believed(loadBalancerARN)
	for _, listener := range listeners {
		routes, at, _ := c.have.routes.Seen(listener.ARN)
		before := len(found)
		if routes.Default == nil { // the answer had no default rule: the listener's own read has the actions
			routes.Default = listener.DefaultActions
		}
		found = append(found, allPlaced(listener.ARN, routes, groups)...)
		if len(found) > before {
			older(&seenAt, at.Time)
		}
		older(&emptyAt, at.Time)
	}
	if len(found) == 0 {
		seenAt = emptyAt
	}
	if seenAt.IsZero() { // no listeners at all
		_, at, _ := c.have.listeners.Seen(loadBalancerARN)
		seenAt = at.Time
	}
	if seenAt.IsZero() { // a load balancer that we have just created
		seenAt = c.have.loadBalancers.WroteAt(loadBalancerARN).Time
	}
	return found, seenAt
}

// allPlaced are the actions of a listener's routes that forward to any of the groups.
func allPlaced(listenerARN string, r routes, groups []string) []placed {
	found := placedIn(listenerARN, r.Default, groups)
	for _, rule := range r.Rules {
		found = append(found, placedIn(rule.ARN, rule.Actions, groups)...)
	}
	return found
}

func placedIn(arn string, actions []model.Action, groups []string) []placed {
	var found []placed
	for _, a := range actions {
		if actionsForwardTo([]model.Action{a}, groups) {
			found = append(found, placed{arn: arn, forward: *a.Forward})
		}
	}
	return found
}

// weightOf is a group's weight in a forward, and -1 when the forward does not name it.
func weightOf(f model.Forward, arn string) int32 {
	for _, g := range f.TargetGroups {
		if g.ARN == arn {
			return g.Weight
		}
	}
	return -1
}

// chosen picks a Service's target group among the candidates: the one that carries traffic, if several
// have the tag (an old one may wait for its deletion).
func chosen(service evidence.ServicePort, candidates []string, all []placed) (arn, problem string) {
	used := slices.DeleteFunc(slices.Clone(candidates), func(arn string) bool {
		return !slices.ContainsFunc(all, func(p placed) bool { return weightOf(p.forward, arn) >= 0 })
	})
	switch {
	case len(used) == 1:
		return used[0], ""
	case len(used) > 1:
		return used[0], fmt.Sprintf("rules forward to %d target groups of Service %s (%s): which of them holds its pods cannot be told",
			len(used), service.Service, strings.Join(used, ", "))
	case len(candidates) > 0:
		return candidates[0], ""
	}
	return "", fmt.Sprintf("no target group carries the tag %s of Service %s, port %s", model.TagResource, service.Service, service.Port)
}

// group gives a target group with its targets, joined with the pods that have their addresses now.
func (s *evidenceSource) group(namespace, service, arn string) evidence.Group {
	group := evidence.Group{Service: service, ARN: arn}
	if arn == "" {
		return group
	}
	health, at, _ := s.cloud.have.targets.Seen(arn)
	group.SeenAt = at.Time
	for _, t := range health {
		target := evidence.Target{Address: net.JoinHostPort(t.ID, strconv.Itoa(int(t.Port))), State: evidence.TargetState(t.State), Reason: t.Reason}
		if uid, hash, ok := s.pods.PodByAddress(namespace, t.ID); ok {
			target.PodUID, target.PodTemplateHash = uid, hash
		}
		group.Targets = append(group.Targets, target)
	}
	return group
}
