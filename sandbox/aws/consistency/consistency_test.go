package consistency_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/consistency"
)

// seeds is how many random runs each profile has; LOCKSTEP_SEEDS asks for more.
func seeds(t *testing.T, few int) int {
	t.Helper()
	text := os.Getenv("LOCKSTEP_SEEDS")
	if text == "" {
		return few
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// virtual is a run of four programs with so many steps each, in virtual time: pause apart on average. What begin does comes before their
// first step.
func virtual(t *testing.T, profile string, seed uint64, steps int, pause time.Duration, change func(*aws.Config), begin ...func(*run)) (h *consistency.History) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRun(t, profile, func(c *aws.Config) {
			c.Seed = seed
			if change != nil {
				change(c)
			}
		})
		defer r.emulator.Close()
		r.furnish()
		r.active()
		for _, f := range begin {
			f(r)
		}
		r.work(4, seed, steps, pause)
		time.Sleep(10 * time.Minute) // longer than every lag
		synctest.Wait()
		h = r.history()
	})
	return h
}

// work lets programs work at the same time.
func (r *run) work(programs int, seed uint64, steps int, pause time.Duration) {
	var all sync.WaitGroup
	var atWork []*program
	for i := range programs {
		p := &program{
			run: r, api: r.connect(fmt.Sprint("program-", i)), random: rand.New(rand.NewPCG(seed, uint64(i))),
			mine: []string{r.mine(), r.mine()},
		}
		atWork = append(atWork, p)
	}
	r.started()
	for _, p := range atWork {
		all.Go(func() {
			for range steps {
				time.Sleep(time.Duration(p.random.Int64N(2 * int64(pause))))
				p.step(r.t.Context())
			}
		})
	}
	all.Wait()
}

// pod is the address of a new pod.
func (r *run) pod() string {
	r.t.Helper()
	r.mu.Lock()
	r.pods++
	name := fmt.Sprint("machine-", r.pods)
	r.mu.Unlock()
	machine, err := r.emulator.EC2().AddInstance("eu-west-1a", name)
	if err != nil {
		r.t.Fatal(err)
	}
	address, err := r.emulator.EC2().AssignPodAddress(machine.ID)
	if err != nil {
		r.t.Fatal(err)
	}
	return address.String()
}

// Whatever is called, in whatever order: what callers were answered and what nodes were told is what the claims allow.
func TestRandomRunsKeepTheClaims(t *testing.T) {
	for _, profile := range []string{"ideal", "typical", "pessimistic"} {
		t.Run(profile, func(t *testing.T) {
			t.Parallel()
			var sum tally
			for seed := range seeds(t, 3) {
				h := virtual(t, profile, uint64(seed), 150, time.Second, nil)
				for _, v := range consistency.Check(h) {
					t.Errorf("seed %d: %s", seed, v)
				}
				sum.add(h)
			}
			sum.want(t, "CreateListener", "ModifyListener", "DeleteListener", "CreateRule", "CreateRule PriorityInUse", "ModifyRule", "DeleteRule", "SetRulePriorities",
				"DescribeRules", "DescribeListeners", "CreateTargetGroup", "ModifyTargetGroup", "DeleteTargetGroup", "RegisterTargets", "DeregisterTargets")
			if profile != "ideal" {
				sum.want(t, "DescribeRules RuleNotFound", "ModifyRule RuleNotFound")
			}
		})
	}
}

// Network Load Balancers take their time, and take it in order too.
func TestNetworkRunsKeepTheClaims(t *testing.T) {
	for _, profile := range []string{"ideal", "typical", "pessimistic"} {
		t.Run(profile, func(t *testing.T) {
			t.Parallel()
			for seed := range seeds(t, 2) {
				h := network(t, profile, uint64(seed))
				for _, v := range consistency.Check(h) {
					t.Errorf("seed %d: %s", seed, v)
				}
				if len(h.Applied) < 100 || len(h.Accepted) < 50 {
					t.Errorf("seed %d: %d changes were accepted, nodes took %d", seed, len(h.Accepted), len(h.Applied))
				}
			}
		})
	}
}

func network(t *testing.T, profile string, seed uint64, begin ...func(*run)) *consistency.History {
	t.Helper()
	return virtual(t, profile, seed, 100, 5*time.Second, func(c *aws.Config) { c.WithoutTraffic = true }, begin...)
}

// A run in which calls come faster than buckets fill.
func TestThrottledRunsKeepTheClaims(t *testing.T) {
	t.Parallel()
	var sum tally
	for seed := range seeds(t, 2) {
		h := throttled(t, uint64(seed))
		for _, v := range consistency.Check(h) {
			t.Errorf("seed %d: %s", seed, v)
		}
		sum.add(h)
	}
	sum.want(t, "ModifyRule Throttling", "DescribeRules Throttling", "RegisterTargets Throttling", "CreateRule Throttling", "SetRulePriorities")
}

func throttled(t *testing.T, seed uint64) *consistency.History {
	return virtual(t, "typical", seed, 400, 150*time.Millisecond, func(c *aws.Config) { c.Unthrottled = false })
}

// tally counts what calls came to.
type tally struct {
	outcomes  map[string]int
	told, all int
}

func (s *tally) add(h *consistency.History) {
	if s.outcomes == nil {
		s.outcomes = map[string]int{}
	}
	for _, c := range h.Calls {
		s.outcomes[strings.TrimSpace(c.Operation+" "+c.Code)]++
	}
	s.all += len(h.Calls)
	s.told += len(h.Told) + len(h.Targets)
}

// want fails if it never came to something: then the runs prove nothing of it.
func (s *tally) want(t *testing.T, outcomes ...string) {
	t.Helper()
	for _, one := range outcomes {
		if s.outcomes[one] == 0 {
			t.Errorf("in no run did it come to %s: %v", one, s.outcomes)
		}
	}
	if s.told < 100 {
		t.Errorf("nodes were told only %d times", s.told)
	}
	t.Logf("%d calls, %d times a node was told", s.all, s.told)
}
