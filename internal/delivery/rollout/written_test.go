package rollout

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestACacheLagsUntilItShowsOurWriteOrForFiveSeconds(t *testing.T) {
	now := time.Unix(0, 0)
	w := written{now: func() time.Time { return now }}
	key := types.NamespacedName{Name: "shop"}
	at := func(version string) *appsv1.ReplicaSet {
		return &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{UID: "u", ResourceVersion: version}}
	}
	if w.lag(key, at("1")) {
		t.Error("lags without a write")
	}
	w.note(key, at("9"))
	if !w.lag(key, at("8")) || w.lag(types.NamespacedName{Name: "other"}, at("8")) {
		t.Error("an older version is taken for ours")
	}
	if w.lag(key, at("10")) || w.lag(key, at("8")) {
		t.Error("a version once seen lags again")
	}
	w.note(key, at("20"))
	now = now.Add(longestLag + 1)
	if w.lag(key, at("19")) {
		t.Error("an object that never comes holds the rollout up")
	}
}

// A status that was refused was decided on an object that somebody has changed since. Deciding on it again would
// repeat the other operations, such as the write of a split, for as long as the cache is behind.
func TestWhatWasRefusedIsNotDecidedOnAgain(t *testing.T) {
	w := written{now: func() time.Time { return time.Unix(0, 0) }}
	key := types.NamespacedName{Name: "shop"}
	at := func(version string) *appsv1.ReplicaSet {
		return &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{UID: "u", ResourceVersion: version}}
	}
	w.outdated(key, at("9"))
	if !w.lag(key, at("9")) {
		t.Error("the object is decided on again")
	}
	if w.lag(key, at("10")) {
		t.Error("the newer one is not")
	}
}
