package eventual_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
)

func model(t *testing.T, change func(*profile.Profile)) *eventual.Model {
	t.Helper()
	p, err := profile.Load("typical")
	if err != nil {
		t.Fatal(err)
	}
	p.Probabilities[profile.ReadNewMissing], p.Probabilities[profile.ReadOldState] = 0.5, 0.5
	if p.Seconds[profile.ReadWindow], err = profile.ParseDistribution("F(10)"); err != nil {
		t.Fatal(err)
	}
	change(p)
	return eventual.NewModel(profile.NewDraws(p, 1, 1))
}

// reads counts what n readers see of a value that was made as old and then changed to new.
func reads(v *eventual.Value[string], n int, caller func(int) string) map[string]int {
	seen := map[string]int{}
	for i := range n {
		value, ok := v.Read(eventual.Reader{Caller: caller(i)})
		if !ok {
			value = "missing"
		}
		seen[value]++
	}
	return seen
}

func everyone(i int) string { return fmt.Sprint("caller-", i) }

func TestReadsMissAndLagWithinTheWindowOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := eventual.New(model(t, func(*profile.Profile) {}), "x", "old")
		if seen := reads(v, 1000, everyone); seen["missing"] < 400 || seen["old"] < 400 || len(seen) != 2 {
			t.Errorf("a new resource: %v", seen)
		}
		time.Sleep(10 * time.Second)
		if seen := reads(v, 100, everyone); seen["old"] != 100 {
			t.Errorf("after the window: %v", seen)
		}
		v.Put("new")
		if v.Get() != "new" {
			t.Error("a write does not see itself")
		}
		if seen := reads(v, 1000, everyone); seen["old"] < 400 || seen["new"] < 400 || len(seen) != 2 {
			t.Errorf("a changed resource: %v", seen)
		}
		if !v.Found(eventual.Reader{Caller: "writer"}) {
			t.Error("a resource that is merely changed cannot be found")
		}
		time.Sleep(10 * time.Second)
		if seen := reads(v, 100, everyone); seen["new"] != 100 {
			t.Errorf("after the window: %v", seen)
		}
	})
}

func TestOneCallerNeverGoesBackWhereReadsAreMonotonic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		same := func(int) string { return "me" }
		back := func(monotonic bool) bool {
			m := model(t, func(p *profile.Profile) { p.MonotonicReads = monotonic })
			for i := range 100 {
				v := eventual.New(m, fmt.Sprint("x", i), "old")
				time.Sleep(10 * time.Second)
				v.Put("new")
				newest := false
				for range 20 {
					value, _ := v.Read(eventual.Reader{Caller: same(0)})
					if newest && value == "old" {
						return true
					}
					newest = newest || value == "new"
				}
			}
			return false
		}
		if back(true) {
			t.Error("a caller saw the old state after the new one")
		}
		if !back(false) {
			t.Error("no caller ever went back, though reads are not monotonic")
		}
	})
}

func TestStaleFaultOverridesTheProfile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := eventual.Settled(model(t, func(*profile.Profile) {}), "x", "old")
		stale := eventual.Reader{Caller: "me", Stale: &eventual.Staleness{Probability: 1, Window: time.Hour}}
		if value, ok := v.Read(stale); !ok || value != "old" {
			t.Error("a settled resource is not seen")
		}
		v.Put("new")
		time.Sleep(59 * time.Minute)
		if value, _ := v.Read(stale); value != "old" {
			t.Errorf("within the hour %s is seen", value)
		}
		time.Sleep(2 * time.Minute)
		if value, _ := v.Read(stale); value != "new" {
			t.Errorf("after the hour %s is seen", value)
		}
	})
}

// One look at what one write changed sees all of it or nothing, also when a part of it changes once more.
func TestOneWriteIsSeenWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := model(t, func(p *profile.Profile) { p.MonotonicReads = false })
		whole := map[string]int{}
		for i := range 100 {
			a, b := eventual.Settled(m, fmt.Sprint("a", i), "1"), eventual.Settled(m, fmt.Sprint("b", i), "2")
			eventual.PutAll([]*eventual.Value[string]{a, b}, []string{"2", "1"})
			look := eventual.NewLook(eventual.Reader{Caller: "me"})
			first, _ := a.See(look)
			second, _ := b.See(look)
			whole[first+second]++
			if i == 0 {
				a.Put("3")
				if seen := reads(b, 100, everyone); seen["1"] != 100 {
					t.Errorf("a part of a write is seen though the rest has changed since: %v", seen)
				}
			}
		}
		if whole["12"] < 20 || whole["21"] < 20 || len(whole) != 2 {
			t.Errorf("looks saw %v", whole)
		}
	})
}
