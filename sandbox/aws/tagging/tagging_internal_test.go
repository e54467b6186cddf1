package tagging

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
)

// What was deleted, and the tags that a resource had before, are forgotten as soon as everybody knows, though nobody asks.
func TestWhatIsGoneIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		typical, err := profile.Load("typical")
		if err != nil {
			t.Fatal(err)
		}
		now := map[string]map[string]string{}
		s := New(profile.NewDraws(typical, 1, 1), func() map[string]map[string]string { return now })
		for i := range 100 {
			now = map[string]map[string]string{"stays": {"round": fmt.Sprint(i)}, fmt.Sprint("short-lived-", i): {"a": "b"}}
			s.Observe()
			time.Sleep(time.Minute)
		}
		now = nil
		time.Sleep(time.Hour)
		s.Observe()
		if len(s.resources) > 20 {
			t.Errorf("%d resources are remembered", len(s.resources))
		}
		if states := len(s.resources["stays"].states); states > 2 {
			t.Errorf("%d states of a resource are remembered", states)
		}
		time.Sleep(time.Hour)
		s.Observe()
		if len(s.resources) != 0 {
			t.Errorf("%d resources are remembered after their end", len(s.resources))
		}
	})
}
