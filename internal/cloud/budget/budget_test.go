package budget

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// drain takes tokens until there is none and counts them.
func drain(t *testing.T, b *Budget, lane Lane, operation string) int {
	t.Helper()
	for n := 0; ; n++ {
		err := b.Take(lane, ELBv2, operation)
		if busy, ok := errors.AsType[*BusyError](err); ok {
			if !busy.Until.After(time.Now()) {
				t.Errorf("busy until %s, which is not in the future", busy.Until)
			}
			return n
		}
		if err != nil || n > 1000 {
			t.Fatalf("after %d tokens: %v", n, err)
		}
	}
}

func TestEachLaneLeavesAReserveToThoseAbove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Settings{})
		taken := 0
		for i, want := range []int{7, 10, 14, 16, 18} { // of a burst of 18, nine tenths of AWS's 20
			lane := Lanes[len(Lanes)-1-i]
			taken += drain(t, b, lane, "ModifyRule")
			if taken != want {
				t.Errorf("after lane %s %d tokens are taken, want %d", lane, taken, want)
			}
		}
	})
}

func TestCategoriesShareTheAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Settings{})
		n := drain(t, b, Traffic, "ModifyRule") + drain(t, b, Traffic, "RegisterTargets") + drain(t, b, Traffic, "DescribeRules")
		if n != 36 {
			t.Errorf("%d calls at one moment, want 36: nine tenths of the account's 40", n)
		}
		if b.Take(Traffic, EC2, "DescribeSubnets") != nil {
			t.Error("EC2 has buckets of its own")
		}
	})
}

func TestARefilledTokenComesWhenPromised(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Settings{})
		drain(t, b, Configuration, "CreateRule")
		err := b.Take(Configuration, ELBv2, "CreateRule")
		busy, _ := errors.AsType[*BusyError](err)
		time.Sleep(time.Until(busy.Until) - time.Millisecond)
		if b.Take(Configuration, ELBv2, "CreateRule") == nil {
			t.Error("a token came before it was promised")
		}
		time.Sleep(time.Millisecond)
		if err := b.Take(Configuration, ELBv2, "CreateRule"); err != nil {
			t.Errorf("no token when it was promised: %v", err)
		}
	})
}

// Whoever was refused looks anew at what it acts on before it tries again. In an account without spare tokens its own reads would take the
// token that it came back for, each time.
func TestARefusedCallIsNotStarvedByItsOwnReads(t *testing.T) {
	for _, lane := range []Lane{Targets, Configuration} {
		t.Run(lane.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := New(Settings{})
				drain(t, b, lane, "DescribeRules")
				rounds := 0
				for err := b.Take(lane, ELBv2, "DeregisterTargets"); err != nil; err = b.Take(lane, ELBv2, "DeregisterTargets") {
					busy, _ := errors.AsType[*BusyError](err)
					time.Sleep(time.Until(busy.Until))
					for _, read := range []Lane{lane, Traffic, Traffic} {
						if err := b.Wait(t.Context(), read, ELBv2, "DescribeTargetHealth", false); err != nil {
							t.Fatal(err)
						}
					}
					if rounds++; rounds > 3 {
						t.Fatal("refused for ever")
					}
				}
			})
		})
	}
}

// What a refused call may take beyond its share is bounded: most of it stays with the lanes above.
func TestRefusedCallsLeaveMostToThoseAbove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Settings{})
		drain(t, b, Configuration, "CreateRule")
		time.Sleep(400 * time.Millisecond) // until about one token more is there
		for _, operation := range []string{"CreateRule", "DeleteRule", "AddTags", "RemoveTags", "CreateListener", "DeleteListener"} {
			_ = b.Take(Configuration, ELBv2, operation)
		}
		time.Sleep(400 * time.Millisecond)
		for _, operation := range []string{"CreateRule", "DeleteRule", "AddTags", "RemoveTags", "CreateListener", "DeleteListener"} {
			drain(t, b, Configuration, operation)
		}
		if n := drain(t, b, Traffic, "ModifyRule"); n < 3 {
			t.Errorf("%d tokens are left for weights, want at least 3 of 18", n)
		}
	})
}

func TestWaitersGoByLaneThenByArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Settings{MaxWait: time.Minute})
		drain(t, b, Traffic, "DescribeRules")
		var mu sync.Mutex
		var order []Lane
		var all sync.WaitGroup
		for _, lane := range []Lane{Audit, Audit, Configuration, Targets, Targets, Traffic} {
			all.Go(func() {
				if err := b.Wait(t.Context(), lane, ELBv2, "DescribeRules", true); err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				order = append(order, lane)
			})
			synctest.Wait()
		}
		all.Wait()
		if !slices.IsSorted(order) {
			t.Errorf("tokens went to %v, want the urgent lanes first", order)
		}
	})
}

func TestWithinALaneTheFirstIsServedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Settings{MaxWait: time.Minute})
		drain(t, b, Traffic, "DescribeRules")
		var mu sync.Mutex
		var order []int
		var all sync.WaitGroup
		for i := range 30 {
			all.Go(func() {
				if err := b.Wait(t.Context(), Targets, ELBv2, "DescribeTargetHealth", true); err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				order = append(order, i)
			})
			synctest.Wait()
		}
		all.Wait()
		if !slices.IsSorted(order) {
			t.Errorf("tokens went to %v, want them in the order of arrival", order)
		}
	})
}

// Polling of targets takes every token it can get; a fill of configuration must still come to its turn.
func TestALowerLaneIsNotStarved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Settings{})
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for range 30 {
			all.Go(func() {
				for b.Wait(ctx, Targets, ELBv2, "DescribeTargetHealth", true) == nil {
				}
			})
		}
		time.Sleep(time.Minute)
		asked := time.Now()
		if err := b.Wait(ctx, Configuration, ELBv2, "DescribeListeners", true); err != nil {
			t.Error(err)
		}
		if waited := time.Since(asked); waited > 20*time.Second {
			t.Errorf("configuration waited %s, want about its patience of 10 s and a turn in the queue", waited)
		}
		asked = time.Now()
		if err := b.Wait(ctx, Traffic, ELBv2, "DescribeRules", false); err != nil || time.Since(asked) > time.Second {
			t.Errorf("traffic waited %s: %v", time.Since(asked), err)
		}
		cancel()
		all.Wait()
	})
}

func TestAWaitIsBoundedAndCanBeEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Settings{MaxWait: 2 * time.Second})
		for range 100 {
			b.Throttled(ELBv2, "DescribeRules")
			time.Sleep(time.Second)
		}
		asked := time.Now()
		err := b.Wait(t.Context(), Audit, ELBv2, "DescribeRules", false)
		if _, busy := errors.AsType[*BusyError](err); !busy || time.Since(asked) != 2*time.Second {
			t.Errorf("after %s: %v, want a BusyError after 2 s", time.Since(asked), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := b.Wait(ctx, Audit, ELBv2, "DescribeRules", true); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the context's end gives %v", err)
		}
	})
}

func TestThrottlingHalvesTheRefillAndItGrowsBack(t *testing.T) {
	now := time.Unix(0, 0)
	b := newBucket(Limit{Burst: 20, Rate: 10}, 1, now)
	b.throttled(now, decrease)
	b.throttled(now.Add(time.Millisecond), decrease) // was on its way together with the first
	if b.factor > 0.51 || b.tokens > 0.1 {
		t.Errorf("factor %v and %v tokens, want half of the refill and none", b.factor, b.tokens)
	}
	for range 20 {
		now = now.Add(1100 * time.Millisecond)
		b.throttled(now, decrease)
	}
	if b.factor < leastFactor || b.factor > 0.2 {
		t.Errorf("factor %v under throttling for 20 s, want a trickle", b.factor)
	}
	b.refill(now.Add(20 * time.Second))
	if b.factor != 1 {
		t.Errorf("factor %v after 20 quiet seconds, want 1", b.factor)
	}
}

// Whatever is asked for and when, AWS never sees more than its bucket allows.
func TestABucketNeverGivesMoreThanItsLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := time.Unix(0, 0)
		b := newBucket(Limit{Burst: 20, Rate: 3}, 1, start)
		now, taken := start, 0.0
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(-100, 3000).Draw(t, "ms")) * time.Millisecond)
			b.refill(now)
			if rapid.IntRange(0, 20).Draw(t, "throttle") == 0 {
				b.throttled(now, decrease)
			}
			reserve := reserves[rapid.SampledFrom(Lanes).Draw(t, "lane")]
			if b.wait(demand{reserve: reserve}) == 0 {
				b.tokens--
				taken++
			}
			latest := b.at.Sub(start).Seconds()
			if taken > 20+latest*3+1e-6 {
				t.Fatalf("%v calls in %v s", taken, latest)
			}
			if b.tokens < -1e-9 {
				t.Fatalf("%v tokens", b.tokens)
			}
		}
	})
}
