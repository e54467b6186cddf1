package elbv2

import (
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// Limits of a rule's conditions. AWS's pages give 5 and 6 for wildcards; 6 is accepted.
const (
	maxConditionValues = 5
	maxWildcards       = 6
)

var (
	hostPattern   = regexp.MustCompile(`^[A-Za-z0-9\-._*?]{1,128}$`)
	afterLastDot  = regexp.MustCompile(`^[A-Za-z*?]+$`)
	pathPattern   = regexp.MustCompile("^[A-Za-z0-9_\\-.$/~\"'@:+&*?]{1,128}$")
	methodPattern = regexp.MustCompile(`^[A-Z_-]{1,40}$`)
	headerName    = regexp.MustCompile("^[A-Za-z0-9!#$%&'+\\-.^_`|~]{1,40}$")
)

// conditions validates conditions and shows host-header and path-pattern in both forms, as AWS does.
func conditions(given []types.RuleCondition) ([]types.RuleCondition, error) {
	if len(given) == 0 {
		return nil, wire.Errorf("ValidationError", "A rule must have at least one condition")
	}
	var list []types.RuleCondition
	values, wildcards := 0, 0
	once := map[string]bool{}
	for _, c := range given {
		checked, used, err := condition(c)
		if err != nil {
			return nil, err
		}
		field := deref(checked.Field)
		if field != "http-header" && field != "query-string" {
			if once[field] {
				return nil, wire.Errorf("InvalidConfigurationRequest", "A rule can have only one condition on %s", field)
			}
			once[field] = true
		}
		values += len(used)
		list = append(list, checked)
		if hasRegexes(checked) {
			continue // in which stars are no wildcards
		}
		for _, v := range used {
			wildcards += strings.Count(v, "*") + strings.Count(v, "?")
		}
	}
	if values > maxConditionValues {
		return nil, wire.Errorf("InvalidConfigurationRequest", "A rule can have at most %d condition values, not %d", maxConditionValues, values)
	}
	if wildcards > maxWildcards {
		return nil, wire.Errorf("InvalidConfigurationRequest", "A rule can have at most %d wildcards, not %d", maxWildcards, wildcards)
	}
	return list, nil
}

func hasRegexes(c types.RuleCondition) bool {
	return len(c.RegexValues) > 0 || c.HttpHeaderConfig != nil && len(c.HttpHeaderConfig.RegexValues) > 0
}

// condition validates one condition and returns its values for counting.
func condition(c types.RuleCondition) (types.RuleCondition, []string, error) {
	field := deref(c.Field)
	if foreignCondition(c) {
		return c, nil, wire.Errorf("ValidationError", "A %.60s condition takes only the config of that field, and Values only where it is host-header or path-pattern", field)
	}
	switch field {
	case "host-header":
		return hostCondition(c)
	case "path-pattern":
		return pathCondition(c)
	case "http-header":
		return headerCondition(c)
	case "http-request-method":
		if c.HttpRequestMethodConfig == nil {
			return c, nil, missingConfig(field)
		}
		return c, c.HttpRequestMethodConfig.Values, each(field, c.HttpRequestMethodConfig.Values, methodPattern.MatchString)
	case "source-ip":
		if c.SourceIpConfig == nil {
			return c, nil, missingConfig(field)
		}
		return c, c.SourceIpConfig.Values, each(field, c.SourceIpConfig.Values, func(v string) bool {
			_, err := netip.ParsePrefix(v)
			return err == nil && v != "255.255.255.255/32"
		})
	case "query-string":
		return queryCondition(c)
	}
	return c, nil, wire.Errorf("ValidationError", "Condition field '%.60s' must be one of host-header, path-pattern, http-header, http-request-method, query-string, source-ip", field)
}

// foreignCondition says whether a condition has values in a place that is not its field's. Nobody would validate those, and nodes could
// not act on them.
func foreignCondition(c types.RuleCondition) bool {
	field := deref(c.Field)
	places := map[string]bool{
		"host-header":         c.HostHeaderConfig != nil,
		"path-pattern":        c.PathPatternConfig != nil,
		"http-header":         c.HttpHeaderConfig != nil,
		"http-request-method": c.HttpRequestMethodConfig != nil,
		"source-ip":           c.SourceIpConfig != nil,
		"query-string":        c.QueryStringConfig != nil,
	}
	if _, known := places[field]; !known {
		return false // which is refused as such
	}
	places[field] = false
	both := field == "host-header" || field == "path-pattern"
	return slices.Contains(slices.Collect(maps.Values(places)), true) || len(c.Values) > 0 && !both || len(c.RegexValues) > 0 && !both && field != "http-header"
}

func missingConfig(field string) error {
	return wire.Errorf("ValidationError", "A %s condition must have its config", field)
}

func each(field string, values []string, valid func(string) bool) error {
	if len(values) == 0 {
		return wire.Errorf("ValidationError", "A %s condition must have a value", field)
	}
	for _, v := range values {
		if !valid(v) {
			return wire.Errorf("ValidationError", "Condition value '%.140s' is not valid for %s", v, field)
		}
	}
	return nil
}

// bothForms returns the values of a condition that has an old form (Values, one value) and a new one.
func bothForms(field string, old []string, has bool, config []string) ([]string, error) {
	switch {
	case has && len(old) > 0:
		return nil, wire.Errorf("ValidationError", "Values and the config of a %s condition cannot both be given", field)
	case has:
		return config, nil
	case len(old) > 1:
		return nil, wire.Errorf("ValidationError", "A %s condition takes one of Values; give its config for more", field)
	}
	return old, nil
}

// byRegex returns the regular expressions of a condition in its two places, validated; none: it has values.
func byRegex(field string, values, old, config []string) ([]string, error) {
	regexes := config
	switch {
	case len(old) > 0 && len(config) > 0 && !slices.Equal(old, config):
		return nil, wire.Errorf("ValidationError", "RegexValues and the RegexValues in the config of a %s condition cannot both be given", field)
	case len(old) > 0:
		regexes = old
	}
	if len(regexes) > 0 && len(values) > 0 {
		return nil, wire.Errorf("ValidationError", "Values and regular expressions of a %s condition cannot both be given", field)
	}
	for _, text := range regexes {
		if err := checkRegex(text, maxConditionRegex); err != nil {
			return nil, err
		}
	}
	return regexes, nil
}

func hostCondition(c types.RuleCondition) (types.RuleCondition, []string, error) {
	config := deref(c.HostHeaderConfig)
	regexes, err := byRegex("host-header", slices.Concat(c.Values, config.Values), c.RegexValues, config.RegexValues)
	if err != nil {
		return c, nil, err
	}
	if len(regexes) > 0 {
		c.RegexValues, c.HostHeaderConfig = regexes, &types.HostHeaderConditionConfig{RegexValues: regexes}
		return c, regexes, nil
	}
	values, err := bothForms("host-header", c.Values, c.HostHeaderConfig != nil, config.Values)
	if err != nil {
		return c, nil, err
	}
	err = each("host-header", values, func(v string) bool {
		dot := strings.LastIndexByte(v, '.')
		return hostPattern.MatchString(v) && (dot < 0 && strings.ContainsAny(v, "*?") || dot >= 0 && afterLastDot.MatchString(v[dot+1:]))
	})
	c.Values, c.HostHeaderConfig = values, &types.HostHeaderConditionConfig{Values: values}
	return c, values, err
}

func pathCondition(c types.RuleCondition) (types.RuleCondition, []string, error) {
	config := deref(c.PathPatternConfig)
	regexes, err := byRegex("path-pattern", slices.Concat(c.Values, config.Values), c.RegexValues, config.RegexValues)
	if err != nil {
		return c, nil, err
	}
	if len(regexes) > 0 {
		c.RegexValues, c.PathPatternConfig = regexes, &types.PathPatternConditionConfig{RegexValues: regexes}
		return c, regexes, nil
	}
	values, err := bothForms("path-pattern", c.Values, c.PathPatternConfig != nil, config.Values)
	if err != nil {
		return c, nil, err
	}
	c.Values, c.PathPatternConfig = values, &types.PathPatternConditionConfig{Values: values}
	return c, values, each("path-pattern", values, pathPattern.MatchString)
}

func headerCondition(c types.RuleCondition) (types.RuleCondition, []string, error) {
	h := c.HttpHeaderConfig
	switch {
	case h == nil:
		return c, nil, missingConfig("http-header")
	case !headerName.MatchString(deref(h.HttpHeaderName)), strings.EqualFold(*h.HttpHeaderName, "host"):
		return c, nil, wire.Errorf("ValidationError", "HTTP header name '%.60s' is not valid in a condition", deref(h.HttpHeaderName))
	}
	regexes, err := byRegex("http-header", h.Values, c.RegexValues, h.RegexValues)
	if err != nil {
		return c, nil, err
	}
	if len(regexes) > 0 {
		config := *h
		config.RegexValues = regexes
		c.RegexValues, c.HttpHeaderConfig = nil, &config
		return c, regexes, nil
	}
	return c, h.Values, each("http-header", h.Values, func(v string) bool { return v != "" && len(v) <= 128 })
}

func queryCondition(c types.RuleCondition) (types.RuleCondition, []string, error) {
	if c.QueryStringConfig == nil || len(c.QueryStringConfig.Values) == 0 {
		return c, nil, missingConfig("query-string")
	}
	var values []string
	for _, q := range c.QueryStringConfig.Values {
		key, value := deref(q.Key), deref(q.Value)
		if value == "" || len(key) > 128 || len(value) > 128 {
			return c, nil, wire.Errorf("ValidationError", "Query-string value '%.140s' must have 1 to 128 characters, its key at most 128", value)
		}
		values = append(values, key+value)
	}
	return c, values, nil
}
