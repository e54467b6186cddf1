// Package firewall keeps the ingress rules of the security groups of pods, so that load balancers reach
// the pods that are their targets.
//
// It owns only rules that carry its label, on the groups of the pods' network interfaces; it never touches
// the load balancers' own groups. Bindings only note what they ask for; one worker of the firewall's own, who
// is the only one to call AWS, authorises what is needed and revokes what is not needed any more, when package
// plan finds it safe. So no binding, and no target of one, ever waits for a call about a security group.
//
// Start reading at Firewall.Allow (wishes.go), then Firewall.Start.
package firewall

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lockstep-delivery/lockstep/internal/balancing/binding"
	"github.com/lockstep-delivery/lockstep/internal/balancing/firewall/plan"
	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/cloud"
)

// Cloud is what the firewall needs of AWS.
type Cloud interface {
	SecurityGroup(ctx context.Context, groupID string) (model.ObservedSecurityGroup, error)
	SecurityGroupsByTag(ctx context.Context, tags map[string]string) ([]model.ObservedSecurityGroup, error)
	AuthorizeIngress(ctx context.Context, groupID string, permissions []model.Permission) error
	RevokeIngress(ctx context.Context, groupID string, permissions []model.Permission) error
	NetworkInterfacesByAddress(ctx context.Context, addresses []string) ([]cloud.NetworkInterface, error)
}

// Settings of the firewall.
type Settings struct {
	// Cluster is the cluster's name, by whose tag the endpoint group of an interface with several is known.
	Cluster string
	// EndpointTags must be on that group too.
	EndpointTags map[string]string
	// Settle is how long a rule takes to reach the network interfaces.
	Settle time.Duration
	// Recheck is how often groups that wait to be revoked from are looked at.
	Recheck time.Duration
}

// Defaults of Settings. AWS names no time for security-group rules, only that it is short.
const (
	DefaultSettle  = 30 * time.Second
	DefaultRecheck = 10 * time.Second
)

// interfaceAge is how long the groups of an address are believed, ruleAge how long a group is believed to have its
// rules, and lateWindow how long a call without an answer may still arrive (as AWS takes signatures) and show.
const (
	interfaceAge = 10 * time.Minute
	ruleAge      = 10 * time.Minute
	lateWindow   = 7 * time.Minute
)

// Firewall keeps the rules of all bindings together, since they share security groups.
type Firewall struct {
	Cloud Cloud
	// Expected is what every binding asks for, from the source and not from a cache, the endpoints left out: what
	// one may need that the firewall has not heard of yet is not revoked.
	Expected func(ctx context.Context) (map[types.NamespacedName]binding.Networking, error)
	Settings Settings
	Logger   *slog.Logger
	// Now is the clock.
	Now func() time.Time

	wishes wishes
	kicked chan struct{}

	// pass lets one pass run at a time; what follows belongs to it.
	pass       sync.Mutex
	bindings   map[types.NamespacedName]*located
	groups     map[string]*groupState
	interfaces map[string]guard
	adopted    bool
}

// groupState is what is known of one endpoint group.
type groupState struct {
	// granted is what was wanted when all of it was found or made, tried what was wanted at the last attempt.
	granted, tried []model.Permission
	isGranted      bool
	// err is why the last attempt failed.
	err   error
	retry retry
	// written is when our own last write returned.
	written time.Time
	// held are the wanted rules that a read has shown, the first time one that began at heldSince.
	held      []model.Permission
	heldSince time.Time
	// clean says that there is nothing to do as far as the last read showed, which was at cleanSince; the group is
	// not called clean before doubtful: a call that AWS did not answer may still arrive.
	clean      bool
	cleanSince time.Time
	doubtful   time.Time
	// kept are the bindings for whose sake rules were kept at the last read, by what was heard of them then, and
	// keeps is how many reads in a row have kept some.
	kept  map[types.NamespacedName]heard
	keeps int
}

