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
		time.Sleep(12 * time.Second)
		if n := f.made("DescribeTargetHealth"); n > 80 || n < groups {
			t.Errorf("%d reads of health in 12 s for %d groups in transition, want at most 80 (one each at once, then a third of AWS's 10/s)", n, groups)
		}
	})
}

func moving(i int) string { return fmt.Sprintf("%stargetgroup/moving-%d/1", arnPrefix, i) }
