package cloud_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/cloud"
	"github.com/lockstep-delivery/lockstep/internal/evidence"
)

var webQuery = evidence.Query{Namespace: "shop", Ingress: "web", Action: "stable",
	Services: []evidence.ServicePort{{Service: "stable", Port: "80"}, {Service: "canary", Port: "80"}}}

type pods map[string][2]string

func (p pods) PodByAddress(_, ip string) (uid, hash string, ok bool) {
	found, ok := p[ip]
	return found[0], found[1], ok
}

var webPods = pods{"10.0.0.1": {"pod-1", "aaa"}, "10.0.0.2": {"pod-2", "bbb"}}

func split(stable, canary int32) []model.Action {
	return []model.Action{{Type: model.ActionForward, Forward: &model.Forward{TargetGroups: []model.WeightedTargetGroup{
		{ARN: canaryARN, Weight: canary}, {ARN: stableARN, Weight: stable}}}}}
}

// believed gives the weight of the canary as a plan would see it.
func believed(t *testing.T, c *cloud.Cloud) int32 {
	t.Helper()
	observed, err := c.Stack(t.Context(), "shop/web")
	if err != nil || !observed.Complete {
		t.Fatalf("the stack is not complete (%s): %v", observed.Missing, err)
	}
	for _, g := range observed.LoadBalancers[0].Listeners[0].Rules[0].Actions[0].Forward.TargetGroups {
		if g.ARN == canaryARN {
			return g.Weight
		}
	}
	t.Fatal("the rule does not forward to the canary")
	return 0
}

// seen gives the weight of the canary as evidence shows it, with what is known and no more.
func seen(t *testing.T, source evidence.Source) (int32, time.Time) {
	t.Helper()
	snapshot, err := source.Observe(t.Context(), webQuery, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	weight, ok := snapshot.Weight("canary")
	if !ok {
		t.Fatalf("no weight: %+v", snapshot)
	}
	return weight, snapshot.SeenAt
}

func TestAWeightChangeIsOneModifyAndAtMostTwoReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.connect(t, cloud.Settings{})
		source := c.Evidence(webPods)
		seen(t, source)
		believed(t, c)
		told := make(chan struct{}, 100)
		defer source.Subscribe(func(namespace, ingress string) {
			if namespace == "shop" && ingress == "web" {
				told <- struct{}{}
			}
		})()
		synctest.Wait()
		time.Sleep(500 * time.Millisecond) // between two polls of targets
		f.forgetCalls()

		wrote := time.Now()
		if err := c.ModifyRule(t.Context(), ruleARN, split(90, 10), nil); err != nil {
			t.Fatal(err)
		}
		if got := believed(t, c); got != 10 {
			t.Errorf("the plan sees weight %d after the write, want 10", got)
		}
		<-told
		weight, at := seen(t, source)
		if weight != 10 || at.Before(wrote) {
			t.Errorf("evidence shows weight %d from a read at %s, want 10 from one after %s", weight, at, wrote)
		}
		if n := f.made("Modify"); n != 1 {
			t.Errorf("%d calls of Modify*, want 1", n)
		}
		if n := f.made("Describe") - f.made("DescribeTargetHealth"); n < 1 || n > 2 {
			t.Errorf("%d reads for a weight change, want 1 or 2", n)
		}
		if n := f.made("DescribeTargetHealth"); n != 0 {
			t.Errorf("%d reads of health for a weight change, want 0", n)
		}
		if !strings.Contains(f.userAgent, "lockstep/v1") {
			t.Errorf("user agent %q does not name lockstep/v1", f.userAgent)
		}
	})
}

// AWS may answer a read with the old state for a while: a plan must not send the weight again, evidence must
// not claim what AWS does not say, and the read is repeated with growing pauses.
func TestAStaleReadDoesNotUndoAWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.connect(t, cloud.Settings{})
		source := c.Evidence(webPods)
		seen(t, source)
		believed(t, c)
		f.set(func(f *fake) { f.staleReads = 3 })
		f.forgetCalls()
		if err := c.ModifyRule(t.Context(), ruleARN, split(50, 50), nil); err != nil {
			t.Fatal(err)
		}
		if weight, _ := seen(t, source); weight != 0 {
			t.Errorf("evidence shows %d, want the 0 that AWS still says", weight)
		}
		if got := believed(t, c); got != 50 {
			t.Errorf("the plan sees %d, want the 50 that AWS has accepted", got)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if weight, _ := seen(t, source); weight != 50 {
			t.Errorf("evidence shows %d a second later, want 50", weight)
		}
		if n := f.made("DescribeRules"); n != 4 {
			t.Errorf("%d reads, want 4: three stale ones and a true one", n)
		}
	})
}

