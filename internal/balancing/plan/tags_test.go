package plan

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Tags that somebody else manages stay as they are; other foreign tags go.
func TestTagsManagedElsewhereStay(t *testing.T) {
	s := &situation{state: State{ExternalTags: []string{"cost"}}}
	s.tags(Ref{ResourceID: "LoadBalancer", ARN: "arn"}, map[string]string{"team": "shop"}, map[string]string{"team": "shop", "cost": "1", "stray": "2"})
	want := []Operation{RemoveTags{Resource: Ref{ResourceID: "LoadBalancer", ARN: "arn"}, Keys: []string{"stray"}}}
	if diff := cmp.Diff(want, s.staged[stageTags]); diff != "" {
		t.Error(diff)
	}
}
