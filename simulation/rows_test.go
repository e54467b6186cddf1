package simulation

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
)

var update = flag.Bool("update", false, "write the transcripts in testdata anew")

// TestRowsOfTheWalk tells the rows of the walk through a rollout, one file each in the order of the table. A
// file has the story (who does what, and how long the world goes on) and the transcript of what then
// happened. Nothing is left to chance: every delay is the middle of its range.
//
//	config 4 pods, steps 25 pause 50   4 pods of the first version serve; these are the steps
//	set image B                         likewise promote, promote --full, abort, retry, roll back, scale 3
//	until Paused                        the world goes on until the rollout is in that phase
//	run 3m                              the world goes on for so long
//	crash, throttle 5m, write ...       faults; late 50 50 is a call of a former leader that arrives now
//	rest                                until the wish is fulfilled, and proof that nothing is written any more
func TestRowsOfTheWalk(t *testing.T) {
	files, err := filepath.Glob("testdata/rows/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if len(archive.Files) == 0 || archive.Files[0].Name != "story" {
				t.Fatal("the first part must be the story")
			}
			got := tell(t, string(archive.Files[0].Data))
			if *update {
				archive.Files = append(archive.Files[:1:1], txtar.File{Name: "transcript", Data: []byte(got)})
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if len(archive.Files) < 2 {
				t.Fatal("there is no transcript: run with -update")
			}
			if diff := cmp.Diff(strings.Split(string(archive.Files[1].Data), "\n"), strings.Split(got, "\n")); diff != "" {
				t.Errorf("the story goes another way (-want +got); run with -update and review:\n%s", diff)
			}
		})
	}
}

// story is a world that does what it is told.
type story struct {
	t     *testing.T
	w     *world
	begun bool
}

// tell plays a story and returns its transcript. A broken law fails it.
func tell(t *testing.T, text string) string {
	t.Helper()
	s := story{t: t, w: newWorld(Options{Config: storyConfig("4 pods, steps"), Trace: true})}
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		if line := strings.TrimSpace(lines.Text()); line != "" && !strings.HasPrefix(line, "#") {
			s.do(line)
		}
	}
	if s.w.violation != nil {
		t.Errorf("%s", s.w.violation)
	}
	return transcript(s.w.trace)
}

func storyConfig(text string) Config {
	c := Config{
		Seed: 1, Zones: 2, Profile: "typical", Settle: 150 * time.Second, Plain: true, Gates: true,
		DeregistrationDelay: 30 * time.Second, CheckInterval: 10 * time.Second, StartMin: time.Second, StartMax: 3 * time.Second,
	}
	settings, steps, _ := strings.Cut(text, ", steps")
	for part := range strings.SplitSeq(settings, ", ") {
		var seconds int
		switch {
		case part == "dynamicStableScale":
			c.DynamicStableScale = true
		case scan(part, "%d pods", &seconds):
			c.Replicas = int32(seconds)
		case scan(part, "sticky %ds", &seconds):
			c.Stickiness = time.Duration(seconds) * time.Second
		case scan(part, "scaleDownDelay %ds", &seconds):
			c.ScaleDownDelay = new(int32(seconds))
		}
	}
	for _, step := range strings.Fields(steps) {
		var n int
		switch {
		case step == "pause":
			c.Steps = append(c.Steps, v1alpha1.CanaryStep{Pause: &v1alpha1.RolloutPause{}})
		case strings.HasSuffix(step, "s") && scan(step, "%ds", &n):
			c.Steps = append(c.Steps, v1alpha1.CanaryStep{Pause: &v1alpha1.RolloutPause{Duration: new(intstr.FromInt(n))}})
		case scan(step, "%d", &n):
			c.Steps = append(c.Steps, v1alpha1.CanaryStep{SetWeight: new(int32(n))})
		}
	}
	return c
}

func scan(text, format string, into *int) bool {
	n, err := fmt.Sscanf(text, format, into)
	return n == 1 && err == nil
}

