package cloud_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/cloud"
)

// lose sends a weight whose answer never comes; it takes effect after a while.
func (f *fake) loseFor(t *testing.T, c *cloud.Cloud, after time.Duration, actions []model.Action) {
	t.Helper()
	f.set(func(f *fake) { f.late["ModifyRule"] = after })
	if err := c.ModifyRule(t.Context(), ruleARN, actions, nil); !errors.Is(err, cloud.ErrUnavailable) {
		t.Fatalf("the write gives %v, want ErrUnavailable", err)
	}
	f.set(func(f *fake) { delete(f.late, "ModifyRule") })
}

// A write that nobody answered may happen after the next read, which then shows the old state truly. It is looked
// for until it cannot come any more, without anybody asking, and not often.
func TestALateWriteIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.connect(t, cloud.Settings{})
		believed(t, c)
		f.loseFor(t, c, 4*time.Minute, split(50, 50))
		if got := believed(t, c); got != 0 {
			t.Errorf("before it has arrived the plan sees %d, want 0", got)
		}
		told := 0
		defer c.Subscribe(func(change cloud.Change) {
			if change.Kind == cloud.ChangeTraffic && change.StackID == "shop/web" {
				told++
			}
		})()
		f.forgetCalls()
		time.Sleep(4*time.Minute + 35*time.Second)
		synctest.Wait()
		reads := f.made("DescribeRules")
		if got := believed(t, c); got != 50 || told == 0 {
			t.Errorf("half a minute after it has arrived the plan sees %d (want 50), told %d times", got, told)
		}
		if reads > 20 {
			t.Errorf("%d reads in five minutes", reads)
		}
		f.forgetCalls()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n := f.made(""); n != 0 {
			t.Errorf("%d calls after it has been seen: %v", n, f.calls)
		}
	})
}

// The newest intent was written after the lost one, and seen: the lost one may still replace it, so evidence says
// until when, and the listener is watched. When it has come, it has come.
func TestALateWriteIsExpectedBehindANewerOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.connect(t, cloud.Settings{})
		source := c.Evidence(webPods)
		believed(t, c)
		seen(t, source)
		until := func() time.Time {
			t.Helper()
			snapshot, err := source.Observe(t.Context(), webQuery, time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			return snapshot.UnansweredUntil
		}
		sent := time.Now()
		f.loseFor(t, c, time.Minute, split(50, 50))
		if err := c.ModifyRule(t.Context(), ruleARN, split(90, 10), nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Second)
		if weight, _ := seen(t, source); weight != 10 {
			t.Errorf("evidence shows %d, want the newest 10", weight)
		}
		if got, want := until(), sent.Add(7*time.Minute); got.Before(want) || got.After(want.Add(10*time.Second)) {
			t.Errorf("the lost write is expected until %s, want about %s", got, want)
		}
		time.Sleep(65 * time.Second)
		synctest.Wait()
		if got := believed(t, c); got != 50 {
			t.Errorf("after it has arrived the plan sees %d, want 50", got)
		}
		if got := until(); !got.IsZero() {
			t.Errorf("it has arrived and is expected until %s", got)
		}
		if err := c.ModifyRule(t.Context(), ruleARN, split(90, 10), nil); err != nil {
			t.Fatal(err)
		}
		if got := until(); !got.IsZero() {
			t.Errorf("put right, and expected until %s once more", got)
		}
	})
}

func TestALostWriteIsNotExpectedForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.connect(t, cloud.Settings{})
		source := c.Evidence(webPods)
		believed(t, c)
		seen(t, source)
		f.loseFor(t, c, 24*time.Hour, split(50, 50))
		time.Sleep(7*time.Minute + 15*time.Second)
		synctest.Wait()
		f.forgetCalls()
		snapshot, err := source.Observe(t.Context(), webQuery, time.Time{})
		if err != nil || !snapshot.UnansweredUntil.IsZero() {
			t.Errorf("it is still expected until %s: %v", snapshot.UnansweredUntil, err)
		}
		time.Sleep(time.Hour)
		if n := f.made("DescribeRules"); n != 0 {
			t.Errorf("%d looks for a write that can come no more", n)
		}
	})
}