// heard is what the firewall knows of a binding: the version of what it has asked for, 0 when it has not, and
// whether that was found completely.
type heard struct {
	version int
	known   bool
}

// doubt has the group looked at again.
func (g *groupState) doubt() { g.clean, g.keeps = false, 0 }

// believed is how long a clean group is not read. A binding that can never be served keeps its rules for ever: the
// reads that find them still kept come ever more seldom.
func (g *groupState) believed(recheck time.Duration) time.Duration {
	if g.keeps == 0 {
		return ruleAge
	}
	return min(recheck<<min(g.keeps-1, 16), ruleAge)
}

// grants says that everything that is wanted has been found or made.
func (g *groupState) grants(wanted []model.Permission) bool {
	return g != nil && g.isGranted && slices.Equal(g.granted, wanted)
}

// New makes a firewall. It does nothing until it is started.
func New(c Cloud, settings Settings, expected func(context.Context) (map[types.NamespacedName]binding.Networking, error), logger *slog.Logger) *Firewall {
	if settings.Settle == 0 {
		settings.Settle = DefaultSettle
	}
	if settings.Recheck == 0 {
		settings.Recheck = DefaultRecheck
	}
	return &Firewall{
		Cloud: c, Expected: expected, Settings: settings, Logger: logger, Now: time.Now,
		kicked:   make(chan struct{}, 1),
		bindings: map[types.NamespacedName]*located{}, groups: map[string]*groupState{}, interfaces: map[string]guard{},
	}
}

