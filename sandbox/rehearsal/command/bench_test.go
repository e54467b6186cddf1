package command

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-delivery/lockstep/internal/cli"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/throttle"
)

// Even when nothing is left of AWS's burst, the default pace finds a token for each promote: what is measured is the
// controller, not the refill.
func TestTheDefaultPaceIsSlowerThanTheRefillOfAWS(t *testing.T) {
	promote, _, err := NewBench(cli.Streams{}).Find([]string{"promote"})
	if err != nil {
		t.Fatal(err)
	}
	every, err := promote.Flags().GetDuration("every")
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		call := throttle.Call{Service: "elasticloadbalancing", Operation: "ModifyRule"}
		buckets := throttle.New(true)
		for taken := 0; buckets.Take(call) == nil; taken++ {
			if taken > 1000 {
				t.Fatal("ModifyRule is not limited: the test has lost its object")
			}
		}
		for i := range 90 {
			time.Sleep(every) // in virtual time
			if err := buckets.Take(call); err != nil {
				t.Fatalf("promote %d, one each %s, is refused: %v", i+1, every, err)
			}
		}
	})
}