// do carries out one line of a story.
func (s *story) do(line string) {
	s.t.Helper()
	word, rest, _ := strings.Cut(line, " ")
	w := s.w
	if word == "config" {
		s.w = newWorld(Options{Config: storyConfig(rest), Trace: true})
		return
	}
	if !s.begun {
		s.begun = true
		w.deploy()
		if word == "deployed" { // the first deployment is the story
			return
		}
		w.trace = nil
	}
	switch {
	case line == "set image "+strings.TrimPrefix(line, "set image "):
		image := strings.TrimPrefix(line, "set image ")
		w.people.edit(line, func(r *rollout) { r.image = image; r.generation++ })
	case line == "promote":
		w.people.promote()
	case line == "promote --full":
		w.people.edit(line, func(r *rollout) { r.status.PromoteFull, r.status.PauseConditions = true, nil })
	case line == "abort":
		w.people.abort()
	case line == "retry":
		w.people.edit(line, func(r *rollout) { r.status.Abort = false })
	case line == "roll back":
		w.people.rollback()
	case word == "scale":
		n, err := strconv.Atoi(rest)
		if err != nil {
			s.t.Fatalf("%s: %v", line, err)
		}
		w.people.resize(int32(n))
	case word == "crash":
		w.faults.crash(nil)
	case word == "write":
		w.faults.foreign(rest)
	case word == "late":
		s.late(rest)
	case word == "throttle":
		w.aws.busyUntil = w.now().Add(s.duration(rest))
		w.note("FAULT: AWS throttles for %s", rest)
	case word == "run":
		s.run(s.duration(rest), func() bool { return false })
	case word == "until":
		s.run(2*time.Hour, func() bool { return w.phase() == rest })
		if w.phase() != rest {
			s.t.Errorf("%s is not reached: %s", rest, w.phaseText())
		}
	case word == "rest":
		w.calm()
		w.retried = true // people do not retry by themselves
		w.untilRest()
	default:
		s.t.Fatalf("%q is no line of a story", line)
	}
}

// late has a call of a former leader arrive now: ModifyRule with these weights for the canary and the stable group.
func (s *story) late(weights string) {
	var canary, stable int32
	if _, err := fmt.Sscanf(weights, "%d %d", &canary, &stable); err != nil {
		s.t.Fatalf("late %s: %v", weights, err)
	}
	a := s.w.aws
	s.w.note("FAULT: a late call of the former leader")
	s.w.laws.meddled()
	forward := model.Forward{TargetGroups: []model.WeightedTargetGroup{{ARN: a.groupOf(canaryService).arn, Weight: canary}, {ARN: a.groupOf(stableService).arn, Weight: stable}}}
	if err := a.ModifyRule(context.Background(), a.shown[0].rule, []model.Action{{Type: model.ActionForward, Forward: &forward}}, nil); err != nil {
		s.t.Fatal(err)
	}
}

func (s *story) duration(text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

// run lets the world go on.
func (s *story) run(d time.Duration, done func() bool) {
	for end := s.w.now().Add(d); s.w.violation == nil && !done() && s.w.step(end); {
	}
}

// transcript is the trace in whole seconds since its beginning, without what only repeats.
func transcript(trace []string) string {
	var out bytes.Buffer
	begin, last := time.Duration(-1), ""
	for _, line := range trace {
		at, text, _ := strings.Cut(line, "  ")
		when, _ := time.ParseDuration(at)
		if begin < 0 {
			begin = when
		}
		if status, ok := strings.CutPrefix(text, "status: "); ok {
			phase, message, _ := strings.Cut(status, ": ")
			text = "the rollout is " + phase
			if phase == v1alpha1.PhasePaused || phase == v1alpha1.PhaseDegraded {
				text += " (" + message + ")"
			}
			if text == last {
				continue
			}
			last = text
		}
		fmt.Fprintf(&out, "%8s  %s\n", (when - begin).Truncate(time.Second), text)
	}
	return out.String()
}
