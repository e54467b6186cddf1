package cloud_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-delivery/lockstep/internal/cloud"
)

// Many groups in transition must not use up the account's calls: what they wait for needs some, too.
func TestPollingOfManyMovingGroupsSharesOneRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		const groups = 20
		for i := range groups {
			f.targets[moving(i)] = map[string]string{"10.0.0.9": "initial"}
		}
		c := f.connect(t, cloud.Settings{})
		for i := range groups {
			c.WatchTargets(moving(i), true)
		}
		time.Sleep(30 * time.Second) // the first round of reads is over
		f.forgetCalls()
		time.Sleep(time.Minute)
		if n := f.made("DescribeTargetHealth"); n > 220 || n < 20 {
			t.Errorf("%d reads of health in a minute for %d groups in transition, want 20 to 220 (a third of AWS's 10/s)", n, groups)
		}
	})
}

func moving(i int) string { return fmt.Sprintf("%stargetgroup/moving-%d/1", arnPrefix, i) }
