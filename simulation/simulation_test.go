package simulation

import (
	"flag"
	"fmt"
	"strings"
	"testing"
)

var (
	seeds = flag.Int("seeds", 300, "how many random runs TestLawsHold makes")
	first = flag.Uint64("first", 1, "the first seed of TestLawsHold")
	seed  = flag.Uint64("seed", 0, "repeat the run of one seed and print everything that happens in it")
)

// tail is how many lines of its trace a failing run prints.
const tail = 60

func TestLawsHold(t *testing.T) {
	if *seed != 0 {
		report := Run(Options{Config: Drawn(*seed), Trace: true})
		fmt.Println(strings.Join(report.Trace, "\n"))
		fail(t, report)
		return
	}
	reached := map[string]int{}
	for s := *first; s < *first+uint64(*seeds); s++ {
		report := Run(Options{Config: Drawn(s)})
		for what := range report.Reached {
			reached[what]++
		}
		if report.Violation != nil {
			fail(t, Run(Options{Config: Drawn(s), Trace: true}))
		}
	}
	t.Log(reached)
}

// fail tells a broken law with what is needed to look into it.
func fail(t *testing.T, report Report) {
	t.Helper()
	if report.Violation == nil {
		return
	}
	from := max(0, len(report.Trace)-tail)
	t.Errorf("%s\n%s\nthe last that happened:\n%s\nrepeat it with:\n  go test ./simulation -run TestLawsHold -count=1 -seed=%d", report.Violation, report.Config, strings.Join(report.Trace[from:], "\n"), report.Config.Seed)
}

// TestSurvey counts, for looking around.
func TestSurvey(t *testing.T) {
	if testing.Short() {
		t.Skip()
	}
	kinds := map[string][]uint64{}
	for s := uint64(1); s <= uint64(*seeds); s++ {
		r := Run(Options{Config: Drawn(s)})
		if r.Violation != nil {
			key := fmt.Sprint(r.Violation.Law)
			kinds[key] = append(kinds[key], s)
			fmt.Println(s, r.Violation)
		}
	}
	for k, v := range kinds {
		fmt.Println(k, len(v), v)
	}
}
