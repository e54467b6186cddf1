package rehearsal

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/journal"
	"github.com/lockstep-delivery/lockstep/sandbox/load"
)

// Report is what came of a rehearsal. docs/demo-report.md documents its JSON form.
type Report struct {
	// Seed, Profile and Scale repeat the run's conditions; SettleSeconds is the controller's settle time in it.
	Seed          int64   `json:"seed"`
	Profile       string  `json:"profile"`
	Scale         float64 `json:"scale"`
	SettleSeconds float64 `json:"settleSeconds"`
	// Disturbances are what went wrong on purpose, and when.
	Disturbances []Milestone `json:"disturbances,omitempty"`

	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended"`
	// Milestones are the moments of the run by name, in order.
	Milestones []Milestone `json:"milestones"`

	Requests load.Result     `json:"requests"`
	Weights  []WeightChange  `json:"weights"`
	Phases   []PhaseChange   `json:"phases"`
	Removed  []ReplicaSetEnd `json:"removed"`
	Pods     []PodEnd        `json:"pods"`
	// Calls counts what the emulated AWS was asked, by operation.
	Calls map[string]journal.Count `json:"calls"`
	// Violations are laws that were seen broken.
	Violations []Violation `json:"violations"`
	// Problem is why the rehearsal did not come to its end; empty when it did.
	Problem string `json:"problem,omitempty"`
}

// Milestone is a named moment.
type Milestone struct {
	At   time.Time `json:"at"`
	What string    `json:"what"`
}

// Passed reports whether the release came to its end without a lost request or a broken law, with all of the
// promised load accounted for, every answer from the application, and the load balancer's name resolved throughout.
func (r Report) Passed() bool {
	q := r.Requests
	return r.Problem == "" && len(r.Violations) == 0 && q.Failed == 0 && q.Saturation.Unsent == 0 &&
		q.Sent > 0 && q.Sent == q.Intended && r.foreign() == 0 && q.FailedLookups == 0
}

// foreign counts the answers that the application did not give, whatever their status: without its version, an answer
// is the load balancer's own.
func (r Report) foreign() uint64 {
	foreign := r.Requests.Answered
	for _, v := range r.Requests.Versions {
		foreign -= v.Answered
	}
	return foreign
}

// WriteFile writes the report as JSON, making the folder if need be.
func (r Report) WriteFile(path string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("cannot write the report: %w", err)
	}
	if err := os.WriteFile(path, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("cannot write the report: %w", err)
	}
	return nil
}

// Print writes the report for a person.
func (r Report) Print(w io.Writer) {
	fmt.Fprintf(w, "\nRehearsal: profile %s at scale %v, seed %d, settle time %.1f s, %s\n",
		r.Profile, r.Scale, r.Seed, r.SettleSeconds, r.Ended.Sub(r.Started).Round(time.Second))
	if !r.Requests.Started.IsZero() {
		fmt.Fprintf(w, "Times below count from the start of the load, %.1f s after that of the run\n", r.Requests.Started.Sub(r.Started).Seconds())
	}
	r.printRequests(w)
	r.printWeights(w)
	r.printRemoved(w)
	r.printCalls(w)
	for _, v := range r.Violations {
		fmt.Fprintf(w, "LAW %d BROKEN at %s: %s\n", v.Law, r.clock(v.At), v.What)
	}
	if r.Problem != "" {
		fmt.Fprintf(w, "NOT FINISHED: %s\n", r.Problem)
	}
	verdict := "passed"
	if !r.Passed() {
		verdict = "FAILED"
	}
	fmt.Fprintf(w, "\n%s: %d requests sent, %d failed\n", verdict, r.Requests.Sent, r.Requests.Failed)
}

func (r Report) printRequests(w io.Writer) {
	q := r.Requests
	fmt.Fprintf(w, "\nRequests  %d sent at %.0f/s, %d failed; latency p50 %.1f ms, p99 %.1f ms, max %.1f ms\n",
		q.Sent, q.Rate, q.Failed, q.Latency.P50, q.Latency.P99, q.Latency.Max)
	if q.Saturation.Unsent > 0 {
		fmt.Fprintf(w, "  %d requests could not be sent by this machine: the load was less than promised\n", q.Saturation.Unsent)
	}
	if n := r.foreign(); n > 0 {
		fmt.Fprintf(w, "  %d answers did not come from the application\n", n)
	}
	if q.FailedLookups > 0 {
		fmt.Fprintf(w, "  the load balancer's name had no address in %d look-ups\n", q.FailedLookups)
	}
	for _, status := range slices.Sorted(maps.Keys(q.Status)) {
		fmt.Fprintf(w, "  status %d: %d\n", status, q.Status[status])
	}
	for _, kind := range slices.Sorted(maps.Keys(q.Errors)) {
		if kind != load.BadStatus {
			fmt.Fprintf(w, "  error %s: %d\n", kind, q.Errors[kind])
		}
	}
	for i, f := range q.Failures {
		if i == 10 {
			fmt.Fprintf(w, "  ...\n")
			break
		}
		fmt.Fprintf(w, "  failed %s: %s %d %s by %s\n", r.clock(f.Ended), f.Kind, f.Status, f.Error, f.Node)
	}
	r.printCourse(w)
}

