package rehearsal

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/elbv2"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/journal"
)

// progressEvery is how often a line about the load is printed.
const progressEvery = 5 * time.Second

// collect completes the report with what was seen from the outside.
func (d *demo) collect() {
	r := &d.report
	weights, phases, broken := d.timeline.record()
	r.Weights, r.Phases = traced(weights, d.sandbox.AWS().Journal().Since(0)), phases
	r.Pods = d.graves.ends()
	r.Removed = byReplicaSet(r.Pods)
	r.Calls = d.sandbox.AWS().Journal().Counts()
	r.Violations = slices.Concat(broken, earlySettling(r.Weights), requestsAfterStop(r.Pods))
}

// traced finds in AWS's journal when each split was accepted and when the last node had it. The call that
// carried a split out is the last one before the next decision that has its weights.
func traced(changes []WeightChange, records []journal.Record) []WeightChange {
	for i := range changes {
		c := &changes[i]
		end := time.Now()
		if i+1 < len(changes) {
			end = changes[i+1].Decided
		}
		want := slices.Sorted(maps.Values(c.Weights))
		var call journal.Record
		for _, r := range records {
			if r.Code == "" && !r.Received.Before(c.Decided) && r.Received.Before(end) && slices.Equal(forwardWeights(r), want) {
				call = r
			}
		}
		if call.Operation == "" {
			continue // what AWS had already was what was wanted, or it never came so far
		}
		c.Accepted, c.Applied = call.Received, lastTaken(call, records)
	}
	return changes
}

// forwardWeights are the weights of the forward action of a call that changes traffic, sorted; nil for others.
func forwardWeights(r journal.Record) []int32 {
	prefix := map[string]string{
		"ModifyRule": "Actions.member.", "CreateRule": "Actions.member.",
		"ModifyListener": "DefaultActions.member.", "CreateListener": "DefaultActions.member.",
	}[r.Operation]
	if prefix == "" {
		return nil
	}
	var weights []int32
	for name, value := range r.Parameters {
		if strings.HasPrefix(name, prefix) && strings.HasSuffix(name, ".Weight") {
			if weight, err := strconv.ParseInt(value, 10, 32); err == nil {
				weights = append(weights, int32(weight))
			}
		}
	}
	slices.Sort(weights)
	return weights
}

// lastTaken is when the last node took the change of a call, zero if none has. A node that took a newer change
// first has skipped this one.
func lastTaken(call journal.Record, records []journal.Record) time.Time {
	var last time.Time
	for _, r := range records {
		application, ok := r.Detail.(elbv2.Application)
		if !ok || !strings.HasPrefix(application.Change, call.Operation+" ") {
			continue
		}
		if application.Called.Before(call.Received) || application.Called.After(call.Received.Add(call.Duration)) {
			continue
		}
		if application.Taken.After(last) {
			last = application.Taken
		}
	}
	return last
}

// showProgress prints a line about the load every now and then.
func (d *demo) showProgress(ctx context.Context) {
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now := d.generator.Snapshot()
		var shares []string
		if n := len(now.Seconds); n > 1 {
			last := now.Seconds[n-2] // the newest one is not complete
			for _, version := range slices.Sorted(maps.Keys(last.Versions)) {
				shares = append(shares, fmt.Sprintf("%s %d/s", version, last.Versions[version]))
			}
		}
		rollout, _, _ := d.timeline.latest()
		state := ""
		if rollout != nil {
			state = rollout.Status.Phase
			if _, phases, _ := d.timeline.record(); len(phases) > 0 && phases[len(phases)-1].Waiting != "" {
				state += ", waiting: " + phases[len(phases)-1].Waiting
			}
		}
		fmt.Fprintf(d.options.Progress, "%6.1fs    sent %d, failed %d | %s | %s\n",
			time.Since(d.report.Started).Seconds(), now.Sent, now.Failed, strings.Join(shares, ", "), state)
	}
}

// sub is a folder of an embedded file system that is known to be there.
func sub(files fs.FS, folder string) fs.FS {
	below, err := fs.Sub(files, folder)
	if err != nil {
		panic(err) // the folder's name is a constant of this program
	}
	return below
}