// The same weight sent twice does no harm by coming late: nothing waits for it.
func TestALateWriteOfWhatIsWantedIsHarmless(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.connect(t, cloud.Settings{})
		source := c.Evidence(webPods)
		believed(t, c)
		f.loseFor(t, c, time.Minute, split(50, 50))
		if err := c.ModifyRule(t.Context(), ruleARN, split(50, 50), nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		f.forgetCalls()
		snapshot, err := source.Observe(t.Context(), webQuery, time.Time{})
		if err != nil || !snapshot.UnansweredUntil.IsZero() {
			t.Errorf("expected until %s: %v", snapshot.UnansweredUntil, err)
		}
		time.Sleep(2 * time.Minute)
		if n := f.made("DescribeRules"); n != 0 {
			t.Errorf("%d looks for a write that changes nothing", n)
		}
		// It may have come, or come yet: with another weight wanted, it matters again.
		if err := c.ModifyRule(t.Context(), ruleARN, split(0, 100), nil); err != nil {
			t.Fatal(err)
		}
		snapshot, err = source.Observe(t.Context(), webQuery, time.Time{})
		if err != nil || snapshot.UnansweredUntil.IsZero() {
			t.Errorf("the lost write of another weight is not expected: %v", err)
		}
	})
}

// Who takes over does not know what its predecessor has sent: what somebody is about to act on is looked at.
func TestAPredecessorsLateCallIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.connect(t, cloud.Settings{})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- c.Start(ctx) }()
		defer func() { cancel(); <-ended }()
		believed(t, c)
		source := c.Evidence(webPods)
		if _, err := source.Observe(t.Context(), webQuery, time.Now()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Minute)
		f.set(func(f *fake) { f.weights = map[string]int{stableARN: 50, canaryARN: 50} })
		time.Sleep(35 * time.Second)
		synctest.Wait()
		if got := believed(t, c); got != 50 {
			t.Errorf("half a minute after the predecessor's call has arrived the plan sees %d, want 50", got)
		}
	})
}

// While a predecessor's calls may arrive, a weight costs no more reads than it does otherwise.
func TestWeightsCostOneReadEachAfterATakeOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.connect(t, cloud.Settings{})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- c.Start(ctx) }()
		defer func() { cancel(); <-ended }()
		believed(t, c)
		source := c.Evidence(webPods)
		if _, err := source.Observe(t.Context(), webQuery, time.Now()); err != nil {
			t.Fatal(err)
		}
		f.forgetCalls()
		for i := range int32(10) {
			if err := c.ModifyRule(t.Context(), ruleARN, split(90-i, 10+i), nil); err != nil {
				t.Fatal(err)
			}
			if i%2 == 0 { // a rollout may be faster to look than the mirror
				seen(t, source)
			}
			time.Sleep(3 * time.Second)
		}
		synctest.Wait()
		if n := f.made("DescribeRules"); n != 10 {
			t.Errorf("%d reads for 10 weights", n)
		}
		f.forgetCalls()
		f.set(func(f *fake) { f.staleReads = 1 })
		if err := c.ModifyRule(t.Context(), ruleARN, split(50, 50), nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond) // the first read shows the past; then a rollout asks for a fresh one
		if _, err := source.Observe(t.Context(), webQuery, time.Now()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if n := f.made("DescribeRules"); n != 2 {
			t.Errorf("%d reads for a weight that the first does not show", n)
		}
	})
}

// Law 5: what has been written is seen at once, though a look for what may never come hangs.
func TestAWeightDoesNotWaitForALateLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.connect(t, cloud.Settings{})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- c.Start(ctx) }()
		defer func() { cancel(); <-ended }()
		believed(t, c)
		if _, err := c.Evidence(webPods).Observe(t.Context(), webQuery, time.Now()); err != nil {
			t.Fatal(err)
		}
		f.forgetCalls()
		f.set(func(f *fake) { f.latency["DescribeRules"] = 9 * time.Second })
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if n := f.made("DescribeRules"); n != 1 {
			t.Fatalf("%d looks for what a predecessor may have sent, want 1 under way", n)
		}
		f.set(func(f *fake) { delete(f.latency, "DescribeRules") })
		told := make(chan time.Time, 10)
		defer c.Subscribe(func(change cloud.Change) {
			if change.Kind == cloud.ChangeTraffic {
				told <- time.Now()
			}
		})()
		wrote := time.Now()
		if err := c.ModifyRule(t.Context(), ruleARN, split(50, 50), nil); err != nil {
			t.Fatal(err)
		}
		if waited := (<-told).Sub(wrote); waited > time.Second {
			t.Errorf("the weight was seen after %s", waited)
		}
		if n := f.made("DescribeRules"); n != 2 {
			t.Errorf("%d reads, want that of the weight beside the one that was given up", n)
		}
		time.Sleep(9 * time.Second) // the fake ends its answer to it
	})
}

