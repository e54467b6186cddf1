package aws

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/history"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/journal"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// This file is how an account outlives its process (package history) and how it is emptied.

// hostService is the service under which the history keeps what is done to hosts.
const hostService = "lockstep"

// patience is how long a kept call may be refused for what is just being taken away.
const patience = 5 * time.Second

// changes says whether a call may change what is kept. Temporary keys and metrics are not kept.
func (c *call) changes() bool {
	if c.name == "sts" || c.name == "monitoring" {
		return false
	}
	if c.record.Operation == "GetChangeToken" {
		return true // without it, the call that uses the token would be refused
	}
	for _, read := range []string{"Describe", "Get", "List", "Search"} {
		if strings.HasPrefix(c.record.Operation, read) {
			return false
		}
	}
	return true
}

// perform runs an operation on its input, and keeps what it has done to the account.
func (e *Emulator) perform(c *call, run func() (any, error), input any) (any, error) {
	e.gate.RLock()
	defer e.gate.RUnlock()
	if e.history == nil || !c.changes() {
		return run()
	}
	kept, err := json.Marshal(input) // before the operation makes the input its own
	if err != nil {
		return nil, err
	}
	made := e.ids.Made()
	output, err := run()
	if err == nil || e.ids.Made() != made {
		e.history.Add(history.Write{Service: c.name, Operation: c.record.Operation, Input: kept, Failed: err != nil})
	}
	return output, err
}

// keepHost keeps what was done to a host.
func (e *Emulator) keepHost(operation string, h Host) {
	if e.history == nil {
		return
	}
	h.ID, h.Address = "", netip.Addr{} // the instance that is started again gives them
	input, err := json.Marshal(h)
	if err != nil {
		e.config.Log.Error("a host is not kept", "host", h.Name, "error", err)
		return
	}
	e.history.Add(history.Write{Service: hostService, Operation: operation, Input: input})
}

// restore opens the history in the data directory and carries out again what it holds.
func (e *Emulator) restore() error {
	kept, err := history.Open(e.config.DataDir, history.Identity{
		AccountID: e.config.AccountID, Region: e.config.Region, Cluster: e.config.Cluster, Zones: e.config.Zones,
		Seed: e.config.Seed, Octet: e.config.VPC.Octet,
	}, e.config.Log)
	if err != nil {
		return err
	}
	account := kept.Account()
	e.generation = account.Generation
	e.ids.Restart(e.generation)
	err = e.atOnce(func() error {
		for i, w := range account.Writes {
			if _, err := e.repeat(w); err != nil {
				return fmt.Errorf("cannot restore the account in %s: call %d, %s %s: %w", e.config.DataDir, i+1, w.Service, w.Operation, err)
			}
		}
		return nil
	})
	if err != nil {
		return errors.Join(err, kept.Close())
	}
	e.history = kept // only now: what was repeated is kept already
	e.record("AccountRestored", time.Now(), map[string]int{"writes": len(account.Writes)})
	return nil
}

// repeat carries out a kept call. One that had failed fails again, and that is well.
func (e *Emulator) repeat(w history.Write) (any, error) {
	deadline := time.Now().Add(patience)
	for {
		output, err := e.carryOut(w)
		switch {
		case err == nil:
			return output, nil
		case w.Failed:
			return nil, nil
		case !inUse(err) || time.Now().After(deadline):
			return nil, err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// inUse says that a call was refused for what is just being taken away, such as an interface of a deleted load balancer.
func inUse(err error) bool {
	var refused *wire.Error
	return errors.As(err, &refused) && (refused.Code == "DependencyViolation" || strings.Contains(refused.Code, "InUse"))
}

// carryOut runs an operation outside of any request: no signature, no fault, no bucket.
func (e *Emulator) carryOut(w history.Write) (any, error) {
	if w.Service == hostService {
		return e.carryOutHost(w)
	}
	service, ok := e.services[w.Service]
	if !ok {
		return nil, fmt.Errorf("there is no service %q", w.Service)
	}
	operation, ok := service.operations[w.Operation]
	if !ok {
		return nil, fmt.Errorf("service %s has no operation %q", w.Service, w.Operation)
	}
	input := operation.NewInput()
	if err := strictly(w.Input, input); err != nil {
		return nil, err
	}
	return operation.Run(eventual.Reader{Caller: "lockstep"}, input)
}

func (e *Emulator) carryOutHost(w history.Write) (any, error) {
	var h Host
	if err := strictly(w.Input, &h); err != nil {
		return nil, err
	}
	if w.Operation == "RemoveHost" {
		return nil, e.removeHost(h.Name)
	}
	return e.addHost(h)
}

func strictly(text []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
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
	e.buckets.Reset()
	e.generation++
	e.ids.Restart(e.generation)
	if e.history != nil {
		e.history.Restart(e.generation)
	}
	e.mu.Lock()
	clear(e.missing)
	e.mu.Unlock()
	e.journal.Add(journal.Record{Received: time.Now(), Event: "AccountReset"})
}
