package v1alpha1

import (
	stdjson "encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/util/json"
)

// UnmarshalJSON reads what can be read. The schema lets values through that no Go type holds (the pod template
// is not checked), and one object that cannot be decoded would break the list and the watch of all Rollouts. A field that cannot be read is left empty, and Malformed says which and why.
func (s *RolloutSpec) UnmarshalJSON(data []byte) error {
	type plain RolloutSpec
	var out plain
	problem, err := unmarshalFields(data, &out)
	if err != nil {
		return err
	}
	*s = RolloutSpec(out)
	if problem != "" {
		s.Malformed = "spec." + problem
	}
	return nil
}

// unmarshalFields decodes an object whole or, if that is not possible, each of its fields that can be. It
// returns the first problem, in the order of names, as "field: what is wrong; remedy".
func unmarshalFields[T any](data []byte, into *T) (problem string, err error) {
	var whole T
	if json.Unmarshal(data, &whole) == nil {
		*into = whole
		return "", nil
	}
	var fields map[string]stdjson.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return "", err
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		one, err := stdjson.Marshal(map[string]stdjson.RawMessage{name: fields[name]})
		if err != nil {
			return "", err
		}
		var trial T
		if err := json.Unmarshal(one, &trial); err != nil {
			if problem == "" {
				problem = explain(name, err)
			}
			continue
		}
		if err := json.Unmarshal(one, into); err != nil {
			return "", err
		}
	}
	return problem, nil
}

func explain(name string, err error) string {
	if wrong, ok := errors.AsType[*stdjson.UnmarshalTypeError](err); ok && wrong.Field != "" {
		return fmt.Sprintf("%s: %s is not possible here; write a value of type %s", wrong.Field, wrong.Value, wrong.Type)
	}
	return fmt.Sprintf("%s: cannot be read; correct it: %s", name, err)
}
