package traffic

import (
	"encoding/json"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
	released := managed[rollout]
	delete(managed, rollout)
	annotations, err := undivided(ingress, managed, released)
	if err != nil {
		return nil, err
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

// retired are the annotations that an Ingress gets before the rollout writes its split under another key than
// before, since the spec names another root Service; nil when there is nothing to change. The former actions are
// let go like those of a whole Ingress: a rule may still name one, and nobody looks at its weights any longer.
// They stay, since the first value may have been the user's; and what somebody else wrote last is left alone.
func (r ALB) retired(ingress *networkingv1.Ingress) (map[string]any, error) {
	managed, err := bookkeeping(ingress)
	if err != nil {
		return nil, err
	}
	var kept, former []string
	for _, key := range managed[r.Rollout] {
		_, there := ingress.Annotations[key]
		switch {
		case key == r.Key || there && !r.owns(ingress, key):
			kept = append(kept, key)
		default:
			former = append(former, key)
		}
	}
	if len(former) == 0 {
		return nil, nil
	}
	managed[r.Rollout] = kept
	annotations, err := undivided(ingress, managed, former)
	if err != nil {
		return nil, err
	}
	if len(kept) == 0 {
		delete(managed, r.Rollout)
	}
	data, err := json.Marshal(managed)
	if err != nil {
		return nil, err
	}
	annotations[v1alpha1.ManagedALBAnnotation] = string(data)
	return annotations, nil
}

// owns: the present value of an annotation is the rollout's.
func (r ALB) owns(ingress *networkingv1.Ingress, key string) bool {
	return slices.ContainsFunc(ingress.ManagedFields, func(e metav1.ManagedFieldsEntry) bool {
		return e.Subresource == "" && e.Manager == r.FieldManager() && ownsAnnotation(e, key)
	})
}

// undivided are actions that forward everything to one Service; those that others in the bookkeeping write, and
// what cannot be read, are left out.
func undivided(ingress *networkingv1.Ingress, managed map[string][]string, keys []string) (map[string]any, error) {
	annotations := map[string]any{}
	for _, key := range keys {
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
