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

// PromoteOptions say what to measure.
type PromoteOptions struct {
	Options
	// Count of the promotes, 1 to 90.
	Count int
	// Every is the time from one promote to the next, if the rollout is paused again by then. AWS takes a burst of
	// 20 changes and then 3 a second (sandbox/aws/throttle). Promotes that follow one another without a pause use the burst up,
	// and from then on it is AWS's own refill that is measured. A person is slower than that.
	Every time.Duration
}

// PromoteReport says how fast and with how many AWS calls weights follow a person's promotes.
type PromoteReport struct {
	// Every is the pace of the promotes.
	Every time.Duration `json:"everyNanoseconds"`
	// Latency of each promote, sorted: from the moment at which the client sends its patch to the API server to
	// the moment at which the AWS endpoint has received the call that changes the weight.
	Latency []time.Duration `json:"latencyNanoseconds"`
	// Answered, Decided and Written are parts of it, sorted too: until the API server had answered the promote, until
	// the controller had looked at what its decision is made of, and until the Ingress had the new weights.
	Answered []time.Duration `json:"answeredNanoseconds"`
	Decided  []time.Duration `json:"decidedNanoseconds"`
	Written  []time.Duration `json:"writtenNanoseconds"`
	// Changes counts AWS calls by operation over all promotes, from each promote to the next pause.
	Changes map[string]int `json:"changes"`
	// Abort counts AWS calls by operation from the abort until AWS shows stable at 100 %.
	Abort map[string]int `json:"abort"`
	// AbortLatency is from the abort's patch to the receipt of the call that takes the weight back.
	AbortLatency time.Duration `json:"abortLatencyNanoseconds"`
}

// Percentile returns the duration that the given share (0 to 1) of sorted ones does not exceed.
func Percentile(sorted []time.Duration, share float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(share*float64(len(sorted))))]
}

// Print writes the report for a person.
func (r PromoteReport) Print(w io.Writer) {
	at := func(sorted []time.Duration, share float64) time.Duration {
		return Percentile(sorted, share).Round(100 * time.Microsecond)
	}
	fmt.Fprintf(w, "promote -> weight call received by AWS, %d promotes, one each %s: median %s, p99 %s, max %s\n",
		len(r.Latency), r.Every, at(r.Latency, 0.5), at(r.Latency, 0.99), at(r.Latency, 1))
	fmt.Fprintf(w, "of it (medians): until the API server has answered the promote %s, until decided %s, until written to the Ingress %s\n",
		at(r.Answered, 0.5), at(r.Decided, 0.5), at(r.Written, 0.5))
	fmt.Fprintln(w, "AWS calls per weight change:")
	for _, operation := range slices.Sorted(maps.Keys(r.Changes)) {
		fmt.Fprintf(w, "  %-45s %.2f\n", operation, float64(r.Changes[operation])/float64(len(r.Latency)))
	}
	fmt.Fprintf(w, "abort -> weight call received by AWS: %s; AWS calls until stable has everything:\n", r.AbortLatency.Round(100*time.Microsecond))
	for _, operation := range slices.Sorted(maps.Keys(r.Abort)) {
		fmt.Fprintf(w, "  %-45s %d\n", operation, r.Abort[operation])
	}
}

// Promote measures promotes: a canary whose weight rises by 1 % at each of them, without load, and an abort at
// the end. On an idle machine the latency is the controller's and the API server's own.
func Promote(ctx context.Context, o PromoteOptions) (PromoteReport, error) {
	if o.Count < 1 || o.Count > 90 {
		return PromoteReport{}, fmt.Errorf("cannot measure %d promotes: use 1 to 90", o.Count)
	}
	manifests, err := promoteManifests(o.Count + 1)
	if err != nil {
		return PromoteReport{}, err
	}
	ground, err := newStage(ctx, o.Options, manifests)
	var report PromoteReport
	if err == nil {
		report, err = ground.measurePromotes(ctx, o.Count, o.Every)
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

func (d *stage) measurePromotes(ctx context.Context, n int, every time.Duration) (PromoteReport, error) {
	report := PromoteReport{Every: every, Changes: map[string]int{}, Abort: map[string]int{}}
	if err := d.setImage(ctx, secondImage); err != nil {
		return report, err
	}
	if err := d.untilPaused(ctx, 1); err != nil {
		return report, err
	}
	pace := newPace(every)
	for i := range n {
		if err := pace.wait(ctx); err != nil {
			return report, err
		}
		took, err := d.steer(ctx, report.Changes, func(r *v1alpha1.Rollout) error { return steer.Promote(ctx, d.client, r, false) },
			func(ctx context.Context) error { return d.untilPaused(ctx, int32(i+2)) })
		if err != nil {
			return report, err
		}
		report.Latency = append(report.Latency, took.received)
		report.Answered = append(report.Answered, took.answered)
		report.Decided = append(report.Decided, took.decided)
		report.Written = append(report.Written, took.written)
	}
	slices.Sort(report.Latency)
	slices.Sort(report.Answered)
	slices.Sort(report.Decided)
	slices.Sort(report.Written)
	abort, err := d.steer(ctx, report.Abort, func(r *v1alpha1.Rollout) error { return steer.Abort(ctx, d.client, r) },
		func(ctx context.Context) error {
			return d.timeline.until(ctx, "the abort to be seen in AWS", func(r *v1alpha1.Rollout, _ map[string]appsv1.ReplicaSet) bool {
				return r.Status.Abort && sees(r, 0)
			})
		})
	report.AbortLatency = abort.received
	return report, err
}

// pace keeps a distance between the beginnings of what a person does.
type pace struct {
	every time.Duration
	next  time.Time
}

// newPace begins with a full distance, as after a deed that was done just now.
func newPace(every time.Duration) *pace { return &pace{every: every, next: time.Now().Add(every)} }

// wait returns when the next deed is due, at once if it is late. The error is the context's.
func (p *pace) wait(ctx context.Context) error {
	if !pause(ctx, time.Until(p.next)) {
		return context.Cause(ctx)
	}
	p.next = time.Now().Add(p.every)
	return nil
}

// journey is how long after a person's edit the parts of a weight's way were done.
type journey struct{ answered, decided, written, received time.Duration }

// steer makes one edit of a person, waits until it has its effect, counts the AWS calls of that time, and says how
// long the call that changes the weight took to arrive.
func (d *stage) steer(ctx context.Context, calls map[string]int, edit func(*v1alpha1.Rollout) error, effect func(context.Context) error) (journey, error) {
	rollout := &v1alpha1.Rollout{}
	if err := d.client.Get(ctx, d.rollout, rollout); err != nil {
		return journey{}, err
	}
	log := d.sandbox.AWS().Journal()
	var last uint64
	if before := log.Since(0); len(before) > 0 {
		last = before[len(before)-1].Sequence
	}
	began := time.Now()
	if err := edit(rollout); err != nil {
		return journey{}, err
	}
	answered := time.Since(began)
	if err := effect(ctx); err != nil {
		return journey{}, err
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
		return journey{}, errors.New("the weight was seen, but no call that changes it is in the journal")
	}
	took := journey{answered: answered, received: received.Sub(began)}
	if now, _, _ := d.timeline.latest(); len(now.Status.Traffic) > 0 {
		if at := now.Status.Traffic[0].DecidedAt; at != nil {
			took.decided = at.Sub(began)
		}
		if at := now.Status.Traffic[0].WrittenAt; at != nil {
			took.written = at.Sub(began)
		}
	}
	return took, nil
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