// The end of the time in which a lost write may arrive is found out by a read. When AWS refuses that, it is asked
// again now and then.
func TestALostWriteIsLookedForInPeace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.connect(t, cloud.Settings{})
		believed(t, c)
		f.loseFor(t, c, 24*time.Hour, split(50, 50))
		time.Sleep(6 * time.Minute)
		synctest.Wait()
		f.forgetCalls()
		f.set(func(f *fake) { f.failing["DescribeRules"] = "AccessDenied" })
		time.Sleep(4 * time.Minute)
		synctest.Wait()
		if n := f.made("DescribeRules"); n < 10 || n > 60 {
			t.Errorf("%d reads that are refused in four minutes", n)
		}
		f.set(func(f *fake) { delete(f.failing, "DescribeRules") })
		time.Sleep(10 * time.Second)
		synctest.Wait()
		f.forgetCalls()
		time.Sleep(time.Hour)
		if n := f.made("DescribeRules"); n != 0 {
			t.Errorf("%d looks for a write that can come no more", n)
		}
	})
}

// A registration or deregistration whose answer was lost may undo, minutes later, what was written after it; by
// then nobody may be waiting for the group's targets any more.
func TestALateDeregistrationIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.connect(t, cloud.Settings{})
		f.set(func(f *fake) { f.lose["RegisterTargets"] = true })
		if err := c.RegisterTargets(t.Context(), canaryARN, []model.Target{{ID: "10.0.0.3", Port: 8080}}); !errors.Is(err, cloud.ErrUnavailable) {
			t.Fatalf("the write gives %v, want ErrUnavailable", err)
		}
		time.Sleep(4 * time.Minute)
		synctest.Wait()
		told := 0
		defer c.Subscribe(func(change cloud.Change) {
			if change.TargetGroupARN == canaryARN && change.Kind == cloud.ChangeTargets {
				told++
			}
		})()
		f.set(func(f *fake) { f.targets[canaryARN]["10.0.0.2"] = "draining" })
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if told == 0 {
			t.Error("nobody is told that a target is leaving")
		}
		time.Sleep(5 * time.Minute)
		f.forgetCalls()
		time.Sleep(time.Hour)
		if n := f.made(""); n != 0 {
			t.Errorf("%d calls an hour later: %v", n, f.calls[:1])
		}
	})
}

// Law 4: an answer may be older than the last write. That is known of our own writes, and must be expected of those
// that a predecessor made right before it ended.
func TestEvidenceTellsHowLongItMayBeOutdated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.connect(t, cloud.Settings{StaleWindow: time.Minute})
		source := c.Evidence(webPods)
		outdated := func(what string, want time.Time) {
			t.Helper()
			snapshot, err := source.Observe(t.Context(), webQuery, time.Time{})
			if err != nil || !snapshot.OutdatedUntil.Equal(want) {
				t.Errorf("%s: answers may be outdated until %s, want %s (%v)", what, snapshot.OutdatedUntil, want, err)
			}
		}
		believed(t, c)
		outdated("nobody writes here", time.Time{})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		tookOver := time.Now()
		go func() { ended <- c.Start(ctx) }()
		defer func() { cancel(); <-ended }()
		synctest.Wait()
		outdated("a predecessor has just ended", tookOver.Add(time.Minute))
		time.Sleep(10 * time.Second)
		f.set(func(f *fake) { f.staleReads = 1 })
		if err := c.ModifyRule(t.Context(), ruleARN, split(50, 50), nil); err != nil {
			t.Fatal(err)
		}
		wrote := time.Now()
		outdated("the answer does not show our write", wrote.Add(time.Minute))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		outdated("it shows our write", time.Time{})
	})
}

// Where another controller writes the weights, none of our predecessors has, so a start of ours makes no answer doubtful.
func TestEvidenceOfOthersIsNotOutdatedByOurStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.connectAs(t, cloud.Config{ClusterName: "lockstep", EvidenceCluster: "*"})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- c.Start(ctx) }()
		defer func() { cancel(); <-ended }()
		synctest.Wait()
		snapshot, err := c.Evidence(webPods).Observe(t.Context(), webQuery, time.Time{})
		if err != nil || len(snapshot.Placements) == 0 || !snapshot.OutdatedUntil.IsZero() {
			t.Errorf("%d placements, answers may be outdated until %s (%v)", len(snapshot.Placements), snapshot.OutdatedUntil, err)
		}
	})
}
