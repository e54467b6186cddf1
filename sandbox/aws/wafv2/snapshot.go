package wafv2

import (
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/wafv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/snapshot"
)

// kept is the state of the service as it is kept on the disk.
type kept struct {
	ACLs         []keptACL         `json:"acls"`
	Associations map[string]string `json:"associations"`
}

type keptACL struct {
	ACL    types.WebACL `json:"acl"`
	Lock   string       `json:"lock"`
	Usable time.Time    `json:"usable"`
}

// Export tells everything that the service has.
func (s *Service) Export() (json.RawMessage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := kept{Associations: s.associations}
	for _, arn := range slices.Sorted(maps.Keys(s.acls)) {
		a := s.acls[arn]
		k.ACLs = append(k.ACLs, keptACL{a.WebACL, a.lock, a.usable})
	}
	return json.Marshal(k)
}

// Import takes over what another service has exported. This one must have nothing yet.
func (s *Service) Import(text json.RawMessage) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := kept{Associations: s.associations}
	if err := snapshot.Decode(text, &k); err != nil {
		return err
	}
	for _, a := range k.ACLs {
		s.acls[deref(a.ACL.ARN)] = &acl{WebACL: a.ACL, lock: a.Lock, usable: a.Usable}
	}
	return nil
}
