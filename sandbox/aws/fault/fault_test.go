package fault_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/fault"
)

func TestAFaultThatCannotBeSaysWhy(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for says, f := range map[string]fault.Fault{
		"no fault of kind":                {Kind: "flood"},
		"needs a delay":                   {Kind: fault.Stale},
		"takes no delay":                  {Kind: fault.Throttle, Delay: 1},
		"ends before it begins":           {Kind: fault.Deny, From: now, Until: now.Add(-1)},
		"does not look at calls":          {Kind: fault.Stuck, Operations: []string{"ec2:*"}},
		"have no zone":                    {Kind: fault.Throttle, Zone: "eu-west-1a"},
		"needs a zone":                    {Kind: fault.Zone},
		"leave the resource out":          {Kind: fault.Zone, Zone: "eu-west-1a", Resource: "x"},
		"needs the name of a node":        {Kind: fault.Node},
		"status from 400":                 {Kind: fault.Error, Status: 200},
		"leave status":                    {Kind: fault.Throttle, Status: 500},
		`"DescribeRules" is no pattern`:   {Kind: fault.Throttle, Operations: []string{"DescribeRules"}},
		`"ec2:[" is no pattern`:           {Kind: fault.Throttle, Operations: []string{"ec2:["}},
		"every call of a negative number": {Kind: fault.Throttle, Every: -1},
	} {
		if err := f.Validate(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
}

func TestAFaultHitsWhatItsFilterSaysAndNothingElse(t *testing.T) {
	t.Parallel()
	s := fault.NewSet()
	add(t, s, fault.Fault{Kind: fault.Throttle, Operations: []string{"elasticloadbalancing:Modify*"}, Caller: "rollouts", Resource: "targetgroup/api"})
	hit := fault.Call{
		Service: "elasticloadbalancing", Operation: "ModifyRule", UserAgent: "argo-rollouts/1.8",
		Parameters: map[string]string{"Actions.member.1.TargetGroupArn": "arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/api/1"},
	}
	if e := s.Strike(hit); e.Error == nil || e.Error.Code != "Throttling" {
		t.Errorf("not hit: %+v", e)
	}
	for what, change := range map[string]func(*fault.Call){
		"another operation": func(c *fault.Call) { c.Operation = "DescribeRules" },
		"another service":   func(c *fault.Call) { c.Service = "ec2" },
		"another caller":    func(c *fault.Call) { c.UserAgent = "kubectl" },
		"another resource":  func(c *fault.Call) { c.Parameters = map[string]string{"x": "targetgroup/web"} },
	} {
		other := hit
		change(&other)
		if e := s.Strike(other); e.Error != nil {
			t.Errorf("%s is hit: %v", what, e.Error)
		}
	}
}

func TestFaultsOfTheDataPlaneWorkInTheirPlaceAndTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := fault.NewSet()
		start := time.Now()
		if !s.Quiet() {
			t.Error("an empty set is not quiet")
		}
		stuck := add(t, s, fault.Fault{Kind: fault.Stuck, Zone: "a", Resource: "app/web", From: start.Add(time.Minute), Until: start.Add(2 * time.Minute)})
		add(t, s, fault.Fault{Kind: fault.Unhealthy, Resource: "10.1.0.7"})
		add(t, s, fault.Fault{Kind: fault.Zone, Zone: "c", Until: start.Add(3 * time.Minute)})
		add(t, s, fault.Fault{Kind: fault.Node, Resource: "node-1", From: start.Add(4 * time.Minute)})
		target := func(name string) func() []string { return func() []string { return []string{name} } }

		if s.Holds("a", "arn/app/web/1") != 0 {
			t.Error("stuck before its time")
		}
		if !s.Sickens("b", target("10.1.0.7:80")) || s.Sickens("b", target("10.1.0.8:80")) {
			t.Error("the wrong targets are unhealthy")
		}
		if !s.Loses("c") || s.Loses("a") || s.Loses("") {
			t.Error("the wrong zones are gone")
		}
		zones, nodes, until := s.Failed()
		if len(zones) != 1 || len(nodes) != 0 || !until.Equal(start.Add(3*time.Minute)) {
			t.Errorf("failed: %v, %v until %v", zones, nodes, until)
		}
		time.Sleep(time.Minute)
		if s.Holds("a", "arn/app/web/1") == 0 || s.Holds("b", "arn/app/web/1") != 0 || s.Holds("a", "arn/app/api/1") != 0 {
			t.Error("the wrong nodes are stuck")
		}
		time.Sleep(3 * time.Minute)
		zones, nodes, until = s.Failed()
		if s.Holds("a", "arn/app/web/1") != 0 || s.Loses("c") || len(zones) != 0 || len(nodes) != 1 || !until.IsZero() {
			t.Errorf("after their time: zones %v, nodes %v, %v", zones, nodes, until)
		}
		changed := s.Changed()
		s.Remove(stuck)
		<-changed
		s.Clear()
		if !s.Quiet() {
			t.Error("a cleared set is not quiet")
		}
	})
}

func add(t *testing.T, s *fault.Set, f fault.Fault) string {
	t.Helper()
	id, err := s.Add(f)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// A cluster that takes over the faults of its account sees none of them stop working when another comes.
func TestAFaultThatStaysNeverStopsWorking(t *testing.T) {
	t.Parallel()
	s := fault.NewSet()
	stays, comes := fault.Fault{ID: "1", Kind: fault.Node, Resource: "node-1"}, fault.Fault{ID: "2", Kind: fault.Zone, Zone: "a"}
	if err := s.Replace([]fault.Fault{stays}); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 1000 {
			if err := s.Replace([]fault.Fault{stays, comes}); err != nil {
				t.Error(err)
			}
		}
	}()
	for looking := true; looking; {
		select {
		case <-done:
			looking = false
		default:
		}
		if _, nodes, _ := s.Failed(); len(nodes) != 1 {
			t.Fatalf("the machine is back: %v", nodes)
		}
	}
	if !s.Loses("a") || s.Quiet() {
		t.Error("the new fault does not work")
	}
	if err := s.Replace([]fault.Fault{comes, {ID: "3", Kind: "flood"}}); err == nil || !strings.Contains(err.Error(), "fault 3") {
		t.Errorf("a fault that cannot be: %v", err)
	}
	if _, nodes, _ := s.Failed(); len(nodes) != 0 || len(s.List()) != 1 {
		t.Errorf("left: %v", s.List())
	}
}
