package lifecycle

import (
	"cmp"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the transcripts in testdata anew")

// TestStories tells each story of testdata in virtual time and compares what happened with its transcript.
//
// A story is a txtar file: why it matters (the comment), pod.yaml, world, transcript. The world is what is around the
// machine, one line per fact:
//
//	pull C takes 2s              or: pull C fails until 25s (time of the story)
//	probe C KIND ok 3s..30s      of C's age; a kind without such a line is always ok
//	volume fails until 5s
//	exit C after 5s code 1       each run ends by itself
//	sigterm C takes 4s           or: sigterm C never; without: at once. Exit code 0
//	hook C takes 2s              also: hook C fails after 2s
//	at 20s gate NAME True        also: at 40s delete 30s; at 50s remove; at 60s condemn Evicted (in 1s)
//	until 120s                   how long the story is told
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no stories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			w := newWorld(t, section(archive, "pod.yaml"), section(archive, "world"))
			w.run()
			got := strings.Join(w.transcript, "\n") + "\n"
			if *update {
				setSection(archive, "transcript", got)
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := gocmp.Diff(section(archive, "transcript"), got); diff != "" {
				t.Errorf("the story goes differently now (go test -update writes it anew):\n%s", diff)
			}
		})
	}
}

func section(a *txtar.Archive, name string) string {
	for _, f := range a.Files {
		if f.Name == name {
			return string(f.Data)
		}
	}
	return ""
}

func setSection(a *txtar.Archive, name, data string) {
	a.Files = slices.DeleteFunc(a.Files, func(f txtar.File) bool { return f.Name == name })
	a.Files = append(a.Files, txtar.File{Name: name, Data: []byte(data)})
}

// world is what is around the machine of one story.
type world struct {
	t       *testing.T
	machine *Machine
	pod     *corev1.Pod
	facts   [][]string
	now     time.Time
	until   time.Duration
	coming  []coming
	wake    time.Time
	// begun is when each run of a container started.
	begun      map[Ref]time.Time
	transcript []string
	summary    string
	finished   bool
}

type coming struct {
	at    time.Time
	input func() Input
}

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newWorld(t *testing.T, podYAML, facts string) *world {
	w := &world{t: t, now: epoch, pod: &corev1.Pod{}, begun: map[Ref]time.Time{}}
	if err := yaml.UnmarshalStrict([]byte(podYAML), w.pod); err != nil {
		t.Fatal(err)
	}
	w.pod.UID = "uid-1"
	for line := range strings.Lines(facts) {
		f := strings.Fields(line)
		switch {
		case len(f) == 0:
		case f[0] == "until":
			w.until = dur(t, f[1])
		case f[0] == "at":
			w.later(epoch.Add(dur(t, f[1])).Sub(w.now), func() Input { return w.outside(f[2:]) })
		default:
			w.facts = append(w.facts, f)
		}
	}
	w.machine = New(w.pod, netip.MustParseAddr("10.1.0.10"))
	return w
}

