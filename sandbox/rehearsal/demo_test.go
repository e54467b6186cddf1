package rehearsal

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestMain lets all rehearsals run at the same time, whatever the number of cores: most of the time they wait for delays of the
// emulated AWS, for health checks and for pauses of the manifests.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	var err error
	if programs, err = os.MkdirTemp("", "lockstep-rehearsal-"); err != nil {
		panic(err)
	}
	code := m.Run()
	_ = os.RemoveAll(programs) // a temporary folder
	os.Exit(code)
}

// programs is the folder of the built controllers.
var programs string

// The controllers that are rehearsed, each built once: the real one, and one that does not keep law 2.
var (
	lockstep    = sync.OnceValues(func() (string, error) { return build("lockstep") })
	withoutLaw2 = sync.OnceValues(func() (string, error) { return build("lockstep-without-law2", "-tags", "without_law2") })
)

func build(name string, flags ...string) (string, error) {
	path := filepath.Join(programs, name)
	args := append(append([]string{"build"}, flags...), "-o", path, "github.com/lockstep-delivery/lockstep/cmd/lockstep")
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("cannot build %s: %w\n%s", name, err, out)
	}
	return path, nil
}

func options(t *testing.T, controller func() (string, error)) DemoOptions {
	t.Helper()
	path, err := controller()
	if err != nil {
		t.Fatal(err)
	}
	return DemoOptions{
		Rate: 500,
		Options: Options{
			Seed: 1, Profile: "typical", Scale: 0.1, Settle: 150 * time.Second, Controller: path,
			ControllerLog: filepath.Join(t.TempDir(), "controller.log"), Progress: t.Output(),
		},
	}
}

func run(t *testing.T, o DemoOptions) Report {
	t.Helper()
	report, err := Demo(t.Context(), o)
	report.Print(t.Output())
	if err != nil {
		log, _ := os.ReadFile(o.ControllerLog)
		t.Fatalf("%v\nthe controller's log:\n%s", err, log[max(0, len(log)-10_000):])
	}
	return report
}

func TestARetargetedCanaryLosesNothing(t *testing.T) {
	t.Parallel()
	report := run(t, options(t, lockstep))
	if !report.Passed() {
		t.Errorf("%d of %d requests failed, %d violations, problem %q", report.Requests.Failed, report.Requests.Sent, len(report.Violations), report.Problem)
	}
	for _, version := range []string{"v1", "v2", "v3"} {
		if report.Requests.Versions[version].Answered == 0 {
			t.Errorf("no request was answered by %s: the release did not go the way it should", version)
		}
	}
	if len(report.Removed) != 2 {
		t.Errorf("pods of %d ReplicaSets ended, want those of versions 1 and 2", len(report.Removed))
	}
	for _, set := range report.Removed {
		if set.LastAnswer.IsZero() || !set.LastAnswer.Before(set.FirstStop) || !set.FirstStop.Before(set.Gone) {
			t.Errorf("%s: last answer %v, first stop %v, gone %v", set.ReplicaSet, set.LastAnswer, set.FirstStop, set.Gone)
		}
	}
	wholeWays(t, report.Weights)
	if calls := report.Calls["elasticloadbalancing:ModifyRule"]; calls.Calls < 5 {
		t.Errorf("%d calls of ModifyRule are reported", calls.Calls)
	}
}

// wholeWays wants each split that AWS showed to have all times of its way, in their order.
func wholeWays(t *testing.T, changes []WeightChange) {
	t.Helper()
	var seen, settled int
	for _, c := range changes {
		if c.Seen.IsZero() {
			continue // replaced before
		}
		seen++
		if c.Written.Before(c.Decided) || c.Accepted.Before(c.Decided) || !c.Seen.After(c.Accepted) {
			t.Errorf("%v: decided %v, written %v, accepted %v, seen %v", c.Weights, c.Decided, c.Written, c.Accepted, c.Seen)
		}
		if c.Applied.Before(c.Accepted) || len(c.NotApplied) > 0 {
			t.Errorf("%v: accepted %v, applied %v, never in %v", c.Weights, c.Accepted, c.Applied, c.NotApplied)
		}
		if !c.Settled.IsZero() {
			settled++
			if !c.Settled.After(c.Seen) {
				t.Errorf("%v: seen %v, settled %v", c.Weights, c.Seen, c.Settled)
			}
		}
	}
	// 0, 10 and 50 % for version 2, then 0, 10, 50, 80, 100 and 0 % for version 3; it is waited for settling at least
	// before the canary Service is re-pointed twice and before the stable one is.
	if seen < 8 || settled < 3 {
		t.Errorf("%d splits were seen and %d settled:\n%+v", seen, settled, changes)
	}
}

// Whatever goes wrong on the controller's side or between it and AWS, traffic does not feel it.
func TestADisturbedCanaryLosesNothing(t *testing.T) {
	t.Parallel()
	o := options(t, lockstep)
	o.Disturb = Disturbances()
	o.Throttled = 45 * time.Second // three settle times
	report := run(t, o)
	if !report.Passed() {
		t.Errorf("%d of %d requests failed, %d violations, problem %q", report.Requests.Failed, report.Requests.Sent, len(report.Violations), report.Problem)
	}
	if len(report.Disturbances) < len(o.Disturb) {
		t.Errorf("only %d disturbances came", len(report.Disturbances))
	}
	if n := report.Calls["elasticloadbalancing:ModifyRule"].Errors["Throttling"]; n == 0 {
		t.Error("no ModifyRule was throttled: the disturbance did not disturb")
	}
}

// The same slow nodes, with and without law 2.

func TestSlowNodesLoseNothing(t *testing.T) {
	t.Parallel()
	o := options(t, lockstep)
	o.Rate, o.Profile = 200, filepath.Join("testdata", "slow.yaml")
	if report := run(t, o); !report.Passed() {
		t.Errorf("%d of %d requests failed, %d violations, problem %q", report.Requests.Failed, report.Requests.Sent, len(report.Violations), report.Problem)
	}
}

// The negative controls: a test ground that never loses a request proves nothing.

func TestWithoutLaw2RequestsAreLost(t *testing.T) {
	t.Parallel()
	o := options(t, withoutLaw2)
	o.Profile = filepath.Join("testdata", "slow.yaml")
	mustLose(t, o, "a controller that waits neither for weights to settle nor for targets to drain")
}

func TestALagBeyondTheSettleTimeLosesRequests(t *testing.T) {
	t.Parallel()
	o := options(t, lockstep)
	o.Profile = filepath.Join("testdata", "slower-than-settle.yaml")
	o.Settle = 75 * time.Second
	report := mustLose(t, o, "nodes that take changes after twice the settle time")
	if !slices.ContainsFunc(report.Violations, func(v Violation) bool { return v.Law == 2 && strings.Contains(v.What, "counted as settled") }) {
		t.Errorf("the report does not say that weights settled too early: %v", report.Violations)
	}
}

func mustLose(t *testing.T, o DemoOptions, why string) Report {
	t.Helper()
	o.Rate, o.StopWhenLost = 200, true
	report := run(t, o)
	if report.Requests.Failed == 0 {
		t.Errorf("no request was lost with %s: the sandbox lies", why)
	}
	fmt.Fprintf(t.Output(), "lost with %s: %d of %d\n", why, report.Requests.Failed, report.Requests.Sent)
	return report
}
