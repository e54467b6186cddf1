package cloud_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/cloud"
)

func TestTargetsAreWatched(t *testing.T) {
	synctest.Test(t, testTargetsAreWatched)
}

func testTargetsAreWatched(t *testing.T) {
	a := virtualAccount(t)
	c := a.connect(t, cloud.Settings{HealthFast: 10 * time.Millisecond, HealthSlow: 100 * time.Millisecond})
	w := create(t, c)
	told := make(chan cloud.Change, 100)
	defer c.Subscribe(func(change cloud.Change) {
		if change.Kind == cloud.ChangeTargets {
			told <- change
		}
	})()
	c.WatchTargets(w.stable, true)
	<-told
	health, seenAt, err := c.TargetHealth(t.Context(), w.stable, time.Time{})
	if err != nil || len(health) != 2 || seenAt.IsZero() {
		t.Fatalf("%v at %s, %v", health, seenAt, err)
	}
	wrote := time.Now()
	check(t, c.DeregisterTargets(t.Context(), w.stable, []model.Target{{ID: "10.78.0.10", Port: 8080}}))
	health, seenAt, err = c.TargetHealth(t.Context(), w.stable, time.Time{})
	if err != nil || seenAt.Before(wrote) {
		t.Errorf("after a write the health is from %s: %v", seenAt, err)
	}
	eventually(t, "the target is gone", func() bool {
		<-told
		health, _, _ = c.TargetHealth(t.Context(), w.stable, time.Time{})
		return !slices.ContainsFunc(health, func(t model.TargetHealth) bool { return t.ID == "10.78.0.10" && t.State == "healthy" }) && len(health) <= 2
	})
	now := time.Now()
	if _, seenAt, err = c.TargetHealth(t.Context(), w.stable, now); err != nil || seenAt.Before(now) {
		t.Errorf("asked for %s or later, got %s: %v", now, seenAt, err)
	}
	c.WatchTargets(w.stable, false)
	time.Sleep(time.Second)
	synctest.Wait()
	before := a.calls("DescribeTargetHealth")
	time.Sleep(time.Hour)
	if n := a.calls("DescribeTargetHealth") - before; n != 0 {
		t.Errorf("%d reads of what nobody watches", n)
	}
}

// A plan is made with what was sent, though no read has shown it yet.
func TestTargetsThatAreToLeaveAreNoHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := virtualAccount(t)
		c := a.connect(t, cloud.Settings{})
		w := create(t, c)
		states := func() map[string]string {
			out := map[string]string{}
			for _, group := range must(c.Stack(t.Context(), stackID))(t).TargetGroups {
				for _, health := range group.Targets {
					if group.ARN == w.stable {
						out[health.ID] = health.State
					}
				}
			}
			return out
		}
		read := func() {
			t.Helper()
			if health, _, err := c.TargetHealth(t.Context(), w.stable, time.Now()); err != nil || len(health) != 2 {
				t.Fatal(health, err)
			}
		}
		read()
		reads := a.calls("DescribeTargetHealth")
		leaving := []model.Target{{ID: "10.78.0.10", Port: 8080}}
		check(t, c.DeregisterTargets(t.Context(), w.stable, leaving))
		got := states()
		if got["10.78.0.10"] != "draining" || len(got) != 2 {
			t.Errorf("after the deregistration was sent the targets are %v", got)
		}
		if n := a.calls("DescribeTargetHealth") - reads; n != 0 {
			t.Fatalf("%d reads in between, which show it anyway", n)
		}
		check(t, c.RegisterTargets(t.Context(), w.stable, leaving))
		if got := states(); got["10.78.0.10"] != "draining" {
			t.Errorf("registered again, but not read again, the targets are %v", got)
		}
		read()
		if got := states(); got["10.78.0.10"] != "initial" {
			t.Errorf("AWS's own word does not count again: %v", got)
		}
	})
}

// Who is about to raise a share asks while other calls are on their way.
func TestTargetsThatAreOnTheirWayOutAreNotHealthy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.connect(t, cloud.Settings{})
		believed(t, c)
		read := func(notBefore time.Time) {
			t.Helper()
			_, _, err := c.TargetHealth(t.Context(), stableARN, notBefore)
			check(t, err)
		}
		read(time.Time{})
		if n := c.HealthyTargets(stableARN); n != 1 {
			t.Errorf("%d targets are healthy, want 1", n)
		}
		f.set(func(f *fake) { f.latency["DeregisterTargets"] = time.Second })
		answered := make(chan error)
		go func() {
			answered <- c.DeregisterTargets(t.Context(), stableARN, []model.Target{{ID: "10.0.0.1", Port: 8080}})
		}()
		synctest.Wait()
		if n, calls := c.HealthyTargets(stableARN), f.made("DeregisterTargets"); n != 0 || calls != 1 {
			t.Errorf("with %d deregistrations on their way %d targets are healthy, want 0", calls, n)
		}
		<-answered // the fake refuses it
		read(time.Now())
		if n := c.HealthyTargets(stableARN); n != 1 {
			t.Errorf("it was refused, and %d targets are healthy by the next read, want 1", n)
		}
	})
}