// What others have put back is drift once the window of stale reads is over; before, nobody can tell.
func TestAnOldStateIsBelievedWhenTheWindowIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.connect(t, cloud.Settings{StaleWindow: 30 * time.Second})
		believed(t, c)
		if err := c.ModifyRule(t.Context(), ruleARN, split(50, 50), nil); err != nil {
			t.Fatal(err)
		}
		f.set(func(f *fake) { f.weights = f.before }) // somebody reverts it
		changes := 0
		defer c.Subscribe(func(change cloud.Change) {
			if change.Kind == cloud.ChangeTraffic && change.StackID == "shop/web" {
				changes++
			}
		})()
		time.Sleep(25 * time.Second)
		if got := believed(t, c); got != 50 {
			t.Errorf("within the window the plan sees %d, want 50", got)
		}
		time.Sleep(15 * time.Second)
		synctest.Wait()
		if got := believed(t, c); got != 0 || changes == 0 {
			t.Errorf("after the window the plan sees %d (want 0), told %d times", got, changes)
		}
	})
}

// A read that was sent before a write and answered after it knows nothing of the write.
func TestAReadThatBeganBeforeAWriteIsDiscarded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.connect(t, cloud.Settings{})
		source := c.Evidence(webPods)
		seen(t, source)
		f.set(func(f *fake) { f.latency["DescribeRules"] = 2 * time.Second })
		time.Sleep(time.Millisecond)
		asked := time.Now()
		slow := make(chan evidence.Snapshot)
		go func() {
			snapshot, err := source.Observe(t.Context(), webQuery, asked)
			if err != nil {
				t.Error(err)
			}
			slow <- snapshot
		}()
		time.Sleep(time.Second) // the read has been answered inside AWS, with the old weights
		if err := c.ModifyRule(t.Context(), ruleARN, split(50, 50), nil); err != nil {
			t.Fatal(err)
		}
		wrote := time.Now()
		snapshot := <-slow
		if weight, _ := snapshot.Weight("canary"); weight != 50 || snapshot.SeenAt.Before(wrote) {
			t.Errorf("evidence shows %d from %s, want 50 from a read that began after the write at %s", weight, snapshot.SeenAt, wrote)
		}
	})
}

// When nobody knows whether a write happened, the next read decides, whatever it shows.
func TestAnUnansweredWriteIsDecidedByTheNextRead(t *testing.T) {
	for _, happened := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			c := f.connect(t, cloud.Settings{})
			believed(t, c)
			f.set(func(f *fake) { f.lose["ModifyRule"] = true })
			err := c.ModifyRule(t.Context(), ruleARN, split(50, 50), nil)
			if !errors.Is(err, cloud.ErrUnavailable) {
				t.Fatalf("the write gives %v, want ErrUnavailable", err)
			}
			if n := f.made("ModifyRule"); n != 1 {
				t.Errorf("the write was sent %d times: an old weight must not be sent late", n)
			}
			want := int32(50)
			if !happened {
				f.set(func(f *fake) { f.weights = f.before })
				want = 0
			}
			if got := believed(t, c); got != want {
				t.Errorf("the plan sees %d, want %d", got, want)
			}
		})
	}
}

func TestAWriteWithoutTokenIsBusyAndNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.connect(t, cloud.Settings{})
		believed(t, c)
		f.forgetCalls()
		var err error
		sent := 0
		for ; err == nil && sent < 100; sent++ {
			err = c.ModifyRule(t.Context(), ruleARN, split(100-int32(sent), int32(sent)), nil)
		}
		var busy *cloud.BusyError
		if !errors.As(err, &busy) || !errors.Is(err, cloud.ErrBusy) {
			t.Fatalf("after %d writes at one moment: %v, want a BusyError", sent, err)
		}
		if n := f.made("ModifyRule"); n != sent-1 || n != 18 {
			t.Errorf("%d writes were sent, want 18: nine tenths of AWS's burst", n)
		}
		again, ok := cloud.RetryAfter(err)
		if !ok || again <= 0 || again > time.Second {
			t.Errorf("come again in %s (%v), want within a second", again, ok)
		}
		time.Sleep(again)
		if err := c.ModifyRule(t.Context(), ruleARN, split(1, 2), nil); err != nil {
			t.Errorf("when the time has come: %v", err)
		}
	})
}

