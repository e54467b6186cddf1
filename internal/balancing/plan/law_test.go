package plan

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
)

// weightsOf reads "s=90 k=10" into a forward.
func weightsOf(text string) []model.Action {
	f := &model.Forward{}
	for word := range strings.FieldsSeq(text) {
		name, weight, _ := strings.Cut(word, "=")
		var w int32
		if _, err := fmt.Sscan(weight, &w); err != nil {
			panic(err)
		}
		f.TargetGroups = append(f.TargetGroups, model.WeightedTargetGroup{ARN: name, Weight: w})
	}
	return []model.Action{{Type: model.ActionForward, Forward: f}}
}

func TestLaw1(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name       string
		live, want string
		healthy    string // groups with a healthy target; the others have none, those with ? have not been read, with ! some seconds ago
		safe       string
		reads      string
	}{
		{"a healthy canary rises", "s=100 k=0", "s=90 k=10", "s k", "s=90 k=10", ""},
		{"an unhealthy one does not", "s=100 k=0", "s=90 k=10", "s", "s=100 k=0", ""},
		{"one that has not been read does not", "s=100 k=0", "s=90 k=10", "s k?", "s=100 k=0", "k"},
		{"a healthy one needs no read of the others", "s=100 k=0", "s=90 k=10", "s? k", "s=90 k=10", ""},
		{"nobody is healthy: first deployment", "s=100 k=0", "s=90 k=10", "", "s=90 k=10", ""},
		{"perhaps somebody is: not before it is known", "s=100 k=0", "s=90 k=10", "s?", "s=100 k=0", "s"},
		{"nobody was healthy some seconds ago: not before it is known to be so still", "s=100 k=0", "s=90 k=10", "s!", "s=100 k=0", "s"},
		{"somebody serves: the others need not be read", "s=50 k=50 p=0", "s=50 k=0 p=50", "s k!", "s=50 k=50 p=0", ""},
		{"an abort returns to a healthy stable", "s=50 k=50", "s=100 k=0", "s k", "s=100 k=0", ""},
		{"an abort returns from a dead canary", "s=50 k=50", "s=100 k=0", "s", "s=100 k=0", ""},
		{"a return to a dead stable is held", "s=50 k=50", "s=100 k=0", "k", "s=50 k=50", ""},
		{"the same share in other numbers", "s=50 k=50", "s=1 k=1", "", "s=1 k=1", ""},
		{"a new group joins without share", "s=1", "s=90 k=10", "s", "s=1 k=0", ""},
		{"a group is exchanged when the new one is healthy", "s=1", "k=1", "s k", "k=1", ""},
		{"before that it is only attached", "s=1", "k=1", "s", "k=0 s=1", ""},
		{"only the healthy part moves", "s=100 k=0 p=0", "s=70 k=10 p=20", "s k", "s=90 k=10 p=0", ""},
		{"what is held stays with the healthy", "s=50 d=50 k=0 p=0", "s=20 d=20 k=30 p=30", "s k", "s=50 d=20 k=30 p=0", ""},
		{"a group at 0 that is not wanted goes at once", "s=100 d=0", "s=90 k=10", "s", "s=100 k=0", ""},
		{"nothing has a share: the healthy one gets it", "s=0 k=0", "s=50 k=50", "s", "s=50 k=0", ""},
		{"a lone group gets all, so a held one is never alone", "s=0 d=0", "k=1", "s", "k=0 s=0 d=0", ""},
		{"all the way down is what was asked for", "s=100 k=0", "s=0 k=0", "s", "s=0 k=0", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &situation{state: State{Now: now, HealthAge: time.Minute, Health: map[string]Health{}}}
			for _, g := range []string{"s", "k", "p", "d"} {
				s.state.Health[g] = Health{Total: 1, SeenAt: now}
			}
			for g := range strings.FieldsSeq(c.healthy) {
				if name, late := strings.CutSuffix(g, "!"); late {
					s.state.Health[name] = Health{Total: 1, SeenAt: now.Add(-5 * time.Second)}
				} else if name, unread := strings.CutSuffix(g, "?"); unread {
					s.state.Health[name] = Health{Healthy: 1, Total: 1, SeenAt: now.Add(-time.Hour)}
				} else {
					s.state.Health[g] = Health{Healthy: 1, Total: 1, SeenAt: now}
				}
			}
			got := s.law1("rule", weightsOf(c.live), weightsOf(c.want))
			if text := strings.TrimPrefix(actionsText(got), "forward "); text != c.safe {
				t.Errorf("safe is %q, want %q", text, c.safe)
			}
			if reads := strings.Join(slices.Compact(s.out.Reads), " "); reads != c.reads {
				t.Errorf("reads %q, want %q", reads, c.reads)
			}
			held := c.safe != c.want
			if (len(s.out.Waits) > 0) != held {
				t.Errorf("waits %v", s.out.Waits)
			}
			// What is safe now is all that is safe: asking again changes nothing.
			if again := s.law1("rule", got, weightsOf(c.want)); !sameActions(again, got) {
				t.Errorf("then %s", actionsText(again))
			}
		})
	}
}

