package resourceid_test

import (
	"fmt"
	"testing"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/resourceid"
)

// Ids never repeat, also when there are more names than are told apart, and are the same in each run.
func TestIDsAreUniqueAndRepeatable(t *testing.T) {
	t.Parallel()
	one, two := resourceid.NewSource(1), resourceid.NewSource(1)
	known := map[string]string{}
	for round := range 3 {
		for i := range 30_000 {
			name := fmt.Sprint("name-", i)
			id := one.Hex(16, "kind", name)
			if again := two.Hex(16, "kind", name); again != id {
				t.Fatalf("%s is %s in one run and %s in another", name, id, again)
			}
			if other, taken := known[id]; taken {
				t.Fatalf("%s of round %d has the id of %s", name, round, other)
			}
			known[id] = name
		}
	}
	if a, b := resourceid.NewSource(1).Hex(16, "k", "n"), resourceid.NewSource(2).Hex(16, "k", "n"); a == b {
		t.Error("two seeds have the same ids")
	}
}