// rows of the printed course of the load.
const rows = 24

// printCourse tells how requests were answered over time, by status and by version: one row for about a
// twenty-fourth of the run. What has no status had no answer.
func (r Report) printCourse(w io.Writer) {
	q := r.Requests
	if len(q.Seconds) == 0 {
		return
	}
	statuses, versions := slices.Sorted(maps.Keys(q.Status)), slices.Sorted(maps.Keys(q.Versions))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "\t  from second\tsent\tfailed")
	for _, status := range statuses {
		fmt.Fprintf(t, "\tstatus %d", status)
	}
	fmt.Fprintf(t, "\tno answer\t|\t%s\t\n", strings.Join(versions, "\t"))
	step := (len(q.Seconds) + rows - 1) / rows
	for row := range slices.Chunk(q.Seconds, step) {
		sum := total(row)
		fmt.Fprintf(t, "\t%d\t%d\t%d", sum.Second, sum.Sent, sum.Failed)
		unanswered := sum.Sent
		for _, status := range statuses {
			fmt.Fprintf(t, "\t%d", sum.Status[status])
			unanswered -= sum.Status[status]
		}
		fmt.Fprintf(t, "\t%d\t|", unanswered)
		for _, version := range versions {
			fmt.Fprintf(t, "\t%d", sum.Versions[version])
		}
		fmt.Fprintln(t, "\t")
	}
	t.Flush()
}

// total adds up some seconds, in the name of the first.
func total(seconds []load.Second) load.Second {
	sum := load.Second{Second: seconds[0].Second, Status: map[int]uint64{}, Versions: map[string]uint64{}}
	for _, s := range seconds {
		sum.Sent += s.Sent
		sum.Failed += s.Failed
		for status, n := range s.Status {
			sum.Status[status] += n
		}
		for version, n := range s.Versions {
			sum.Versions[version] += n
		}
	}
	return sum
}

func (r Report) printWeights(w io.Writer) {
	fmt.Fprintln(w, "\nWeight changes (time since the decision)")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "  weights\tdecided\twritten\tAWS accepted\tlast node had it\tseen in AWS\tsettled")
	for _, c := range r.Weights {
		fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%s\t%s\t%s\n", describe(c.Weights), r.clock(c.Decided), since(c.Decided, c.Written),
			since(c.Decided, c.Accepted), since(c.Decided, c.Applied), since(c.Decided, c.Seen), since(c.Decided, c.Settled))
	}
	t.Flush()
}

func (r Report) printRemoved(w io.Writer) {
	fmt.Fprintln(w, "\nOld versions")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "  ReplicaSet\tversion\tpods\tlast request answered\tfirst pod stopped\tlast pod gone\tlate requests")
	for _, s := range r.Removed {
		fmt.Fprintf(t, "  %s\t%s\t%d\t%s\t%s\t%s\t%d\n", s.ReplicaSet, s.Version, s.Pods, r.clock(s.LastAnswer), r.clock(s.FirstStop), r.clock(s.Gone), s.AfterStop)
	}
	t.Flush()
}

func (r Report) printCalls(w io.Writer) {
	fmt.Fprintln(w, "\nAWS calls")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, operation := range slices.Sorted(maps.Keys(r.Calls)) {
		count := r.Calls[operation]
		fmt.Fprintf(t, "  %s\t%d", operation, count.Calls)
		for _, code := range slices.Sorted(maps.Keys(count.Errors)) {
			fmt.Fprintf(t, "\t%s %d", code, count.Errors[code])
		}
		fmt.Fprintln(t)
	}
	t.Flush()
}

// clock is a moment in seconds since the load began.
func (r Report) clock(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return fmt.Sprintf("%.1fs", t.Sub(r.Requests.Started).Seconds())
}

func since(from, to time.Time) string {
	if to.IsZero() {
		return "-"
	}
	d := to.Sub(from)
	if d.Abs() < time.Second {
		return fmt.Sprintf("+%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("+%.1f s", d.Seconds())
}

func describe(weights map[string]int32) string {
	var parts []string
	for _, service := range slices.SortedFunc(maps.Keys(weights), cmp.Compare[string]) {
		parts = append(parts, fmt.Sprintf("%s %d", service, weights[service]))
	}
	return strings.Join(parts, ", ")
}
