// Package firewall keeps the ingress rules of the security groups of pods, so that load balancers reach
// the pods that are their targets.
//
// It owns only rules that carry its label, on the groups of the pods' network interfaces; it never touches
// the load balancers' own groups. What is needed is authorised while the binding is worked on; what is not
// needed any more is revoked in the background, when package plan finds it safe.
//
// Start reading at Firewall.Allow, then Firewall.Start.
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

// interfaceAge is how long the groups of an address are believed.
const interfaceAge = 10 * time.Minute

// Firewall keeps the rules of all bindings together, since they share security groups.
type Firewall struct {
	Cloud Cloud
	// Expected names every binding that has networking: nothing is revoked before each of them has been seen.
	Expected func(ctx context.Context) ([]types.NamespacedName, error)
	Settings Settings
	Logger   *slog.Logger
	// Now is the clock.
	Now func() time.Time

	mu         sync.Mutex
	grants     map[types.NamespacedName][]plan.Grant
	groups     map[string]*groupState
	interfaces map[string]endpoint
	adopted    bool
	kicked     chan struct{}
}

// groupState is what is known of one endpoint group.
type groupState struct {
	// written is when our own last write returned.
	written time.Time
	// held are the wanted rules that a read has shown, the first time one that began at heldSince.
	held      []model.Permission
	heldSince time.Time
	// clean says that there is nothing to revoke as far as the last read showed.
	clean bool
}

// endpoint is the security group of an address, as of a time.
type endpoint struct {
	group  string
	seenAt time.Time
}

// New makes a firewall.
func New(c Cloud, settings Settings, expected func(context.Context) ([]types.NamespacedName, error), logger *slog.Logger) *Firewall {
	if settings.Settle == 0 {
		settings.Settle = DefaultSettle
	}
	if settings.Recheck == 0 {
		settings.Recheck = DefaultRecheck
	}
	return &Firewall{
		Cloud: c, Expected: expected, Settings: settings, Logger: logger, Now: time.Now,
		grants: map[types.NamespacedName][]plan.Grant{}, groups: map[string]*groupState{}, interfaces: map[string]endpoint{},
		kicked: make(chan struct{}, 1),
	}
}

// Allow implements binding.Firewall: when it returns nil, everything that the binding wants is authorised.
// Traffic to endpoints whose interface could be found is let in even when others' could not.
func (f *Firewall) Allow(ctx context.Context, key types.NamespacedName, want binding.Networking) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	at, unknown := f.endpoints(ctx, want.Endpoints)
	if unknown != nil && !errors.Is(unknown, cloud.ErrNotFound) {
		return unknown
	}
	grants := grantsOf(want, at)
	if unknown != nil {
		// Until all endpoints are known, the grants that were known before are not given up.
		grants = append(grants, f.grants[key]...)
	}
	f.grants[key] = grants
	errs := []error{unknown}
	touched := map[string]bool{}
	for _, g := range grants {
		if !touched[g.GroupID] {
			touched[g.GroupID] = true
			errs = append(errs, f.authorize(ctx, g.GroupID))
		}
	}
	return errors.Join(errs...)
}

// Forget implements binding.Firewall: what only this binding needed is revoked in the background.
func (f *Firewall) Forget(_ context.Context, key types.NamespacedName) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, g := range f.grants[key] {
		if state := f.groups[g.GroupID]; state != nil {
			state.clean = false
		}
	}
	delete(f.grants, key)
	f.kick()
	return nil
}

// authorize makes a group let in everything that is wanted of it. It asks AWS only when that has changed.
func (f *Firewall) authorize(ctx context.Context, id string) error {
	state := f.groups[id]
	if state == nil {
		state = &groupState{}
		f.groups[id] = state
	}
	wanted := plan.Merged(f.allGrants())[id]
	if !state.heldSince.IsZero() && slices.Equal(state.held, wanted) {
		return nil
	}
	state.clean, state.heldSince, state.held = false, time.Time{}, nil
	change, err := f.changeOf(ctx, id, false)
	if err != nil {
		return err
	}
	return f.apply(ctx, change)
}

