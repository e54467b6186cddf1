package evidence_test

import (
	"testing"

	"github.com/lockstep-delivery/lockstep/internal/evidence"
)

func placement(weights map[string]int32) evidence.Placement {
	return evidence.Placement{Weights: weights}
}

// A weight is known only when all that holds the action says the same of it.
func TestAWeightIsWhatEveryPlacementSays(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		placements []evidence.Placement
		weight     int32
		known      bool
	}{
		"no placement: nothing is known":        {nil, 0, false},
		"one":                                   {[]evidence.Placement{placement(map[string]int32{"canary": 30, "stable": 70})}, 30, true},
		"one that does not name it gives it 0":  {[]evidence.Placement{placement(map[string]int32{"stable": 70})}, 0, true},
		"one that names nothing gives it 0":     {[]evidence.Placement{placement(nil)}, 0, true},
		"two agree":                             {[]evidence.Placement{placement(map[string]int32{"canary": 30, "stable": 70}), placement(map[string]int32{"canary": 30, "stable": 1})}, 30, true},
		"two differ":                            {[]evidence.Placement{placement(map[string]int32{"canary": 30}), placement(map[string]int32{"canary": 31})}, 0, false},
		"the last of three differs":             {[]evidence.Placement{placement(map[string]int32{"canary": 30}), placement(map[string]int32{"canary": 30}), placement(map[string]int32{"canary": 0})}, 0, false},
		"the second does not name it":           {[]evidence.Placement{placement(map[string]int32{"canary": 30}), placement(map[string]int32{"stable": 100})}, 0, false},
		"the first does not name it":            {[]evidence.Placement{placement(map[string]int32{"stable": 100}), placement(map[string]int32{"canary": 30})}, 0, false},
		"absent and 0 are the same to traffic":  {[]evidence.Placement{placement(map[string]int32{"stable": 100}), placement(map[string]int32{"canary": 0})}, 0, true},
		"another Service's weight is no answer": {[]evidence.Placement{placement(map[string]int32{"canary-2": 30})}, 0, true},
	} {
		weight, known := evidence.Snapshot{Placements: c.placements}.Weight("canary")
		if weight != c.weight || known != c.known {
			t.Errorf("%s: weight %d, known %v; want %d, %v", name, weight, known, c.weight, c.known)
		}
	}
}

func TestAGroupIsSeenOnlyIfItExists(t *testing.T) {
	t.Parallel()
	s := evidence.Snapshot{Groups: []evidence.Group{
		{Service: "stable", ARN: "arn:stable"},
		{Service: "canary"}, // asked for, but AWS has none
		{Service: "ping", ARN: ""},
		{Service: "ping", ARN: "arn:ping"},
	}}
	for service, arn := range map[string]string{"stable": "arn:stable", "canary": "", "ping": "arn:ping", "other": "", "": ""} {
		if g, seen := s.Group(service); g.ARN != arn || seen != (arn != "") {
			t.Errorf("Service %q: group %q, seen %v", service, g.ARN, seen)
		}
	}
	if _, seen := (evidence.Snapshot{}).Group("stable"); seen {
		t.Error("an empty snapshot has a group")
	}
}

// Each state in which a target can be, and whether it is live and healthy. What AWS may say in future is live: a target
// that may get requests must never be taken for gone.
func TestStatesOfTargets(t *testing.T) {
	t.Parallel()
	for state, want := range map[evidence.TargetState]struct{ live, healthy bool }{
		evidence.Initial:          {true, false},
		evidence.Healthy:          {true, true},
		evidence.Unhealthy:        {true, false},
		evidence.UnhealthyDrain:   {false, false},
		evidence.Draining:         {false, false},
		evidence.Unused:           {true, false},
		evidence.StateUnavailable: {true, false},
		"a state of tomorrow":     {true, false},
		"":                        {true, false},
	} {
		target := evidence.Target{PodTemplateHash: "a", State: state}
		if got := target.Live(); got != want.live {
			t.Errorf("%q: live is %v", state, got)
		}
		if got := (evidence.Group{Targets: []evidence.Target{target}}).Healthy("a") == 1; got != want.healthy {
			t.Errorf("%q: healthy is %v", state, got)
		}
	}
}

// One target group may hold pods of three versions at once, and addresses whose pod is gone.
func TestTargetsAreCountedByReplicaSet(t *testing.T) {
	t.Parallel()
	g := evidence.Group{Targets: []evidence.Target{
		{Address: "10.0.0.1:80", PodUID: "1", PodTemplateHash: "a", State: evidence.Healthy},
		{Address: "10.0.0.2:80", PodUID: "2", PodTemplateHash: "a", State: evidence.Unhealthy},
		{Address: "10.0.0.3:80", PodUID: "3", PodTemplateHash: "a", State: evidence.Draining},
		{Address: "10.0.0.4:80", PodUID: "4", PodTemplateHash: "b", State: evidence.Initial},
		{Address: "10.0.0.5:80", PodUID: "5", PodTemplateHash: "b", State: evidence.UnhealthyDrain},
		{Address: "10.0.0.6:80", PodUID: "6", PodTemplateHash: "c", State: evidence.Healthy},
		{Address: "10.0.0.7:80", State: evidence.Healthy},
		{Address: "10.0.0.8:80", State: evidence.Draining},
	}}
	for hash, want := range map[string]struct{ healthy, liveOthers, holding int }{
		"a": {1, 3, 3}, // others: one of b, one of c, and one whose pod is gone
		"b": {0, 4, 2},
		"c": {1, 4, 1},
		"d": {0, 5, 0},
	} {
		if n := g.Healthy(hash); n != want.healthy {
			t.Errorf("%s: %d healthy, want %d", hash, n, want.healthy)
		}
		if n := g.LiveOthers(hash); n != want.liveOthers {
			t.Errorf("%s: %d live others, want %d", hash, n, want.liveOthers)
		}
		if n := g.Holding(hash); n != want.holding {
			t.Errorf("%s: holding %d, want %d", hash, n, want.holding)
		}
	}
	if empty := (evidence.Group{}); empty.Healthy("a") != 0 || empty.LiveOthers("a") != 0 || empty.Holding("a") != 0 {
		t.Error("an empty group has targets")
	}
}
