package sts

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/policy"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/resourceid"
)

// A new policy counts after a while, also for sessions that are under way; temporary keys outlive a restart.
func TestNewPoliciesTakeTheirTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		table, err := profile.Parse([]byte("base: ideal\nseconds: {iam.propagation: F(10)}"))
		if err != nil {
			t.Fatal(err)
		}
		config := Config{AccountID: "1", IDs: resourceid.NewSource(1), Draws: profile.NewDraws(table, 1, 1), AccessKeyID: "OWN"}
		s := New(config)
		issued, err := s.Issue("reader", "test", time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		may := func(s *Service, want bool) {
			t.Helper()
			key, ok := s.Key(issued.ID)
			if got := ok && key.Principal.Decide(policy.Request{Action: "ec2:DescribeVpcs"}) == policy.Allowed; got != want || !ok {
				t.Errorf("the session may: %v, want %v", got, want)
			}
		}
		s.SetIdentities(nil, []Role{{Name: "reader", Policy: policy.Join()}})
		may(s, true)
		time.Sleep(9 * time.Second)
		may(s, true)
		time.Sleep(time.Second)
		may(s, false)

		text, err := s.Export()
		if err != nil {
			t.Fatal(err)
		}
		again := New(config)
		if err := again.Import(text); err != nil {
			t.Fatal(err)
		}
		may(again, true) // the roles are those of the configuration
		if key, _ := again.Key(issued.ID); key.Secret != issued.Secret || key.Token != issued.Token || !key.Expires.Equal(issued.Expires) || key.Principal.ARN != issued.Principal.ARN {
			t.Errorf("restored: %+v, not %+v", key, issued)
		}
		time.Sleep(2 * time.Hour)
		if text, err := s.Export(); err != nil || string(text) != "[]" {
			t.Errorf("expired keys are kept: %s, %v", text, err)
		}
	})
}
