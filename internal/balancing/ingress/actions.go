package ingress

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/split"
)

// AnnotationManaged is the bookkeeping annotation that a rollout controller leaves on the Ingress: a JSON
// map from rollout to the annotation keys that it writes.
const AnnotationManaged = "rollouts.argoproj.io/managed-alb-annotations"

// useAnnotation is the port name that takes a backend's action from an annotation.
const useAnnotation = "use-annotation"

// managedBy returns the rollout that writes an annotation key, or "".
func managedBy(given map[string]string, key string) string {
	var managed map[string][]string
	if json.Unmarshal([]byte(given[AnnotationManaged]), &managed) != nil {
		return ""
	}
	var owners []string
	for rollout, keys := range managed {
		if slices.Contains(keys, key) {
			owners = append(owners, rollout)
		}
	}
	slices.Sort(owners)
	return strings.Join(owners, ", ")
}

// intent is an action as the user wrote it: forwards name Services or AWS target groups.
type intent struct {
	fixed    *model.FixedResponse
	redirect *model.Redirect
	forward  []member
	sticky   time.Duration
}

// member is one destination of a forward; exactly one of the first three is set.
type member struct {
	service         string
	targetGroupARN  string
	targetGroupName string
	port            string
	weight          int32
}

// actionJSON is the annotation as users write it; encoding/json ignores the letter case of keys.
type actionJSON struct {
	Type                string
	TargetGroupARN      string
	TargetGroupName     string
	FixedResponseConfig *struct{ ContentType, MessageBody, StatusCode string }
	RedirectConfig      *struct{ Host, Path, Port, Protocol, Query, StatusCode string }
	ForwardConfig       *struct {
		TargetGroups []struct {
			ServiceName, TargetGroupARN, TargetGroupName string
			Weight                                       *int32
		}
	}
}

// parseAction reads an actions annotation. Forwards to Services go through split.Decode, the decoder that
// the half which moves pods shares with us.
func parseAction(text string) (intent, error) {
	var in actionJSON
	if err := json.Unmarshal([]byte(text), &in); err != nil {
		return intent{}, fmt.Errorf("the action is not valid JSON: %w", err)
	}
	switch in.Type {
	case string(model.ActionFixedResponse):
		c := in.FixedResponseConfig
		if c == nil || c.StatusCode == "" {
			return intent{}, fmt.Errorf("fixedResponseConfig.statusCode is missing")
		}
		return intent{fixed: &model.FixedResponse{ContentType: c.ContentType, Body: c.MessageBody, StatusCode: c.StatusCode}}, nil
	case string(model.ActionRedirect):
		c := in.RedirectConfig
		if c == nil || c.StatusCode != "HTTP_301" && c.StatusCode != "HTTP_302" {
			return intent{}, fmt.Errorf("redirectConfig.statusCode is neither HTTP_301 nor HTTP_302")
		}
		return intent{redirect: &model.Redirect{
			Protocol: or(c.Protocol, "#{protocol}"), Host: or(c.Host, "#{host}"), Port: or(c.Port, "#{port}"),
			Path: or(c.Path, "/#{path}"), Query: or(c.Query, "#{query}"), StatusCode: c.StatusCode,
		}}, nil
	case string(model.ActionForward):
		return parseForward(text, in)
	}
	return intent{}, fmt.Errorf("type is %q, not forward, redirect or fixed-response", in.Type)
}

func parseForward(text string, in actionJSON) (intent, error) {
	short := in.TargetGroupARN != "" || in.TargetGroupName != ""
	switch {
	case short && in.ForwardConfig != nil || in.TargetGroupARN != "" && in.TargetGroupName != "":
		return intent{}, fmt.Errorf("give one of targetGroupARN, targetGroupName and forwardConfig, not several")
	case short:
		return intent{forward: []member{{targetGroupARN: in.TargetGroupARN, targetGroupName: in.TargetGroupName, weight: 1}}}, nil
	case in.ForwardConfig == nil || !slices.ContainsFunc(in.ForwardConfig.TargetGroups, func(g struct {
		ServiceName, TargetGroupARN, TargetGroupName string
		Weight                                       *int32
	}) bool {
		return g.TargetGroupARN != "" || g.TargetGroupName != ""
	}):
		s, err := split.Decode(text)
		if err != nil {
			return intent{}, err
		}
		out := intent{sticky: s.Stickiness}
		for _, d := range s.Destinations {
			out.forward = append(out.forward, member{service: d.Service, port: d.Port, weight: d.Weight})
		}
		return out, nil
	}
	return parseMixedForward(text)
}