// changeOf reads a group and plans for it.
func (f *Firewall) changeOf(ctx context.Context, id string, complete bool) (plan.Change, error) {
	observed, err := f.Cloud.SecurityGroup(ctx, id)
	if err != nil {
		return plan.Change{}, fmt.Errorf("cannot read security group %s: %w", id, err)
	}
	state := f.groups[id]
	change := plan.Plan(plan.Snapshot{
		Complete: complete, Grants: f.allGrants(), Settle: f.Settings.Settle,
		Groups: []plan.Group{{ID: id, Ingress: observed.Ingress, SeenAt: observed.SeenAt, WrittenAt: state.written, HeldSince: state.heldSince}},
	})[0]
	if change.Held && state.heldSince.IsZero() {
		state.held, state.heldSince = plan.Merged(f.allGrants())[id], observed.SeenAt
	}
	return change, nil
}

// apply carries out a change: either it authorises, or it revokes.
func (f *Firewall) apply(ctx context.Context, change plan.Change) error {
	state := f.groups[change.GroupID]
	if len(change.Authorize) > 0 {
		err := f.Cloud.AuthorizeIngress(ctx, change.GroupID, change.Authorize)
		state.written = f.Now()
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
	state.written = f.Now()
	if err != nil && !errors.Is(err, cloud.ErrNotFound) {
		return fmt.Errorf("cannot revoke obsolete rules from security group %s: %w", change.GroupID, err)
	}
	f.Logger.Info("revoked rules", "group", change.GroupID, "rules", len(change.Revoke))
	return nil
}

func (f *Firewall) allGrants() []plan.Grant {
	var all []plan.Grant
	for _, grants := range f.grants {
		all = append(all, grants...)
	}
	return all
}

// complete says that every binding has been seen since the start.
func (f *Firewall) complete(ctx context.Context) (bool, error) {
	expected, err := f.Expected(ctx)
	if err != nil {
		return false, fmt.Errorf("cannot list the bindings with networking: %w", err)
	}
	for _, key := range expected {
		if _, seen := f.grants[key]; !seen {
			return false, nil
		}
	}
	return true, nil
}

func (f *Firewall) kick() {
	select {
	case f.kicked <- struct{}{}:
	default:
	}
}

// Start revokes in the background what no binding needs any more, until the context ends.
func (f *Firewall) Start(ctx context.Context) error {
	ticker := time.NewTicker(f.Settings.Recheck)
	defer ticker.Stop()
	for {
		if err := f.Tidy(ctx); err != nil && ctx.Err() == nil {
			f.Logger.Warn("obsolete security-group rules are not revoked yet", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-f.kicked:
		case <-ticker.C:
		}
	}
}

// Tidy makes one pass over the groups that may have something to authorise or to revoke.
func (f *Firewall) Tidy(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.adopt(ctx); err != nil {
		return err
	}
	complete, err := f.complete(ctx)
	if err != nil {
		return err
	}
	wanted := plan.Merged(f.allGrants())
	var errs []error
	for _, id := range slices.Sorted(maps.Keys(f.groups)) {
		state := f.groups[id]
		if !state.heldSince.IsZero() && !slices.Equal(state.held, wanted[id]) {
			state.clean, state.held, state.heldSince = false, nil, time.Time{}
		}
		// Without every binding's wishes there is nothing to find out beyond that the wanted rules hold.
		if state.clean || !complete && !state.heldSince.IsZero() {
			continue
		}
		change, err := f.changeOf(ctx, id, complete)
		if errors.Is(err, cloud.ErrNotFound) {
			delete(f.groups, id)
			continue
		}
		if err == nil {
			err = f.apply(ctx, change)
			state.clean = err == nil && complete && change.Held && len(change.Revoke) == 0 && !change.Waits
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// adopt finds, once every binding has been seen, the cluster's groups that no binding needs: rules of ours
// may be left in them.
func (f *Firewall) adopt(ctx context.Context) error {
	if f.adopted {
		return nil
	}
	if complete, err := f.complete(ctx); err != nil || !complete {
		return err
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
