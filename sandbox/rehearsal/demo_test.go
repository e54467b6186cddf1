package rehearsal

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// lockstep builds the program whose controller is rehearsed.
func lockstep(t *testing.T, flags ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "lockstep")
	args := append(append([]string{"build"}, flags...), "-o", path, "github.com/lockstep-delivery/lockstep/cmd/lockstep")
	if out, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput(); err != nil {
		t.Fatalf("cannot build lockstep: %v\n%s", err, out)
	}
	return path
}

func options(t *testing.T, controller string) DemoOptions {
	return DemoOptions{
		Rate: 500,
		Options: Options{
			Seed: 1, Profile: "typical", Scale: 0.1, Settle: 150 * time.Second, Controller: controller,
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
	report := run(t, options(t, lockstep(t)))
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
}

// Whatever goes wrong on the controller's side or between it and AWS, traffic does not feel it.
func TestADisturbedCanaryLosesNothing(t *testing.T) {
	o := options(t, lockstep(t))
	o.Disturb = Disturbances()
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

// The negative controls: a test ground that never loses a request proves nothing.

func TestWithoutLaw2RequestsAreLost(t *testing.T) {
	o := options(t, lockstep(t, "-tags", "without_law2"))
	mustLose(t, o, "a controller that waits neither for weights to settle nor for targets to drain")
}

func TestALagBeyondTheSettleTimeLosesRequests(t *testing.T) {
	o := options(t, lockstep(t))
	o.Profile = filepath.Join("testdata", "slower-than-settle.yaml")
	mustLose(t, o, "nodes that take changes after twice the settle time")
}

func mustLose(t *testing.T, o DemoOptions, why string) {
	t.Helper()
	o.StopWhenLost = true
	report := run(t, o)
	if report.Requests.Failed == 0 {
		t.Errorf("no request was lost with %s: the sandbox lies", why)
	}
	fmt.Fprintf(t.Output(), "lost with %s: %d of %d\n", why, report.Requests.Failed, report.Requests.Sent)
}
