package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	albcanary "github.com/lockstep-delivery/lockstep/examples/alb-canary"
	"github.com/lockstep-delivery/lockstep/internal/cli/steer"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/journal"
)

// PromoteReport says how fast and with how many AWS calls weights follow a person's promotes.
type PromoteReport struct {
	// Latency of each promote, sorted: from the moment at which the client sends its patch to the API server to
	// the moment at which the AWS endpoint has received the call that changes the weight.
	Latency []time.Duration `json:"latencyNanoseconds"`
	// Changes counts AWS calls by operation over all promotes, from each promote to the next pause.
	Changes map[string]int `json:"changes"`
	// Abort counts AWS calls by operation from the abort until AWS shows stable at 100 %.
	Abort map[string]int `json:"abort"`
	// AbortLatency is from the abort's patch to the receipt of the call that takes the weight back.
	AbortLatency time.Duration `json:"abortLatencyNanoseconds"`
}

// Percentile returns the latency that the given share (0 to 1) of the promotes did not exceed.
func (r PromoteReport) Percentile(share float64) time.Duration {
	if len(r.Latency) == 0 {
		return 0
	}
	return r.Latency[min(len(r.Latency)-1, int(share*float64(len(r.Latency))))]
}

// Print writes the report for a person.
func (r PromoteReport) Print(w io.Writer) {
	fmt.Fprintf(w, "promote -> weight call received by AWS, %d promotes: median %s, p99 %s, max %s\n", len(r.Latency),
		r.Percentile(0.5).Round(100*time.Microsecond), r.Percentile(0.99).Round(100*time.Microsecond), r.Percentile(1).Round(100*time.Microsecond))
	fmt.Fprintln(w, "AWS calls per weight change:")
	for _, operation := range slices.Sorted(maps.Keys(r.Changes)) {
		fmt.Fprintf(w, "  %-45s %.2f\n", operation, float64(r.Changes[operation])/float64(len(r.Latency)))
	}
	fmt.Fprintf(w, "abort -> weight call received by AWS: %s; AWS calls until stable has everything:\n", r.AbortLatency.Round(100*time.Microsecond))
	for _, operation := range slices.Sorted(maps.Keys(r.Abort)) {
		fmt.Fprintf(w, "  %-45s %d\n", operation, r.Abort[operation])
	}
}

// Promote measures promotes: a canary whose weight rises by 1 % at each of n promotes (1 to 90), on an idle
// machine without load, and an abort at the end.
func Promote(ctx context.Context, o Options, n int) (PromoteReport, error) {
	if n < 1 || n > 90 {
		return PromoteReport{}, fmt.Errorf("cannot measure %d promotes: use 1 to 90", n)
	}
	manifests, err := promoteManifests(n + 1)
	if err != nil {
		return PromoteReport{}, err
	}
	ground, err := newStage(ctx, o, manifests)
	var report PromoteReport
	if err == nil {
		report, err = ground.measurePromotes(ctx, n)
	}
	return report, errors.Join(err, ground.close())
}

// promoteManifests is the example with a pause after each percent.
func promoteManifests(steps int) (string, error) {
	objects, err := decodeManifests([]byte(albcanary.Manifests))
	if err != nil {
		return "", err
	}
	rollout, err := find(objects, "Rollout")
	if err != nil {
		return "", err
	}
	list := []any{map[string]any{"setCanaryScale": map[string]any{"weight": int64(100)}}}
	for i := range steps {
		list = append(list, map[string]any{"setWeight": int64(i + 1)}, map[string]any{"pause": map[string]any{}})
	}
	if err := unstructured.SetNestedSlice(rollout.Object, list, "spec", "strategy", "canary", "steps"); err != nil {
		return "", err
	}
	var text string
	for _, object := range objects {
		document, err := yaml.Marshal(object.Object)
		if err != nil {
			return "", err
		}
		text += "---\n" + string(document)
	}
	return text, nil
}

func (d *stage) measurePromotes(ctx context.Context, n int) (PromoteReport, error) {
	report := PromoteReport{Changes: map[string]int{}, Abort: map[string]int{}}
	if err := d.setImage(ctx, secondImage); err != nil {
		return report, err
	}
	if err := d.untilPaused(ctx, 1); err != nil {
		return report, err
	}
	for i := range n {
		took, err := d.steer(ctx, report.Changes, func(r *v1alpha1.Rollout) error { return steer.Promote(ctx, d.client, r, false) },
			func(ctx context.Context) error { return d.untilPaused(ctx, int32(i+2)) })
		if err != nil {
			return report, err
		}
		report.Latency = append(report.Latency, took)
	}
	slices.Sort(report.Latency)
	var err error
	report.AbortLatency, err = d.steer(ctx, report.Abort, func(r *v1alpha1.Rollout) error { return steer.Abort(ctx, d.client, r) },
		func(ctx context.Context) error {
			return d.timeline.until(ctx, "the abort to be seen in AWS", func(r *v1alpha1.Rollout, _ map[string]appsv1.ReplicaSet) bool {
				return r.Status.Abort && sees(r, 0)
			})
		})
	return report, err
}

// steer makes one edit of a person, waits until it has its effect, counts the AWS calls of that time, and says how
// long the call that changes the weight took to arrive.
func (d *stage) steer(ctx context.Context, calls map[string]int, edit func(*v1alpha1.Rollout) error, effect func(context.Context) error) (time.Duration, error) {
	rollout := &v1alpha1.Rollout{}
	if err := d.client.Get(ctx, d.rollout, rollout); err != nil {
		return 0, err
	}
	log := d.sandbox.AWS().Journal()
	var last uint64
	if before := log.Since(0); len(before) > 0 {
		last = before[len(before)-1].Sequence
	}
	began := time.Now()
	if err := edit(rollout); err != nil {
		return 0, err
	}
	if err := effect(ctx); err != nil {
		return 0, err
	}
	var received time.Time
	for _, r := range log.Since(last) {
		if r.Operation == "" {
			continue
		}
		calls[r.Service+":"+r.Operation]++
		if received.IsZero() && changesWeight(r) {
			received = r.Received
		}
	}
	if received.IsZero() {
		return 0, errors.New("the weight was seen, but no call that changes it is in the journal")
	}
	return received.Sub(began), nil
}

func changesWeight(r journal.Record) bool {
	return (r.Operation == "ModifyRule" || r.Operation == "ModifyListener") && r.Code == ""
}

func (d *stage) untilPaused(ctx context.Context, weight int32) error {
	ctx, cancel := context.WithTimeout(ctx, leastLimit)
	defer cancel()
	return d.timeline.until(ctx, fmt.Sprintf("a pause at %d %%", weight), func(r *v1alpha1.Rollout, _ map[string]appsv1.ReplicaSet) bool {
		return observed(r) && r.Status.Phase == v1alpha1.PhasePaused && sees(r, weight)
	})
}
