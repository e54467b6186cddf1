package tagging

import (
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
)

// What was deleted, and the tags that a resource had before, are forgotten as soon as everybody knows, though nobody asks.
func TestWhatIsGoneIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		typical, err := profile.Load("typical")
		if err != nil {
			t.Fatal(err)
		}
		now := map[string]map[string]string{}
		s := New(profile.NewDraws(typical, 1, 1), func() map[string]map[string]string { return now })
		for i := range 100 {
			now = map[string]map[string]string{"stays": {"round": fmt.Sprint(i)}, fmt.Sprint("short-lived-", i): {"a": "b"}}
			s.Observe()
			time.Sleep(time.Minute)
		}
		now = nil
		time.Sleep(time.Hour)
		s.Observe()
		if len(s.resources) > 20 {
			t.Errorf("%d resources are remembered", len(s.resources))
		}
		if states := len(s.resources["stays"].states); states > 2 {
			t.Errorf("%d states of a resource are remembered", states)
		}
		time.Sleep(time.Hour)
		s.Observe()
		if len(s.resources) != 0 {
			t.Errorf("%d resources are remembered after their end", len(s.resources))
		}
	})
}

// Calls look at the sources side by side. Tags that were replaced never come back because somebody had looked earlier and was slower.
func TestTagsNeverGoBack(t *testing.T) {
	t.Parallel()
	ideal, err := profile.Load("ideal")
	if err != nil {
		t.Fatal(err)
	}
	slow := *ideal
	slow.Seconds = profile.Durations{profile.TaggingLag: must(t, "F(3600)")} // every state is remembered
	var round atomic.Int64
	s := New(profile.NewDraws(&slow, 1, 1), func() map[string]map[string]string {
		seen := map[string]map[string]string{"a": {"round": strconv.FormatInt(round.Load(), 10)}}
		runtime.Gosched()
		return seen
	})
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for range 500 {
				round.Add(1)
				s.Observe()
			}
		})
	}
	callers.Wait()
	last := int64(-1)
	for _, one := range s.resources["a"].states {
		now, err := strconv.ParseInt(one.tags["round"], 10, 64)
		if err != nil || now <= last {
			t.Fatalf("round %d follows %d: %v", now, last, err)
		}
		last = now
	}
}

func must(t *testing.T, text string) profile.Distribution {
	t.Helper()
	d, err := profile.ParseDistribution(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
