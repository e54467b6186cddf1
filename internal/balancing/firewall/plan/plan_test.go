package plan

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
)

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func from(source string, low, high int32) model.Permission {
	return model.Permission{Protocol: "tcp", FromPort: low, ToPort: high, SourceGroupID: source, Description: Label}
}

func grant(group, source string, port int32) Grant {
	p := from(source, port, port)
	p.Description = ""
	return Grant{group, p}
}

func TestPlan(t *testing.T) {
	foreign := from("sg-lb", 22, 22)
	foreign.Description = "made by hand"
	inside := model.Permission{Protocol: "tcp", FromPort: 80, ToPort: 80, CIDR: "10.0.0.0/8", Description: Label}
	outside := model.Permission{Protocol: "tcp", FromPort: 80, ToPort: 80, CIDR: "192.168.0.0/16", Description: Label}
	tests := []struct {
		name      string
		snapshot  Snapshot
		authorize []model.Permission
		revoke    []model.Permission
		kept      []model.Permission
		held      bool
		waits     bool
	}{{
		name:      "a missing rule is authorised",
		snapshot:  Snapshot{Revocable: true, Grants: []Grant{grant("sg-pods", "sg-lb", 8080)}, Groups: []Group{{ID: "sg-pods", SeenAt: noon}}},
		authorize: []model.Permission{from("sg-lb", 8080, 8080)},
	}, {
		name: "ports from one source become one range, and the older range stays meanwhile",
		snapshot: Snapshot{Revocable: true, Grants: []Grant{grant("sg-pods", "sg-lb", 9090), grant("sg-pods", "sg-lb", 8080)},
			Groups: []Group{{ID: "sg-pods", SeenAt: noon, HeldSince: noon.Add(-time.Hour), Ingress: []model.Permission{from("sg-lb", 8080, 8080)}}}},
		authorize: []model.Permission{from("sg-lb", 8080, 9090)},
	}, {
		name: "an obsolete rule stays until the new one has had time to take effect",
		snapshot: Snapshot{Revocable: true, Grants: []Grant{grant("sg-pods", "sg-lb", 9090)},
			Groups: []Group{{ID: "sg-pods", SeenAt: noon, HeldSince: noon.Add(-5 * time.Second), Ingress: []model.Permission{from("sg-lb", 8080, 8080), from("sg-lb", 9090, 9090)}}}},
		held: true, waits: true,
	}, {
		name: "then it goes",
		snapshot: Snapshot{Revocable: true, Grants: []Grant{grant("sg-pods", "sg-lb", 9090)},
			Groups: []Group{{ID: "sg-pods", SeenAt: noon, HeldSince: noon.Add(-10 * time.Second), Ingress: []model.Permission{from("sg-lb", 8080, 8080), from("sg-lb", 9090, 9090)}}}},
		held: true, revoke: []model.Permission{from("sg-lb", 8080, 8080)},
	}, {
		name: "nothing is revoked before every binding is known",
		snapshot: Snapshot{Grants: []Grant{grant("sg-pods", "sg-lb", 9090)},
			Groups: []Group{{ID: "sg-pods", SeenAt: noon, HeldSince: noon.Add(-time.Hour), Ingress: []model.Permission{from("sg-lb", 8080, 8080), from("sg-lb", 9090, 9090)}}}},
		held: true,
	}, {
		name: "what a binding that cannot be served may need stays, and the rest goes",
		snapshot: Snapshot{Revocable: true, Grants: []Grant{grant("sg-pods", "sg-lb", 9090)}, Unheard: []model.Permission{from("sg-lb", 8080, 8080)},
			Groups: []Group{{ID: "sg-pods", SeenAt: noon, HeldSince: noon.Add(-time.Hour),
				Ingress: []model.Permission{from("sg-lb", 7070, 7070), from("sg-lb", 8000, 8100), from("sg-lb", 9090, 9090), from("sg-other", 8080, 8080)}}}},
		held: true, revoke: []model.Permission{from("sg-lb", 7070, 7070), from("sg-other", 8080, 8080)}, kept: []model.Permission{from("sg-lb", 8000, 8100)},
	}, {
		name: "what it may need is let in by another rule too",
		snapshot: Snapshot{Revocable: true, Grants: []Grant{grant("sg-pods", "sg-lb", 8000), grant("sg-pods", "sg-lb", 9090)}, Unheard: []model.Permission{from("sg-lb", 8080, 8080)},
			Groups: []Group{{ID: "sg-pods", SeenAt: noon, HeldSince: noon.Add(-time.Hour),
				Ingress: []model.Permission{from("sg-lb", 8080, 8080), from("sg-lb", 8000, 9090)}}}},
		held: true, revoke: []model.Permission{from("sg-lb", 8080, 8080)},
	}, {
		name: "a part of an address range may be what it needs",
		snapshot: Snapshot{Revocable: true, Unheard: []model.Permission{{Protocol: "tcp", FromPort: 0, ToPort: 65535, CIDR: "10.1.0.0/16"}},
			Groups: []Group{{ID: "sg-pods", SeenAt: noon, Ingress: []model.Permission{inside, outside}}}},
		held: true, revoke: []model.Permission{outside}, kept: []model.Permission{inside},
	}, {
		name: "nothing is revoked on the word of a read from before our last write",
		snapshot: Snapshot{Revocable: true, Grants: []Grant{grant("sg-pods", "sg-lb", 9090)},
			Groups: []Group{{ID: "sg-pods", SeenAt: noon, WrittenAt: noon, HeldSince: noon.Add(-time.Hour), Ingress: []model.Permission{from("sg-lb", 8080, 8080), from("sg-lb", 9090, 9090)}}}},
	}, {
		name: "rules that others made are neither revoked nor made twice",
		snapshot: Snapshot{Revocable: true, Grants: []Grant{grant("sg-pods", "sg-lb", 22)},
			Groups: []Group{{ID: "sg-pods", SeenAt: noon, HeldSince: noon.Add(-time.Hour), Ingress: []model.Permission{foreign}}}},
		held: true,
	}, {
		name:     "a group that no binding needs any more loses our rules at once",
		snapshot: Snapshot{Revocable: true, Groups: []Group{{ID: "sg-pods", SeenAt: noon, Ingress: []model.Permission{from("sg-lb", 8080, 8080), foreign}}}},
		held:     true, revoke: []model.Permission{from("sg-lb", 8080, 8080)},
	}}
	for _, test := range tests {
		t.Run(strings.ReplaceAll(test.name, " ", "_"), func(t *testing.T) {
			test.snapshot.Settle = 10 * time.Second
			got := Plan(test.snapshot)
			want := []Change{{GroupID: "sg-pods", Authorize: test.authorize, Revoke: test.revoke, Held: test.held, Waits: test.waits, Kept: test.kept}}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOwnedReadsPairs(t *testing.T) {
	for description, want := range map[string]bool{
		Label: true, "team=a, " + Label: true, "": false, Label + "d": false, "kubernetes.io/rule=nlb": false,
	} {
		if got := Owned(model.Permission{Description: description}); got != want {
			t.Errorf("%q is owned: %v, want %v", description, got, want)
		}
	}
}

// allowed says whether one of the rules lets a grant's traffic in.
func allowed(rules []model.Permission, g Grant) bool {
	for _, p := range rules {
		if p.Protocol == g.Protocol && p.SourceGroupID == g.SourceGroupID && p.CIDR == g.CIDR && p.FromPort <= g.FromPort && g.ToPort <= p.ToPort {
			return true
		}
	}
	return false
}

// However wishes change, traffic that was let in and is still wanted stays let in at every moment, and in
// the end the group holds exactly what is wanted.
func TestWantedTrafficIsNeverInterrupted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		group := Group{ID: "sg-pods", SeenAt: noon}
		var wanted []Grant
		now := noon
		for range rapid.IntRange(1, 6).Draw(t, "wishes") {
			before := wanted
			wanted = nil
			for range rapid.IntRange(0, 4).Draw(t, "grants") {
				wanted = append(wanted, grant("sg-pods", fmt.Sprintf("sg-%d", rapid.IntRange(0, 1).Draw(t, "source")), rapid.Int32Range(1, 9).Draw(t, "port")))
			}
			group.HeldSince = time.Time{}
			for range 5 {
				group.SeenAt = now
				change := Plan(Snapshot{Settle: 10 * time.Second, Revocable: true, Grants: wanted, Groups: []Group{group}})[0]
				group.Ingress = append(group.Ingress, change.Authorize...)
				var left []model.Permission
				for _, p := range group.Ingress {
					gone := false
					for _, r := range change.Revoke {
						gone = gone || r == p
					}
					if !gone {
						left = append(left, p)
					}
				}
				group.Ingress = left
				if change.Held && group.HeldSince.IsZero() {
					group.HeldSince = now
				}
				for _, g := range before {
					still := false
					for _, w := range wanted {
						still = still || w == g
					}
					if still && !allowed(group.Ingress, g) {
						t.Fatalf("%v is wanted before and after, and is interrupted: %v", g, group.Ingress)
					}
				}
				now = now.Add(7 * time.Second)
			}
			if diff := cmp.Diff(Merged(wanted)["sg-pods"], sorted(group.Ingress)); diff != "" {
				t.Fatalf("rules in the end (-want +got):\n%s", diff)
			}
		}
	})
}
