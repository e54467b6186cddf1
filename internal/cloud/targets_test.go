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