// parseMixedForward reads a forward that names target groups of AWS. What remains, the Services, is
// decoded as a split once more, so that its rules hold here too.
func parseMixedForward(text string) (intent, error) {
	var document struct {
		ForwardConfig struct {
			TargetGroups                []map[string]any
			TargetGroupStickinessConfig *struct {
				Enabled         bool
				DurationSeconds int64
			}
		}
	}
	if err := json.Unmarshal([]byte(text), &document); err != nil {
		return intent{}, fmt.Errorf("the action is not valid JSON: %w", err)
	}
	groups := document.ForwardConfig.TargetGroups
	if len(groups) > split.MaxDestinations {
		return intent{}, fmt.Errorf("a forward to %d target groups: AWS allows at most %d", len(groups), split.MaxDestinations)
	}
	var out intent
	for i, g := range groups {
		var m member
		weighted := false
		for key, value := range g {
			switch strings.ToLower(key) {
			case "targetgrouparn":
				m.targetGroupARN, _ = value.(string)
			case "targetgroupname":
				m.targetGroupName, _ = value.(string)
			case "servicename":
				m.service, _ = value.(string)
			case "serviceport":
				m.port = portText(value)
			case "weight":
				w, ok := value.(float64)
				if !ok || w != float64(int32(w)) || w < 0 || w > split.MaxWeight {
					return intent{}, fmt.Errorf("targetGroups[%d]: weight %v is not a whole number of 0 to %d", i, value, split.MaxWeight)
				}
				m.weight, weighted = int32(w), true
			}
		}
		named := 0
		for _, name := range []string{m.service, m.targetGroupARN, m.targetGroupName} {
			if name != "" {
				named++
			}
		}
		switch {
		case named != 1:
			return intent{}, fmt.Errorf("targetGroups[%d]: give exactly one of targetGroupARN, targetGroupName and serviceName", i)
		case m.service != "" && m.port == "":
			return intent{}, fmt.Errorf("targetGroups[%d] (%s): servicePort is empty", i, m.service)
		case !weighted && len(groups) > 1:
			return intent{}, fmt.Errorf("targetGroups[%d]: weight is required with more than one target group", i)
		case !weighted:
			m.weight = 1
		}
		out.forward = append(out.forward, m)
	}
	if st := document.ForwardConfig.TargetGroupStickinessConfig; st != nil && st.Enabled {
		out.sticky = time.Duration(st.DurationSeconds) * time.Second
		if out.sticky < split.MinStickiness || out.sticky > split.MaxStickiness {
			return intent{}, fmt.Errorf("targetGroupStickinessConfig: durationSeconds %d is outside 1 to 604800", st.DurationSeconds)
		}
	}
	return out, nil
}

func portText(value any) string {
	switch v := value.(type) {
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return ""
}

func or(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

// conditionJSON is one entry of a conditions annotation.
type conditionJSON struct {
	Field                   string
	HostHeaderConfig        *valuesJSON
	PathPatternConfig       *valuesJSON
	HTTPHeaderConfig        *headerJSON
	HTTPRequestMethodConfig *valuesJSON
	QueryStringConfig       *struct{ Values []struct{ Key, Value string } }
	SourceIPConfig          *valuesJSON
}

type valuesJSON struct{ Values, RegexValues []string }

type headerJSON struct {
	HTTPHeaderName      string
	Values, RegexValues []string
}

// parseConditions reads a conditions annotation, in the order written.
func parseConditions(text string) ([]model.Condition, error) {
	var in []conditionJSON
	if err := json.Unmarshal([]byte(text), &in); err != nil {
		return nil, fmt.Errorf("the conditions are not a valid JSON array: %w", err)
	}
	var out []model.Condition
	for i, c := range in {
		condition := model.Condition{Field: c.Field}
		var values *valuesJSON
		switch c.Field {
		case "host-header":
			values = c.HostHeaderConfig
		case "path-pattern":
			values = c.PathPatternConfig
		case "http-request-method":
			values = c.HTTPRequestMethodConfig
		case "source-ip":
			values = c.SourceIPConfig
		case "http-header":
			if c.HTTPHeaderConfig != nil && c.HTTPHeaderConfig.HTTPHeaderName != "" {
				condition.HeaderName = c.HTTPHeaderConfig.HTTPHeaderName
				values = &valuesJSON{c.HTTPHeaderConfig.Values, c.HTTPHeaderConfig.RegexValues}
			}
		case "query-string":
			if c.QueryStringConfig != nil {
				values = &valuesJSON{}
				for _, pair := range c.QueryStringConfig.Values {
					if pair.Value == "" {
						return nil, fmt.Errorf("[%d]: a query-string value is empty", i)
					}
					condition.Query = append(condition.Query, model.QueryPair{Key: pair.Key, Value: pair.Value})
				}
			}
		default:
			return nil, fmt.Errorf("[%d]: field %q is not host-header, path-pattern, http-header, http-request-method, query-string or source-ip", i, c.Field)
		}
		if values == nil {
			return nil, fmt.Errorf("[%d]: the configuration of field %s is missing", i, c.Field)
		}
		condition.Values, condition.RegexValues = values.Values, values.RegexValues
		if len(condition.Values)+len(condition.RegexValues)+len(condition.Query) == 0 || len(condition.Values) > 0 && len(condition.RegexValues) > 0 {
			return nil, fmt.Errorf("[%d]: %s needs values or regexValues, one of the two", i, c.Field)
		}
		out = append(out, condition)
	}
	return out, nil
}
