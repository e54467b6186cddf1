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
		young := eventual.New(model(t, func(*profile.Profile) {}), "y", "old")
		if _, ok := young.Read(stale); ok || young.Found(stale) {
			t.Error("a new resource is seen")
		}
		young.Put("new")
		if value, ok := young.Read(stale); !ok || value != "old" || !young.Found(stale) {
			t.Errorf("a new resource that has changed is seen as %q", value)
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

// A resource that changes right after it was made, as a target group does that a listener begins to use, can be missing all the same; who
// has seen it, in either state, never misses it again where reads are monotonic.
func TestAResourceThatChangesAtOnceCanStillBeMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := model(t, func(p *profile.Profile) { p.MonotonicReads = true })
		v := eventual.New(m, "x", "old")
		v.Put("new")
		seen, lost := map[string]int{}, 0
		for i := range 1000 {
			if !v.Found(eventual.Reader{Caller: fmt.Sprint("writer-", i)}) {
				lost++
			}
		}
		order, met := map[string]int{"missing": 0, "old": 1, "new": 2}, map[int]bool{}
		for i := range 500 {
			newest := 0
			for range 5 {
				value, ok := v.Read(eventual.Reader{Caller: fmt.Sprint("caller-", i%40)})
				if !ok {
					value = "missing"
				}
				seen[value]++
				if order[value] < newest || !ok && met[i%40] {
					t.Fatalf("a caller went back to %s", value)
				}
				newest, met[i%40] = order[value], met[i%40] || ok
			}
			if i%100 == 50 {
				v.Put("new") // what was new is old now
			}
		}
		if lost < 400 || lost > 600 || seen["missing"] < 10 || seen["old"] < 10 || seen["new"] < 10 {
			t.Errorf("%d of 1000 writers missed it, readers saw %v", lost, seen)
		}
		time.Sleep(10 * time.Second)
		if seen := reads(v, 100, everyone); seen["new"] != 100 {
			t.Errorf("after the window: %v", seen)
		}
	})
}

// A look that sees a write of several resources misses none of them, and one that misses one of them does not see the write.
func TestOneWriteToNewResourcesIsSeenWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := model(t, func(p *profile.Profile) { p.MonotonicReads = false })
		looks := map[string]int{}
		for i := range 400 {
			a, b := eventual.New(m, fmt.Sprint("a", i), "old"), eventual.New(m, fmt.Sprint("b", i), "old")
			eventual.PutAll([]*eventual.Value[string]{a, b}, []string{"new", "new"})
			look := eventual.NewLook(eventual.Reader{Caller: "me"})
			first, _ := a.See(look)
			second, _ := b.See(look)
			looks[first+"/"+second]++
		}
		if len(looks) < 4 || looks["new/"]+looks["/new"]+looks["new/old"]+looks["old/new"] > 0 {
			t.Errorf("looks saw %v", looks)
		}
	})
}

// Callers name themselves: what is remembered of them is bounded, and a caller beyond the bound sees no state that it must be kept from.
func TestManyCallersSeeTheNewState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := eventual.New(model(t, func(p *profile.Profile) { p.MonotonicReads = true }), "x", "old")
		reads(v, 5000, everyone)
		if seen := reads(v, 5000, everyone); seen["old"] != 5000 {
			t.Errorf("after thousands of callers: %v", seen)
		}
	})
}
