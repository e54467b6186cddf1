package rehearsal

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"
)

// progressEvery is how often a line about the load is printed.
const progressEvery = 5 * time.Second

// collect completes the report with what was seen from the outside.
func (d *demo) collect() {
	r := &d.report
	seen := d.timeline.record()
	trace := newTrace(d.sandbox.AWS().Journal().Since(0), seen.services, d.sandbox.AWS().LoadBalancers())
	r.Weights, r.Phases = trace.followed(seen.weights, r.Requests.Ended), seen.phases
	r.Pods = d.graves.ends()
	r.Removed = byReplicaSet(r.Pods)
	r.Calls = d.sandbox.AWS().Journal().Counts()
	r.Violations = slices.Concat(seen.broken, trace.earlySettling(seen.settlings), requestsAfterStop(r.Pods))
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
			if phases := d.timeline.record().phases; len(phases) > 0 && phases[len(phases)-1].Waiting != "" {
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