// Start makes a pass whenever a binding asks for something new, and now and then for what waits, until the
// context ends.
func (f *Firewall) Start(ctx context.Context) error {
	for {
		began := f.Now()
		if err := f.Tidy(ctx); err != nil && ctx.Err() == nil {
			f.Logger.Warn("not all security-group rules are as they should be", "error", err)
		}
		timer := time.NewTimer(f.next(began))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-f.kicked:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// Tidy makes one pass: it authorises what is wanted, then looks for what may be revoked.
func (f *Firewall) Tidy(ctx context.Context) error {
	f.pass.Lock()
	defer f.pass.Unlock()
	errs := []error{f.serve(ctx), f.adopt(ctx)}
	for _, id := range slices.Sorted(maps.Keys(f.groups)) {
		// Traffic that is to be let in does not wait for what is to be revoked.
		errs = append(errs, f.revoke(ctx, id), f.serve(ctx))
	}
	return errors.Join(errs...)
}

// serve authorises what bindings have asked for since the last time, and tells them.
func (f *Firewall) serve(ctx context.Context) error {
	asked := f.wishes.asked()
	f.forget(asked)
	errs := []error{f.locate(ctx, asked)}
	wanted := plan.Merged(f.allGrants())
	for _, id := range slices.Sorted(maps.Keys(wanted)) {
		errs = append(errs, f.authorize(ctx, id, wanted[id]))
	}
	for key, w := range asked {
		at := f.bindings[key]
		if at == nil {
			continue
		}
		held, problems := true, []error{at.err}
		for _, id := range groupsOf(at.grants) {
			held = held && f.groups[id].grants(wanted[id])
			problems = append(problems, f.groups[id].err)
		}
		err := errors.Join(problems...)
		f.wishes.report(key, w.version, held && err == nil && at.version == w.version, err)
	}
	return errors.Join(errs...)
}

// authorize makes a group let in everything that is wanted of it. It asks AWS only when that has changed.
func (f *Firewall) authorize(ctx context.Context, id string, wanted []model.Permission) error {
	state := f.groups[id]
	if state == nil {
		state = &groupState{}
		f.groups[id] = state
	}
	if state.grants(wanted) || !state.retry.due(f.Now()) && slices.Equal(state.tried, wanted) {
		return nil
	}
	state.doubt()
	state.heldSince, state.held = time.Time{}, nil
	state.tried, state.isGranted = wanted, false
	change, err := f.changeOf(ctx, id, false)
	if err == nil {
		err = f.apply(ctx, change)
	}
	if state.noted(f.Now(), err); err == nil {
		state.granted, state.isGranted = wanted, true
	}
	return err
}

// wrote notes that a write has returned.
func (g *groupState) wrote(now time.Time, err error) {
	if g.written = now; errors.Is(err, cloud.ErrUnavailable) {
		g.doubtful = now.Add(lateWindow)
	}
}

// noted keeps what came of an attempt.
func (g *groupState) noted(now time.Time, err error) {
	if g.err = err; err == nil {
		g.retry = retry{}
		return
	}
	g.retry.failed(now, err)
}

// revoke takes away what nobody needs any more in a group, if there is anything.
func (f *Firewall) revoke(ctx context.Context, id string) error {
	state := f.groups[id]
	wanted := plan.Merged(f.allGrants())[id]
	if len(wanted) > 0 && !state.grants(wanted) || !state.retry.due(f.Now()) {
		return nil
	}
	if !state.heldSince.IsZero() && !slices.Equal(state.held, wanted) {
		state.doubt()
		state.held, state.heldSince = nil, time.Time{}
	}
	if state.clean && state.keeps > 0 && f.heardOf(state.kept) {
		state.doubt()
	}
	if state.clean && f.Now().Sub(state.cleanSince) < state.believed(f.Settings.Recheck) {
		return nil
	}
	change, err := f.changeOf(ctx, id, true)
	if errors.Is(err, cloud.ErrNotFound) && len(wanted) == 0 {
		delete(f.groups, id)
		return nil
	}
	if err == nil {
		err = f.apply(ctx, change)
		state.clean = err == nil && change.Held && len(change.Revoke) == 0 && !change.Waits && !f.Now().Before(state.doubtful)
		state.cleanSince = f.Now()
		if state.keeps++; len(change.Kept) == 0 || !state.clean {
			state.keeps = 0
		}
	}
	if len(change.Authorize) > 0 { // somebody took it away
		state.isGranted, state.held, state.heldSince = err == nil, nil, time.Time{}
	}
	state.noted(f.Now(), err)
	return err
}

// changeOf reads a group and plans for it. Whether something may be revoked is found out only when there is
// something.
func (f *Firewall) changeOf(ctx context.Context, id string, revocable bool) (plan.Change, error) {
	observed, err := f.Cloud.SecurityGroup(ctx, id)
	if err != nil {
		return plan.Change{}, fmt.Errorf("cannot read security group %s: %w", id, err)
	}
	state := f.groups[id]
	snapshot := plan.Snapshot{
		Revocable: revocable, Grants: f.allGrants(), Settle: f.Settings.Settle,
		Groups: []plan.Group{{ID: id, Ingress: observed.Ingress, SeenAt: observed.SeenAt, WrittenAt: state.written, HeldSince: state.heldSince}},
	}
	change := plan.Plan(snapshot)[0]
	if change.Held && state.heldSince.IsZero() {
		state.held, state.heldSince = plan.Merged(snapshot.Grants)[id], observed.SeenAt
	}
	if len(change.Revoke) == 0 {
		return change, nil
	}
	if snapshot.Unheard, state.kept, err = f.unheard(ctx); err != nil {
		return plan.Change{}, err
	}
	return plan.Plan(snapshot)[0], nil
}

// apply carries out a change: either it authorises, or it revokes.
func (f *Firewall) apply(ctx context.Context, change plan.Change) error {
	state := f.groups[change.GroupID]
	if len(change.Authorize) > 0 {
		err := f.Cloud.AuthorizeIngress(ctx, change.GroupID, change.Authorize)
		state.wrote(f.Now(), err)
		switch {
		case errors.Is(err, cloud.ErrLimit):
			return fmt.Errorf("security group %s has no room for %d more rules; nothing is revoked to make room, since that would interrupt traffic: raise the quota of rules per security group, or remove rules: %w",
				change.GroupID, len(change.Authorize), err)
		case err != nil:
			return fmt.Errorf("cannot let traffic into security group %s: %w", change.GroupID, err)
		}
		f.Logger.Info("authorised rules", "group", change.GroupID, "rules", len(change.Authorize))
		return nil
	}
	if len(change.Revoke) == 0 {
		return nil
	}
	err := f.Cloud.RevokeIngress(ctx, change.GroupID, change.Revoke)
	state.wrote(f.Now(), err)
	if err != nil && !errors.Is(err, cloud.ErrNotFound) {
		return fmt.Errorf("cannot revoke obsolete rules from security group %s: %w", change.GroupID, err)
	}
	f.Logger.Info("revoked rules", "group", change.GroupID, "rules", len(change.Revoke))
	return nil
}

func (f *Firewall) allGrants() []plan.Grant {
	var all []plan.Grant
	for _, b := range f.bindings {
		all = append(all, b.grants...)
	}
	return all
}

// unheard is what bindings ask for that the firewall does not know enough of: nothing, too little, or what they asked
// for before. The wishes are looked at after the list, since they may have changed meanwhile. By says whose that is.
func (f *Firewall) unheard(ctx context.Context) (all []model.Permission, by map[types.NamespacedName]heard, err error) {
	expected, err := f.Expected(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot list the bindings with networking: %w", err)
	}
	asked := f.wishes.asked()
	by = map[types.NamespacedName]heard{}
	for key, want := range expected {
		if w := asked[key]; !f.known(key, w) || !equality.Semantic.DeepEqual(want.Rules, w.want.Rules) {
			all, by[key] = append(all, anywhere(want)...), heard{w.version, f.known(key, w)}
		}
	}
	for key, w := range asked {
		if at := f.bindings[key]; at == nil || at.version != w.version {
			all, by[key] = append(all, anywhere(w.want)...), heard{w.version, f.known(key, w)}
		}
	}
	return all, by, nil
}

// known says that what a binding asks for was found completely.
func (f *Firewall) known(key types.NamespacedName, w wish) bool {
	at := f.bindings[key]
	return at != nil && at.err == nil && at.version == w.version
}

// heardOf says that one of these bindings asks for something else than it did, or is known by now.
func (f *Firewall) heardOf(unheard map[types.NamespacedName]heard) bool {
	asked := f.wishes.asked()
	for key, then := range unheard {
		if w := asked[key]; then != (heard{w.version, f.known(key, w)}) {
			return true
		}
	}
	return false
}

// next is how long to sleep when nobody asks for anything, after a pass that began at a time.
func (f *Firewall) next(began time.Time) time.Duration {
	f.pass.Lock()
	defer f.pass.Unlock()
	again := f.Now().Add(f.Settings.Recheck)
	sooner := func(r retry) {
		if r.failures > 0 && r.at.After(began) && r.at.Before(again) {
			again = r.at
		}
	}
	for _, b := range f.bindings {
		sooner(b.retry)
	}
	for _, g := range f.groups {
		sooner(g.retry)
	}
	return max(again.Sub(f.Now()), fastestRetry)
}

// adopt finds the cluster's groups that no binding needs: rules of ours may be left in them.
func (f *Firewall) adopt(ctx context.Context) error {
	if f.adopted {
		return nil
	}
	for _, value := range []string{"owned", "shared"} {
		groups, err := f.Cloud.SecurityGroupsByTag(ctx, map[string]string{clusterTag(f.Settings.Cluster): value})
		if err != nil {
			return fmt.Errorf("cannot find the cluster's security groups: %w", err)
		}
		for _, g := range groups {
			if f.groups[g.GroupID] == nil {
				f.groups[g.GroupID] = &groupState{clean: !slices.ContainsFunc(g.Ingress, plan.Owned)}
			}
		}
	}
	f.adopted = true
	return nil
}