func TestEvidenceJoinsTargetsWithPods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.connect(t, cloud.Settings{})
		f.targets[canaryARN]["10.0.0.9"] = "draining"
		source := c.Evidence(webPods)
		asked := time.Now()
		snapshot, err := source.Observe(t.Context(), webQuery, asked)
		if err != nil {
			t.Fatal(err)
		}
		want := evidence.Snapshot{
			SeenAt:       asked,
			LoadBalancer: evidence.LoadBalancer{ARN: lbARN, DNSName: "web.elb", Active: true},
			Placements:   []evidence.Placement{{ARN: ruleARN, Weights: map[string]int32{"stable": 100, "canary": 0}}},
			Groups: []evidence.Group{
				{Service: "stable", ARN: stableARN, SeenAt: asked, Targets: []evidence.Target{{Address: "10.0.0.1:8080", PodUID: "pod-1", PodTemplateHash: "aaa", State: evidence.Healthy}}},
				{Service: "canary", ARN: canaryARN, SeenAt: asked, Targets: []evidence.Target{
					{Address: "10.0.0.2:8080", PodUID: "pod-2", PodTemplateHash: "bbb", State: evidence.Healthy},
					{Address: "10.0.0.9:8080", State: evidence.Draining}}},
			},
		}
		if diff := cmp.Diff(want, snapshot); diff != "" {
			t.Error(diff)
		}
		f.forgetCalls()
		if _, err := source.Observe(t.Context(), webQuery, time.Time{}); err != nil || f.made("") != 0 {
			t.Errorf("looking again made the calls %v: %v", f.calls, err)
		}
		time.Sleep(time.Millisecond)
		now := time.Now()
		snapshot, err = source.Observe(t.Context(), webQuery, now)
		if err != nil || snapshot.SeenAt.Before(now) || snapshot.Groups[1].SeenAt.Before(now) {
			t.Errorf("a fresh look is from %s and %s, want from %s on: %v", snapshot.SeenAt, snapshot.Groups[1].SeenAt, now, err)
		}
		if n := f.made(""); n != 4 {
			t.Errorf("a fresh look made %d calls, want 4: listeners, rules, two groups: %v", n, f.calls)
		}
	})
}

func TestEvidenceSaysWhatIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		source := f.connect(t, cloud.Settings{}).Evidence(webPods)
		query := webQuery
		query.Services = append(query.Services[:1:1], evidence.ServicePort{Service: "other", Port: "80"})
		snapshot, err := source.Observe(t.Context(), query, time.Time{})
		if err != nil || !strings.Contains(snapshot.Problem, "no target group carries the tag ingress.k8s.aws/resource of Service other, port 80") {
			t.Errorf("problem %q, error %v", snapshot.Problem, err)
		}
		if _, ok := snapshot.Group("other"); ok {
			t.Error("the missing group counts as seen")
		}
		query.Ingress = "absent"
		snapshot, err = source.Observe(t.Context(), query, time.Time{})
		if err != nil || snapshot.Problem != "" || snapshot.LoadBalancer.ARN != "" || snapshot.SeenAt.IsZero() {
			t.Errorf("an Ingress without load balancer gives %+v, %v", snapshot, err)
		}
	})
}

// With 1,000 load balancers the tags of everything take AWS half a minute. A weight does not wait for that.
func TestAWeightDoesNotWaitForTheListOfALargeAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.others = 1000
		for _, read := range []string{"DescribeLoadBalancers", "DescribeTargetGroups", "DescribeTags", "DescribeRules", "DescribeListeners", "DescribeTargetHealth"} {
			f.latency[read] = 50 * time.Millisecond
		}
		c := f.connect(t, cloud.Settings{})
		began := time.Now()
		told := make(chan struct{}, 100)
		defer c.Subscribe(func(change cloud.Change) {
			if change.StackID == "shop/web" && change.Kind == cloud.ChangeConfiguration {
				told <- struct{}{}
			}
		})()
		observed, err := c.Stack(t.Context(), "shop/web")
		if err != nil || len(observed.LoadBalancers) != 1 || len(observed.LoadBalancers[0].Listeners[0].Rules) != 1 || len(observed.TargetGroups) != 2 {
			t.Fatalf("%+v, %v", observed, err)
		}
		if observed.Complete || observed.Missing == "" {
			t.Errorf("complete %v (%s) before everything was listed", observed.Complete, observed.Missing)
		}
		known := time.Since(began)
		if err := c.ModifyRule(t.Context(), ruleARN, split(50, 50), nil); err != nil {
			t.Fatal(err)
		}
		if weight, _ := seen(t, c.Evidence(webPods)); weight != 50 {
			t.Errorf("evidence shows weight %d, want 50", weight)
		}
		saw := time.Since(began)
		for observed.Missing != "" {
			<-told
			if observed, err = c.Stack(t.Context(), "shop/web"); err != nil {
				t.Fatal(err)
			}
		}
		all := time.Since(began)
		t.Logf("1,000 load balancers, 2,000 target groups: the rule known after %s, its new weight seen after %s, everything listed after %s by %d calls",
			known, saw, all, f.made("Describe"))
		if known > 10*time.Second || saw > 10*time.Second || all > time.Minute || all < saw {
			t.Errorf("known after %s, seen after %s, complete after %s", known, saw, all)
		}
	})
}

// An endpoint on the same machine answers before the SDK has noticed that it sent everything: no answer may
// be lost to that.
func TestNoAnswerOfANearEndpointIsLost(t *testing.T) {
	f := newFake()
	f.others = 1000
	c := f.connect(t, cloud.Settings{CallMargin: 1000, ReadAttempts: 1})
	eventually(t, "everything is listed", func() bool {
		observed, err := c.Stack(t.Context(), "shop/web")
		if err != nil {
			t.Fatal(err)
		}
		return observed.Complete
	})
}
