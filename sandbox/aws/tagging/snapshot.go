package tagging

import (
	"encoding/json"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/snapshot"
)

// keptResource is what is known of a resource, as it is kept on the disk.
type keptResource struct {
	States  []keptState `json:"states"`
	Changes int         `json:"changes"`
}

type keptState struct {
	Shown  time.Time         `json:"shown"`
	Exists bool              `json:"exists"`
	Tags   map[string]string `json:"tags"`
}

// Export tells everything that the service has.
func (s *Service) Export() (json.RawMessage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := make(map[string]keptResource, len(s.resources))
	for arn, r := range s.resources {
		r.shown(time.Now()) // forgets what is over
		one := keptResource{Changes: r.changes}
		for _, state := range r.states {
			one.States = append(one.States, keptState{state.shown, state.exists, state.tags})
		}
		k[arn] = one
	}
	return json.Marshal(k)
}

// Import takes over what another service has exported. This one must have nothing yet.
func (s *Service) Import(text json.RawMessage) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var k map[string]keptResource
	if err := snapshot.Decode(text, &k); err != nil {
		return err
	}
	for arn, one := range k {
		r := &resource{changes: one.Changes}
		for _, known := range one.States {
			r.states = append(r.states, state{known.Shown, known.Exists, known.Tags})
		}
		if len(r.states) > 0 {
			s.resources[arn] = r
		}
	}
	return nil
}
