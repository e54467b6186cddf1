package shield

import (
	"encoding/json"

	"github.com/aws/aws-sdk-go-v2/service/shield/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/snapshot"
)

// kept is the state of the service as it is kept on the disk.
type kept struct {
	Subscribed  bool                        `json:"subscribed"`
	Protections map[string]types.Protection `json:"protections"`
}

// Export tells everything that the service has.
func (s *Service) Export() (json.RawMessage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return json.Marshal(kept{s.subscribed, s.protections})
}

// Import takes over what another service has exported. This one must have nothing yet.
func (s *Service) Import(text json.RawMessage) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := kept{Protections: s.protections}
	err := snapshot.Decode(text, &k)
	s.subscribed = k.Subscribed
	return err
}
