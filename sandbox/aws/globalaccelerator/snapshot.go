package globalaccelerator

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/globalaccelerator/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/snapshot"
)

// kept is the state of the service as it is kept on the disk.
type kept struct {
	Accelerators []keptAccelerator `json:"accelerators"`
	Requests     map[string]string `json:"requests"`
}

type keptAccelerator struct {
	Accelerator types.Accelerator `json:"accelerator"`
	Tags        map[string]string `json:"tags"`
	Deployed    time.Time         `json:"deployed"`
	Changes     int               `json:"changes"`
	Listeners   []keptListener    `json:"listeners"`
}

type keptListener struct {
	Listener types.Listener        `json:"listener"`
	Groups   []types.EndpointGroup `json:"groups"`
}

// Export tells everything that the service has.
func (s *Service) Export() (json.RawMessage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := kept{Requests: s.requests}
	for _, arn := range slices.Sorted(maps.Keys(s.accelerators)) {
		a := s.accelerators[arn]
		one := keptAccelerator{Accelerator: a.Accelerator, Tags: a.tags, Deployed: a.deployed, Changes: a.changes}
		for _, arn := range slices.Sorted(maps.Keys(s.listeners)) {
			l := s.listeners[arn]
			if l.accelerator != a {
				continue
			}
			listening := keptListener{Listener: l.Listener}
			for _, arn := range slices.Sorted(maps.Keys(s.groups)) {
				g := s.groups[arn]
				if g.listener == l {
					listening.Groups = append(listening.Groups, g.EndpointGroup)
				}
			}
			one.Listeners = append(one.Listeners, listening)
		}
		k.Accelerators = append(k.Accelerators, one)
	}
	return json.Marshal(k)
}

// Import takes over what another service has exported. This one must have nothing yet.
func (s *Service) Import(text json.RawMessage) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := kept{Requests: s.requests}
	if err := snapshot.Decode(text, &k); err != nil {
		return err
	}
	for _, one := range k.Accelerators {
		if one.Accelerator.AcceleratorArn == nil {
			return fmt.Errorf("an accelerator has no ARN")
		}
		a := &accelerator{Accelerator: one.Accelerator, tags: one.Tags, deployed: one.Deployed, changes: one.Changes}
		s.accelerators[*a.AcceleratorArn] = a
		for _, listening := range one.Listeners {
			l := &listener{Listener: listening.Listener, accelerator: a}
			s.listeners[deref(l.ListenerArn)] = l
			for _, g := range listening.Groups {
				s.groups[deref(g.EndpointGroupArn)] = &group{EndpointGroup: g, listener: l}
			}
		}
	}
	return nil
}
