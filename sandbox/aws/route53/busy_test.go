package route53

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/resourceid"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// Changes of one zone must not follow each other at once, those of two zones may; without lags there is nothing to wait for.
func TestAZoneIsBusyWithItsLastChange(t *testing.T) {
	t.Parallel()
	for name, wait := range map[string]time.Duration{"typical": 100 * time.Millisecond, "ideal": 0} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				table, err := profile.Load(name)
				if err != nil {
					t.Fatal(err)
				}
				s := New(Config{IDs: resourceid.NewSource(1), Draws: profile.NewDraws(table, 1, 1)})
				var ids []*string
				for _, name := range []string{"a.example", "b.example"} {
					z, err := s.CreateHostedZone(eventual.Reader{}, &route53.CreateHostedZoneInput{Name: &name, CallerReference: &name})
					if err != nil {
						t.Fatal(err)
					}
					ids = append(ids, z.HostedZone.Id)
				}
				time.Sleep(time.Second)
				change := func(zone int, host string) string {
					_, err := s.ChangeResourceRecordSets(eventual.Reader{}, &route53.ChangeResourceRecordSetsInput{HostedZoneId: ids[zone], ChangeBatch: &types.ChangeBatch{Changes: []types.Change{{
						Action: types.ChangeActionUpsert, ResourceRecordSet: &types.ResourceRecordSet{
							Name: new(host + []string{".a.example", ".b.example"}[zone]), Type: types.RRTypeA, TTL: new(int64(60)), ResourceRecords: []types.ResourceRecord{{Value: new("192.0.2.1")}},
						},
					}}}})
					var refused *wire.Error
					if errors.As(err, &refused) {
						return refused.Code
					}
					if err != nil {
						t.Fatal(err)
					}
					return ""
				}
				busy := ""
				if wait > 0 {
					busy = "PriorRequestNotComplete"
				}
				for _, step := range []struct {
					why, got, want string
				}{
					{"the first", change(0, "one"), ""},
					{"the next at once", change(0, "two"), busy},
					{"of another zone", change(1, "one"), ""},
				} {
					if step.got != step.want {
						t.Errorf("%s: %q, want %q", step.why, step.got, step.want)
					}
				}
				time.Sleep(wait)
				if got := change(0, "two"); got != "" {
					t.Errorf("a moment later: %s", got)
				}
			})
		})
	}
}
