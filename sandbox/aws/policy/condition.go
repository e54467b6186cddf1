package policy

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// conditions are values by operator and key: all of them have to hold, each for one of its values.
type conditions map[string]map[string]oneOrMore

// Keys are the condition keys that are modelled, as AWS writes them. One that ends in a slash stands before the key of a tag.
var Keys = []string{
	"aws:RequestTag/", "aws:ResourceTag/", "aws:TagKeys", "aws:RequestedRegion", "aws:PrincipalArn", "aws:PrincipalAccount", "aws:PrincipalType",
	"aws:userid", "aws:username", "ec2:CreateAction", "ec2:ResourceTag/", "ec2:Region", "elasticloadbalancing:CreateAction",
	"elasticloadbalancing:ResourceTag/", "iam:AWSServiceName",
}

// canonical is a condition key as AWS writes it; the case of what comes before the key of a tag does not matter.
func canonical(key string) (string, bool) {
	for _, known := range Keys {
		if strings.EqualFold(key, known) && !strings.HasSuffix(known, "/") {
			return known, true
		}
		if strings.HasSuffix(known, "/") && len(key) > len(known) && strings.EqualFold(key[:len(known)], known) {
			return known + key[len(known):], true
		}
	}
	return key, false
}

// operator is one of the condition operators, taken apart.
type operator struct {
	compare func(want, have string) bool
	// not turns the answer of compare; ifExists lets a key pass that has no value.
	not, ifExists bool
	// all and some are for keys with several values: each of them, or at least one, has to compare.
	all, some bool
	null      bool
}

func equal(want, have string) bool { return want == have }

var comparisons = map[string]operator{
	"StringEquals":              {compare: equal},
	"StringNotEquals":           {compare: equal, not: true},
	"StringEqualsIgnoreCase":    {compare: strings.EqualFold},
	"StringNotEqualsIgnoreCase": {compare: strings.EqualFold, not: true},
	"StringLike":                {compare: match},
	"StringNotLike":             {compare: match, not: true},
	"ArnEquals":                 {compare: match},
	"ArnNotEquals":              {compare: match, not: true},
	"ArnLike":                   {compare: match},
	"ArnNotLike":                {compare: match, not: true},
	"Bool":                      {compare: strings.EqualFold},
	"Null":                      {null: true},
}

func parseOperator(name string) (operator, error) {
	rest, all := strings.CutPrefix(name, "ForAllValues:")
	rest, some := strings.CutPrefix(rest, "ForAnyValue:")
	rest, ifExists := strings.CutSuffix(rest, "IfExists")
	o, ok := comparisons[rest]
	if !ok || o.null && rest != name {
		return o, fmt.Errorf("condition operator %s is not modelled: those of %s are, with ForAllValues:, ForAnyValue: and IfExists",
			name, strings.Join(slices.Sorted(maps.Keys(comparisons)), ", "))
	}
	o.all, o.some, o.ifExists = all, some, ifExists
	return o, nil
}

func (c conditions) validate() error {
	for _, name := range slices.Sorted(maps.Keys(c)) {
		if _, err := parseOperator(name); err != nil {
			return err
		}
		for _, key := range slices.Sorted(maps.Keys(c[name])) {
			if _, ok := canonical(key); !ok {
				return fmt.Errorf("condition key %s is not modelled: use one of %s", key, strings.Join(Keys, ", "))
			}
			for _, value := range c[name][key] {
				if err := literal(value); err != nil {
					return fmt.Errorf("condition key %s: %w", key, err)
				}
			}
		}
	}
	return nil
}

// hold says whether all conditions hold for a resource.
func (c conditions) hold(context func(key, resource string) []string, resource string) bool {
	for name, keys := range c {
		o, err := parseOperator(name)
		if err != nil {
			return false // Parse has let none of these in
		}
		for key, wanted := range keys {
			key, _ = canonical(key)
			var have []string
			if context != nil {
				have = context(key, resource)
			}
			if !o.holds(wanted, have) {
				return false
			}
		}
	}
	return true
}

func (o operator) holds(wanted, have []string) bool {
	one := func(value string) bool {
		return o.not != slices.ContainsFunc(wanted, func(want string) bool { return o.compare(want, value) })
	}
	switch {
	case o.null:
		return slices.Contains(wanted, fmt.Sprint(len(have) == 0))
	case o.all:
		return !slices.ContainsFunc(have, func(value string) bool { return !one(value) })
	case len(have) == 0:
		return o.ifExists || o.not && !o.some
	case o.not && !o.some:
		return !slices.ContainsFunc(have, func(value string) bool { return !one(value) })
	}
	return slices.ContainsFunc(have, one)
}

// UnmarshalJSON reads conditions. Values may be texts, truth values and numbers.
func (c *conditions) UnmarshalJSON(text []byte) error {
	var raw map[string]map[string]json.RawMessage
	if err := json.Unmarshal(text, &raw); err != nil {
		return err
	}
	*c = conditions{}
	for name, keys := range raw {
		(*c)[name] = map[string]oneOrMore{}
		for key, value := range keys {
			var values oneOrMore
			if err := json.Unmarshal(value, &values); err != nil {
				var bare any
				if err := json.Unmarshal(value, &bare); err != nil {
					return err
				}
				switch bare.(type) {
				case bool, float64:
					values = oneOrMore{fmt.Sprint(bare)}
				default:
					return fmt.Errorf("condition key %s has a value that is neither a text nor a list of texts", key)
				}
			}
			(*c)[name][key] = values
		}
	}
	return nil
}
