// Package policy decides whether a caller may call an operation, by the documents that IAM takes: a list
// of statements with Effect, Action and NotAction, where an action is service:Operation with the
// wildcards * and ?.
//
//	p, err := policy.Parse([]byte(`{"Statement":[{"Effect":"Allow","Action":"elasticloadbalancing:Describe*","Resource":"*"}]}`))
//	...
//	p.Decide("elasticloadbalancing:CreateRule") // NotAllowed
//
// It is not IAM. Resources and conditions are not looked at: a statement that allows something for some
// resources allows it for all. A statement that denies something for some resources only would deny too
// much, so Parse refuses it. Principals, boundaries, service control policies and sessions tags are
// not modelled.
package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Decision is what a policy says of an action.
type Decision int

// The decisions. A statement that denies wins over all that allow; what no statement allows is not allowed.
const (
	NotAllowed Decision = iota
	Allowed
	Denied
)

// Policy is a document. Make it with Parse.
type Policy struct{ statements []statement }

type statement struct {
	Sid       string          `json:"Sid"`
	Effect    string          `json:"Effect"`
	Action    oneOrMore       `json:"Action"`
	NotAction oneOrMore       `json:"NotAction"`
	Resource  oneOrMore       `json:"Resource"`
	Condition json.RawMessage `json:"Condition"`
	Principal json.RawMessage `json:"Principal"`
}

// oneOrMore is a text or a list of texts.
type oneOrMore []string

// UnmarshalJSON reads either form.
func (o *oneOrMore) UnmarshalJSON(text []byte) error {
	if bytes.HasPrefix(text, []byte(`"`)) {
		*o = make([]string, 1)
		return json.Unmarshal(text, &(*o)[0])
	}
	return json.Unmarshal(text, (*[]string)(o))
}

// Parse reads a document.
func Parse(text []byte) (*Policy, error) {
	var document struct {
		Version   string          `json:"Version"`
		ID        string          `json:"Id"`
		Statement json.RawMessage `json:"Statement"`
	}
	if err := strict(text, &document); err != nil {
		return nil, fmt.Errorf("cannot read the policy: %w", err)
	}
	p := &Policy{}
	list := bytes.TrimSpace(document.Statement)
	if bytes.HasPrefix(list, []byte("{")) {
		list = slices.Concat([]byte("["), list, []byte("]"))
	}
	if len(list) == 0 {
		return nil, errors.New("cannot read the policy: it has no Statement")
	}
	if err := strict(list, &p.statements); err != nil {
		return nil, fmt.Errorf("cannot read the policy: %w", err)
	}
	for i, s := range p.statements {
		if err := s.validate(); err != nil {
			return nil, fmt.Errorf("cannot use statement %d of the policy (%q): %w", i+1, s.Sid, err)
		}
	}
	return p, nil
}

func strict(text []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}

func (s statement) validate() error {
	switch {
	case s.Effect != "Allow" && s.Effect != "Deny":
		return fmt.Errorf("effect %q is neither Allow nor Deny", s.Effect)
	case (len(s.Action) == 0) == (len(s.NotAction) == 0):
		return errors.New("it needs either Action or NotAction")
	case s.Principal != nil:
		return errors.New("principals stand in policies of resources, which are not modelled")
	case s.Effect == "Deny" && (s.Condition != nil || len(s.Resource) > 0 && !slices.Contains(s.Resource, "*")):
		return errors.New(`only "Resource": "*" without Condition can be denied: resources and conditions are not modelled`)
	}
	for _, action := range slices.Concat(s.Action, s.NotAction) {
		if service, name, ok := strings.Cut(action, ":"); action != "*" && (!ok || service == "" || name == "") {
			return fmt.Errorf("action %q is not of the form service:Operation", action)
		}
	}
	return nil
}

// Decide says whether the policy allows an action, such as elasticloadbalancing:CreateRule.
func (p *Policy) Decide(action string) Decision {
	decision := NotAllowed
	for _, s := range p.statements {
		if !s.about(action) {
			continue
		}
		if s.Effect == "Deny" {
			return Denied
		}
		decision = Allowed
	}
	return decision
}

func (s statement) about(action string) bool {
	matches := func(pattern string) bool { return match(strings.ToLower(pattern), strings.ToLower(action)) }
	if len(s.NotAction) > 0 {
		return !slices.ContainsFunc(s.NotAction, matches)
	}
	return slices.ContainsFunc(s.Action, matches)
}

// match compares text with a pattern in which * stands for any text and ? for one character. It takes
// time in proportion to the product of their lengths at worst.
func match(pattern, text string) bool {
	p, t, star, resume := 0, 0, -1, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, resume = p, t
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == text[t]):
			p++
			t++
		case star >= 0: // let the last star stand for one more
			resume++
			p, t = star+1, resume
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