func dur(t *testing.T, s string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// outside is what others do to the pod object.
func (w *world) outside(f []string) Input {
	w.say("* %s", strings.Join(f, " "))
	w.pod = w.pod.DeepCopy()
	switch f[0] {
	case "gate":
		w.pod.Status.Conditions = slices.DeleteFunc(w.pod.Status.Conditions, func(c corev1.PodCondition) bool { return string(c.Type) == f[1] })
		w.pod.Status.Conditions = append(w.pod.Status.Conditions, corev1.PodCondition{Type: corev1.PodConditionType(f[1]), Status: corev1.ConditionStatus(f[2])})
	case "delete":
		w.pod.DeletionTimestamp = new(metav1.NewTime(w.now))
		w.pod.DeletionGracePeriodSeconds = new(int64(dur(w.t, f[1]).Seconds()))
	case "remove":
		return Removed{}
	case "condemn":
		why := Condemned{Reason: f[1], Message: "by the story"}
		if len(f) > 3 {
			why.Grace = dur(w.t, f[3])
		}
		return why
	default:
		w.t.Fatalf("nobody can %q", f)
	}
	return Observed{Pod: w.pod}
}

func (w *world) run() {
	w.step(Observed{Pod: w.pod})
	end := epoch.Add(w.until)
	for !w.finished {
		slices.SortStableFunc(w.coming, func(a, b coming) int { return cmp.Compare(a.at.UnixNano(), b.at.UnixNano()) })
		switch {
		case len(w.coming) > 0 && (w.wake.IsZero() || !w.wake.Before(w.coming[0].at)):
			next := w.coming[0]
			w.coming = w.coming[1:]
			if w.now = next.at; w.now.After(end) {
				return
			}
			if in := next.input(); in != nil {
				w.step(in)
			}
		case !w.wake.IsZero():
			if w.wake.After(end) {
				return
			}
			if w.wake.Before(w.now) {
				w.t.Fatalf("the machine wants to be woken at %s, which is past", w.wake.Sub(epoch))
			}
			w.now = w.wake
			w.step()
		default:
			return
		}
	}
}

// step steps the machine, and again with the answers that come at once.
func (w *world) step(in ...Input) {
	for range 100 {
		work := w.machine.Advance(w.now, in...)
		w.wake, in = work.Wake, nil
		for _, a := range work.Do {
			if answer := w.carryOut(a); answer != nil {
				in = append(in, answer)
			}
		}
		w.sayStatus()
		if work.Finished {
			w.finished = true
			w.say("finished")
			return
		}
		if in == nil {
			return
		}
	}
	w.t.Fatal("the machine does not come to rest")
}

func (w *world) later(d time.Duration, f func() Input) {
	w.coming = append(w.coming, coming{w.now.Add(d), f})
}

// fact returns the words of a world line after the given ones.
func (w *world) fact(words ...string) []string {
	for _, f := range w.facts {
		if len(f) >= len(words) && slices.Equal(f[:len(words)], words) {
			return f[len(words):]
		}
	}
	return nil
}

func (w *world) carryOut(a Action) Input {
	switch a := a.(type) {
	case SetUpVolumes:
		if f := w.fact("volume", "fails", "until"); f != nil && w.now.Sub(epoch) < dur(w.t, f[0]) {
			return VolumesFailed{Messages: []string{"no such ConfigMap"}}
		}
		w.say("volumes up")
		return VolumesUp{}
	case SetUpNetwork:
		w.say("network up")
		return NetworkUp{Addr: netip.MustParseAddr("10.1.0.20")}
	case TearDownNetwork:
		w.say("network down")
	case Pull:
		return w.pull(a)
	case Start:
		w.begun[a.Ref] = w.now
		w.say("start %s (run %d)", a.Container, a.Run)
		if f := w.fact("exit", a.Container); f != nil {
			code, _ := strconv.Atoi(f[3])
			w.later(dur(w.t, f[1]), func() Input { return Exited{Ref: a.Ref, Code: int32(code)} })
		}
		return Started(a)
	case Signal:
		w.say("SIGTERM %s", a.Container)
		return w.sigterm(a.Ref)
	case Kill:
		w.say("SIGKILL %s", a.Container)
		return Exited{Ref: a.Ref, Code: 137}
	case Probe:
		return w.probe(a)
	case RunHook:
		w.say("%s of %s", a.Kind, a.Container)
		done := HookDone{Ref: a.Ref, Kind: a.Kind}
		takes := w.fact("hook", a.Container, "takes")
		if takes == nil {
			takes = w.fact("hook", a.Container, "fails", "after")
			done.Err = "no"
		}
		w.later(dur(w.t, takes[0]), func() Input { return done })
	case Record:
		w.say("event %s %s: %s", a.Type, a.Reason, a.Message)
	}
	return nil
}

func (w *world) pull(a Pull) Input {
	pulled := Pulled{Ref: a.Ref, Message: fmt.Sprintf("Pulled %q", a.Image)}
	if f := w.fact("pull", a.Container, "fails", "until"); f != nil && w.now.Sub(epoch) < dur(w.t, f[0]) {
		return PullFailed{Ref: a.Ref, Reason: "ErrImagePull", Message: "not found"}
	}
	if f := w.fact("pull", a.Container, "takes"); f != nil && a.Run == 1 {
		w.later(dur(w.t, f[0]), func() Input { return pulled })
		return nil
	}
	return pulled
}

func (w *world) sigterm(ref Ref) Input {
	f := w.fact("sigterm", ref.Container)
	switch {
	case f == nil:
		return Exited{Ref: ref}
	case f[0] == "takes":
		w.later(dur(w.t, f[1]), func() Input { return Exited{Ref: ref} })
	}
	return nil
}

// probe answers at once; only failures are told, successes show in the status.
func (w *world) probe(a Probe) Input {
	answer := Probed{Ref: a.Ref, Kind: a.Kind, OK: true}
	if f := w.fact("probe", a.Container, strings.ToLower(a.Kind.String()), "ok"); f != nil {
		from, to, _ := strings.Cut(f[0], "..")
		age := w.now.Sub(w.begun[a.Ref])
		answer.OK = age >= dur(w.t, from) && (to == "" || age < dur(w.t, to))
	}
	if !answer.OK {
		answer.Message = "no"
	}
	return answer
}

func (w *world) say(format string, args ...any) {
	w.transcript = append(w.transcript, fmt.Sprintf("%8s  %s", w.now.Sub(epoch), fmt.Sprintf(format, args...)))
}

// sayStatus tells the status in one line when it has changed.
func (w *world) sayStatus() {
	s := w.machine.Status()
	line := "= " + string(s.Phase)
	if s.Reason != "" {
		line += " " + s.Reason
	}
	for _, c := range s.Conditions {
		if c.Type == corev1.PodReady || c.Type == corev1.PodInitialized && c.Status != corev1.ConditionTrue {
			line += fmt.Sprintf(", %s=%s %s", c.Type, c.Status, c.Reason)
		}
	}
	for _, c := range slices.Concat(s.InitContainerStatuses, s.ContainerStatuses) {
		line += " | " + c.Name + " "
		switch st := c.State; {
		case st.Running != nil:
			line += fmt.Sprintf("running started=%v ready=%v", *c.Started, c.Ready)
		case st.Terminated != nil:
			line += fmt.Sprintf("exited %d", st.Terminated.ExitCode)
		default:
			line += "waiting " + st.Waiting.Reason
		}
		if c.RestartCount > 0 {
			line += fmt.Sprintf(" restarts=%d", c.RestartCount)
		}
	}
	if line != w.summary {
		w.summary = line
		w.say("%s", line)
	}
}
