package split

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// action is the annotation's JSON with the key order and letter case in which rollout controllers
// write it; encoding/json reads the keys in any letter case, as load balancer controllers do.
type action struct {
	Type          string         `json:"Type"`
	ForwardConfig *forwardConfig `json:"ForwardConfig"`
}

type forwardConfig struct {
	TargetGroups                []targetGroup `json:"TargetGroups"`
	TargetGroupStickinessConfig *stickiness   `json:"TargetGroupStickinessConfig,omitempty"`
}

type targetGroup struct {
	ServiceName string `json:"ServiceName"`
	ServicePort port   `json:"ServicePort"`
	Weight      *int32 `json:"Weight,omitempty"`

	TargetGroupARN  string `json:"TargetGroupARN,omitempty"`
	TargetGroupName string `json:"TargetGroupName,omitempty"`
}

type stickiness struct {
	Enabled         *bool  `json:"Enabled,omitempty"`
	DurationSeconds *int64 `json:"DurationSeconds,omitempty"`
}

// port is a Service port written as a JSON number or string.
type port string

func (p *port) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		return json.Unmarshal(data, (*string)(p))
	}
	n, err := strconv.ParseInt(string(data), 10, 32)
	if err != nil {
		return fmt.Errorf("servicePort %s is neither a number nor a string", data)
	}
	*p = port(strconv.FormatInt(n, 10))
	return nil
}

// Encode writes the split as the value of an actions annotation, in the shape that existing rollout
// controllers and plugins write and read. It refuses a split that does not Validate.
func Encode(s Split) (string, error) {
	if err := s.Validate(); err != nil {
		return "", err
	}
	out := action{Type: "forward", ForwardConfig: &forwardConfig{}}
	for _, d := range s.Destinations {
		out.ForwardConfig.TargetGroups = append(out.ForwardConfig.TargetGroups, targetGroup{
			ServiceName: d.Service, ServicePort: port(d.Port), Weight: new(d.Weight),
		})
	}
	if s.Stickiness > 0 {
		out.ForwardConfig.TargetGroupStickinessConfig = &stickiness{
			Enabled: new(true), DurationSeconds: new(int64(s.Stickiness / time.Second)),
		}
	}
	data, err := json.Marshal(out)
	return string(data), err
}

// Decode reads an actions annotation that forwards to Services. An action of another type, one that
// names target groups by ARN or name, or one that breaks a rule of Validate gives an error that names
// the field. The weight of a lone destination may be absent and is then 1.
func Decode(annotation string) (Split, error) {
	if s, ok := published(annotation); ok {
		return s, nil
	}
	return decode(annotation)
}

// decode is Decode by encoding/json, for whatever is valid.
func decode(annotation string) (Split, error) {
	var in action
	if err := json.Unmarshal([]byte(annotation), &in); err != nil {
		return Split{}, fmt.Errorf("the action is not valid JSON: %w", err)
	}
	if in.Type != "forward" {
		return Split{}, fmt.Errorf("type is %q, not \"forward\"", in.Type)
	}
	if in.ForwardConfig == nil {
		return Split{}, fmt.Errorf("forwardConfig is missing")
	}
	var s Split
	for i, g := range in.ForwardConfig.TargetGroups {
		if g.TargetGroupARN != "" || g.TargetGroupName != "" {
			return Split{}, fmt.Errorf("targetGroups[%d] names a target group of AWS, not a Service", i)
		}
		weight := int32(1)
		switch {
		case g.Weight != nil:
			weight = *g.Weight
		case len(in.ForwardConfig.TargetGroups) > 1:
			return Split{}, fmt.Errorf("targetGroups[%d] (%s): weight is required with more than one target group", i, g.ServiceName)
		}
		s.Destinations = append(s.Destinations, Destination{Service: g.ServiceName, Port: string(g.ServicePort), Weight: weight})
	}
	if st := in.ForwardConfig.TargetGroupStickinessConfig; st != nil && st.Enabled != nil && *st.Enabled {
		if st.DurationSeconds == nil {
			return Split{}, fmt.Errorf("targetGroupStickinessConfig: durationSeconds is required when enabled")
		}
		s.Stickiness = time.Duration(*st.DurationSeconds) * time.Second
		if *st.DurationSeconds <= 0 || s.Stickiness > MaxStickiness {
			return Split{}, fmt.Errorf("targetGroupStickinessConfig: durationSeconds %d is outside 1 to 604800", *st.DurationSeconds)
		}
	}
	return s, s.Validate()
}
