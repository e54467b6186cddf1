package aws

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/journal"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/snapshot"
)

// This file is how an account outlives its process (package snapshot) and how it is emptied.

// state is something that is kept: its name in the snapshot, and who has it.
type state struct {
	name  string
	owner interface {
		Export() (json.RawMessage, error)
		Import(text json.RawMessage) error
	}
}

// changes says whether a call may change what is kept. A certificate is issued when somebody looks at it.
func (c *call) changes() bool {
	if c.name == "acm" {
		return true
	}
	if c.record.Operation == "GetChangeToken" {
		return true
	}
	for _, read := range []string{"Describe", "Get", "List", "Search"} {
		if strings.HasPrefix(c.record.Operation, read) {
			return false
		}
	}
	return true
}

// perform runs an operation. What it has done to the account is kept, also if it has failed half-way.
func (e *Emulator) perform(c *call, run func() (any, error)) (any, error) {
	e.gate.RLock()
	defer e.gate.RUnlock()
	if c.changes() {
		defer e.keeper.Changed()
	}
	return run()
}

// export tells what the account has at one moment between two calls.
func (e *Emulator) export() (generation uint64, services map[string]json.RawMessage, err error) {
	e.gate.Lock()
	defer e.gate.Unlock()
	services = make(map[string]json.RawMessage, len(e.states))
	for _, s := range e.states {
		if services[s.name], err = s.owner.Export(); err != nil {
			return 0, nil, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return e.generation, services, nil
}

// restore opens the data directory and takes over the account that it holds.
func (e *Emulator) restore() error {
	keeper, account, err := snapshot.Open(e.config.DataDir, snapshot.Identity{
		AccountID: e.config.AccountID, Region: e.config.Region, Cluster: e.config.Cluster, Zones: e.config.Zones,
		Seed: e.config.Seed, Octet: e.config.VPC.Octet,
	}, e.config.Log)
	if err != nil {
		return err
	}
	fail := func(err error) error {
		return errors.Join(fmt.Errorf("cannot go on with the account in %s: %w; move the file away to begin with an empty account",
			filepath.Join(e.config.DataDir, snapshot.File), err), keeper.Close())
	}
	if e.generation = account.Generation; e.generation > 0 { // the network already has ids of generation 0
		e.ids.Restart(e.generation)
	}
	known := map[string]bool{}
	for _, s := range e.states {
		known[s.name] = true
		text, there := account.Services[s.name]
		if !there {
			continue
		}
		if err := s.owner.Import(text); err != nil {
			return fail(fmt.Errorf("services, %s: %w", s.name, err))
		}
	}
	for name := range account.Services {
		if !known[name] {
			return fail(fmt.Errorf("it has a service %q, which this program does not know", name))
		}
	}
	if err := e.leaveAll(); err != nil {
		return fail(err)
	}
	e.keeper = keeper
	keeper.Start(e.export)
	e.record("AccountRestored", time.Now(), map[string]any{"generation": account.Generation, "savedAt": account.SavedAt})
	return nil
}

// atOnce runs f while nothing takes time.
func (e *Emulator) atOnce(f func() error) error {
	e.tempo.Lock()
	defer e.tempo.Unlock()
	table, scale := e.draws.Profile(), e.draws.Scale()
	e.draws.Set(table, 0)
	defer e.draws.Set(table, scale)
	err := f()
	e.tagging.Observe()
	return err
}

// Reset empties the account: what is left is its network, its instances that a cluster runs, and the journal. With a
// fixture it then makes what that says, at once; if that fails, the account is empty and the error says which call it was.
func (e *Emulator) Reset(fixture *Fixture) error {
	e.gate.Lock()
	defer e.gate.Unlock()
	defer e.keeper.Changed()
	e.empty()
	if fixture == nil {
		return nil
	}
	if err := e.atOnce(func() error { return e.furnish(fixture) }); err != nil {
		e.empty()
		return err
	}
	return nil
}

// empty takes everything away. The caller holds the gate.
func (e *Emulator) empty() {
	e.faults.Clear()
	for _, h := range e.Hosts() {
		if err := e.removeHost(h.Name); err != nil {
			e.config.Log.Error("a host is left over", "host", h.Name, "error", err)
		}
	}
	e.elbv2.Reset() // first: the others may not take away what it uses
	for _, reset := range e.resets {
		reset()
	}
	e.ec2.Reset()
	e.relabel()
	e.buckets.Reset()
	e.generation++
	e.ids.Restart(e.generation)
	e.mu.Lock()
	clear(e.missing)
	e.mu.Unlock()
	e.journal.Add(journal.Record{Received: time.Now(), Event: "AccountReset"})
}
