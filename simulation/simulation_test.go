package simulation

import (
	"bufio"
	"flag"
	"fmt"
	"maps"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var (
	seeds = flag.Int("seeds", 300, "how many random runs TestLawsHold makes")
	first = flag.Uint64("first", 1, "the first seed of TestLawsHold")
	seed  = flag.Uint64("seed", 0, "repeat the run of one seed and print everything that happens in it")
)

// TestLawsHold makes random runs: whatever happens in whatever order, no law is broken, and every rollout ends.
func TestLawsHold(t *testing.T) {
	if *seed != 0 {
		report := Run(Options{Config: Drawn(*seed), Trace: true})
		fmt.Println(strings.Join(report.Trace, "\n"))
		tellFailure(t, report)
		return
	}
	reached := map[string]int{}
	each(*first, *seeds, func(report Report) {
		for what := range report.Reached {
			reached[what]++
		}
		tellFailure(t, report)
	})
	if *seeds >= 300 && !t.Failed() {
		wantReached(t, reached)
		wantSeldom(t, reached)
	}
}

// each makes runs, as many at a time as there are processors, and hands over their reports in the order of the seeds.
func each(from uint64, count int, handle func(Report)) {
	reports := make([]chan Report, count)
	for i := range reports {
		reports[i] = make(chan Report, 1)
	}
	var next sync.Mutex
	taken := 0
	for range runtime.GOMAXPROCS(0) {
		go func() {
			for {
				next.Lock()
				i := taken
				taken++
				next.Unlock()
				if i >= count {
					return
				}
				reports[i] <- Run(Options{Config: Drawn(from + uint64(i))})
			}
		}()
	}
	for _, report := range reports {
		handle(<-report)
	}
}

// sometimes are situations that a batch of runs must have come through, each in at least so many of 300 runs:
// a law that holds only because nothing happened is worth nothing.
var sometimes = map[string]int{
	"crash": 60, "late call": 15, "throttle storm": 40, "throttled": 30, "stale read": 30, "lost pod": 40,
	"foreign edit": 40, "TrafficContested": 5, "conflict": 30,
	"balancing held something back": 30,
	"crowd":                         30, "urgent call in a crowd": 20, "another cluster": 25, "two owners": 10,
	"re-sync": 60, "abort during a re-sync": 2, "fourth image during a re-sync": 10, "new image after an abort": 5,
	"user: roll back": 40, "user: promote": 40, "user: promote --full": 20, "user: abort": 30, "user: retry": 20, "user: pause or resume": 20,
	"user: restart": 50, "restarted": 25, "a restart goes on while pods drain": 15, "user: scale": 60, "user: scale to 0": 20, "back from 0 pods": 3,
	"two versions serve": 100, "stable shrinks with its share": 1, "sticky clients at weight 0": 10,
}

// seldom are excuses (docs/laws.md) that may come up in at most so many of 300 runs; every other in at most
// otherwise. An excuse that many runs need would hide mistakes.
var seldom = map[string]int{"law 3 excused: a pod was lost": 25, "law 8 excused: a pod was lost": 25, "law 8 excused: people changed the size": 25}

const otherwise = 3

func wantSeldom(t *testing.T, reached map[string]int) {
	t.Helper()
	for what, got := range reached {
		limit, listed := seldom[what]
		if !listed {
			limit = otherwise
		}
		if limit = limit * *seeds / 300; strings.Contains(what, " excused: ") && got > limit {
			t.Errorf("%q came up in %d of %d runs, want at most %d: it may hide a mistake", what, got, *seeds, limit)
		}
	}
}

func wantReached(t *testing.T, reached map[string]int) {
	t.Helper()
	for _, what := range slices.Sorted(maps.Keys(sometimes)) {
		if got, want := reached[what], sometimes[what]**seeds/300; got < want {
			t.Errorf("%q came up in %d of %d runs, want at least %d: the runs do not test it", what, got, *seeds, want)
		}
	}
	t.Logf("reached: %v", reached)
}

// tail is how many lines of its trace a failing run prints.
const tail = 60

// tellFailure tells a broken law with what is needed to look into it: the least that still breaks it, and
// the command that repeats the whole run.
func tellFailure(t *testing.T, report Report) {
	t.Helper()
	if report.Violation == nil {
		return
	}
	least := Reduced(report, Production())
	from := max(0, len(least.Trace)-tail)
	t.Errorf("%s\n%s\nreduced: %s\n%s\nthe last that happened in the reduced run:\n%s\nrepeat the whole run with:\n  go test ./simulation -run TestLawsHold -count=1 -seed=%d",
		report.Violation, report.Config, least.Violation, least.Config, strings.Join(least.Trace[from:], "\n"), report.Config.Seed)
}

// TestSeedsThatOnceFailed repeats runs that have shown a bug; testdata/seeds.txt says which.
func TestSeedsThatOnceFailed(t *testing.T) {
	file, err := os.Open("testdata/seeds.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		number, _, _ := strings.Cut(lines.Text(), " ")
		if number == "" || number == "#" {
			continue
		}
		s, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			t.Fatalf("testdata/seeds.txt: %v", err)
		}
		c := Drawn(s)
		tellFailure(t, Run(Options{Config: c}))
		if c.Restarts > 0 { // The seed may be from before they were drawn.
			c.Restarts = 0
			tellFailure(t, Run(Options{Config: c}))
		}
	}
}