// What a raise relies on is asked once more before it is sent; what nobody relied on is not.
func TestARaiseNamesTheGroupsThatItReliesOn(t *testing.T) {
	for _, c := range []struct{ why, live, now, healthy, raised string }{
		{"it rises", "s=100 k=0", "s=90 k=10", "s k", "k"},
		{"one falls, the other rises", "s=50 k=50", "s=100 k=0", "s k", "s"},
		{"several rise", "s=100 k=0 p=0", "s=70 k=10 p=20", "s k p", "k p"},
		{"it is exchanged", "s=1", "k=1", "s k", "k"},
		{"it is only attached", "s=1", "s=1 k=0", "s k", ""},
		{"the same share in other numbers", "s=50 k=50", "s=1 k=1", "s k", ""},
		{"nobody is healthy: the law lets it rise", "s=100 k=0", "s=90 k=10", "", ""},
		{"nothing had a share", "s=0 k=0", "s=50 k=0", "s k", "s"},
	} {
		s := &situation{state: State{Health: map[string]Health{}}}
		for g := range strings.FieldsSeq(c.healthy) {
			s.state.Health[g] = Health{Healthy: 1, Total: 1}
		}
		if got := strings.Join(s.raised(weightsOf(c.live), weightsOf(c.now)), " "); got != c.raised {
			t.Errorf("%s: relies on %q, want %q", c.why, got, c.raised)
		}
	}
}

func TestSameActions(t *testing.T) {
	redirect := func(r model.Redirect) []model.Action {
		return []model.Action{{Type: model.ActionRedirect, Redirect: &r}}
	}
	sticky := weightsOf("a=1 b=2")
	sticky[0].Forward.Stickiness = time.Minute
	for _, c := range []struct {
		why  string
		a, b []model.Action
		same bool
	}{
		{"the order of groups has no meaning", weightsOf("a=1 b=2"), weightsOf("b=2 a=1"), true},
		{"the weight of a lone group has none", weightsOf("a=1"), weightsOf("a=100"), true},
		{"weights have", weightsOf("a=1 b=2"), weightsOf("a=2 b=1"), false},
		{"the same share in other numbers is another annotation", weightsOf("a=1 b=1"), weightsOf("a=50 b=50"), false},
		{"stickiness has", weightsOf("a=1 b=2"), sticky, false},
		{"an unset redirect field is its placeholder", redirect(model.Redirect{StatusCode: "HTTP_301"}),
			redirect(model.Redirect{Protocol: "#{protocol}", Host: "#{host}", Port: "#{port}", Path: "/#{path}", Query: "#{query}", StatusCode: "HTTP_301"}), true},
		{"the status has", redirect(model.Redirect{StatusCode: "HTTP_301"}), redirect(model.Redirect{StatusCode: "HTTP_302"}), false},
		{"another kind", weightsOf("a=1"), redirect(model.Redirect{StatusCode: "HTTP_301"}), false},
	} {
		if got := sameActions(c.a, c.b); got != c.same {
			t.Errorf("%s: %t", c.why, got)
		}
	}
}
