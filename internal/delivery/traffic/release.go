package traffic

import (
	"encoding/json"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/internal/split"
)

// Manages reports whether the bookkeeping annotation names the rollout as a writer of the Ingress's actions.
func Manages(ingress *networkingv1.Ingress, rollout string) bool {
	managed, err := bookkeeping(ingress)
	return err == nil && len(managed[rollout]) > 0
}

// Released are the annotations that an Ingress gets when a rollout no longer writes it, where nil removes one:
// each of its actions forwards everything to one Service, and the bookkeeping names the rollout no more. An
// action that cannot be read, or that another rollout writes too, is somebody else's by now and stays.
func Released(ingress *networkingv1.Ingress, rollout string) (map[string]any, error) {
	managed, err := bookkeeping(ingress)
	if err != nil {
		return nil, err
	}
	annotations := map[string]any{}
	released := managed[rollout]
	delete(managed, rollout)
	for _, key := range released {
		if writtenByOthers(managed, key) {
			continue
		}
		s, err := split.Decode(ingress.Annotations[key])
		if err != nil || len(s.Destinations) == 0 {
			continue
		}
		_, action, _ := strings.Cut(key, "/actions.")
		if annotations[key], err = split.Encode(whole(s, action)); err != nil {
			return nil, err
		}
	}
	annotations[v1alpha1.ManagedALBAnnotation] = nil
	if len(managed) > 0 {
		data, err := json.Marshal(managed)
		if err != nil {
			return nil, err
		}
		annotations[v1alpha1.ManagedALBAnnotation] = string(data)
	}
	if _, there := ingress.Annotations[v1alpha1.ObsoleteALBAnnotation]; there {
		annotations[v1alpha1.ObsoleteALBAnnotation] = nil
	}
	return annotations, nil
}

// writtenByOthers: one of the rollouts in the bookkeeping writes the action.
func writtenByOthers(managed map[string][]string, key string) bool {
	for _, keys := range managed {
		if slices.Contains(keys, key) {
			return true
		}
	}
	return false
}

// whole gives all of a split to the Service that names the action, or else, behind a root Service, to the
// stable one, which is written last.
func whole(s split.Split, action string) split.Split {
	to := s.Destinations[len(s.Destinations)-1]
	if i := slices.IndexFunc(s.Destinations, func(d split.Destination) bool { return d.Service == action }); i >= 0 {
		to = s.Destinations[i]
	}
	to.Weight = split.DefaultTotalWeight
	return split.Split{Destinations: []split.Destination{to}, Stickiness: s.Stickiness}
}