// The same seed gives the same run: without that no failure could be looked into.
func TestASeedRepeatsItsRun(t *testing.T) {
	for s := range uint64(20) {
		a, b := Run(Options{Config: Drawn(s), Trace: true}), Run(Options{Config: Drawn(s), Trace: true})
		if diff := cmp.Diff(a.Trace, b.Trace); diff != "" {
			t.Fatalf("seed %d gives two runs:\n%s", s, diff)
		}
	}
}

// A run that fails is made smaller, and still fails by the same law.
func TestReducedKeepsTheFailure(t *testing.T) {
	brain := Production()
	decide := brain.Rollout
	brain.Rollout = unsettled(decide)
	for s := uint64(1); s <= within; s++ {
		report := Run(Options{Config: Drawn(s), Brain: brain})
		if report.Violation == nil {
			continue
		}
		least := Reduced(report, brain)
		if least.Violation == nil || least.Violation.Law != report.Violation.Law {
			t.Fatalf("seed %d: %s became %v", s, report.Violation, least.Violation)
		}
		if len(least.Config.String()) >= len(report.Config.String()) {
			t.Errorf("seed %d: nothing became simpler:\n%s\n%s", s, report.Config, least.Config)
		}
		return
	}
	t.Fatal("nothing failed")
}

// BenchmarkRollouts says how fast the simulation is, on one processor and by its time, so that a busy machine
// gives the same figures. Repeat it with:
//
//	go test ./simulation -run '^$' -bench BenchmarkRollouts -benchtime 300x -count 10
func BenchmarkRollouts(b *testing.B) {
	var rollouts, decisions, s int
	var simulated time.Duration
	b.ReportAllocs()
	began := cpuTime()
	for b.Loop() {
		s++
		report := Run(Options{Config: Drawn(uint64(s))})
		if report.Violation != nil {
			b.Fatal(report.Violation)
		}
		rollouts += report.Rollouts
		decisions += report.Decisions
		simulated += report.Simulated
	}
	cpu := (cpuTime() - began).Seconds()
	b.ReportMetric(float64(s)/cpu, "schedules/cpu-s")
	b.ReportMetric(float64(rollouts)/cpu, "rollouts/cpu-s")
	b.ReportMetric(simulated.Hours()/cpu, "simulated-h/cpu-s")
	b.ReportMetric(float64(decisions)/cpu, "decisions/cpu-s")
}

// A run leaves much garbage and needs little memory.
func TestMain(m *testing.M) {
	debug.SetGCPercent(1600)
	os.Exit(m.Run())
}
