// Package policy decides whether a caller may call an operation on resources, by the documents that IAM takes: a list
// of statements with Effect, Action and NotAction, Resource and NotResource, and Condition. An action is service:Operation, a resource
// an ARN, both with the wildcards * and ?.
//
//	p, err := policy.Parse([]byte(`{"Statement":[{"Effect":"Allow","Action":"elasticloadbalancing:Describe*","Resource":"*"}]}`))
//	...
//	p.Decide(policy.Request{Action: "elasticloadbalancing:CreateRule"}) // NotAllowed
//
// It is not IAM. Principals, boundaries, service control policies, session tags and policy variables are not modelled, of
// the condition operators and keys only those that condition.go lists: Parse refuses the others, since a statement that
// nobody understands would allow or deny the wrong thing.
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

// Policy is one or more documents. Make it with Parse or Join.
type Policy struct {
	statements []statement
	documents  []string
}

// Join is what all documents allow together. A denial of one wins. Nil documents are left out.
func Join(policies ...*Policy) *Policy {
	joined := &Policy{}
	for _, p := range policies {
		if p != nil {
			joined.statements = append(joined.statements, p.statements...)
			joined.documents = append(joined.documents, p.documents...)
		}
	}
	return joined
}

// Documents are the texts that the policy was made of.
func (p *Policy) Documents() []string { return slices.Clone(p.documents) }

// Request is what a caller wants to do.
type Request struct {
	// Action is service:Operation.
	Action string
	// Resources are ARNs: all of them have to be allowed. None: the action is about nothing in particular, which only a statement about
	// every resource, *, allows.
	Resources []string
	// Context are the values of condition keys that are known. What is asked for one resource is a value of its own. Nil: none is.
	Context func(key, resource string) []string
}

type statement struct {
	Sid         string          `json:"Sid"`
	Effect      string          `json:"Effect"`
	Action      oneOrMore       `json:"Action"`
	NotAction   oneOrMore       `json:"NotAction"`
	Resource    oneOrMore       `json:"Resource"`
	NotResource oneOrMore       `json:"NotResource"`
	Condition   conditions      `json:"Condition"`
	Principal   json.RawMessage `json:"Principal"`
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
	p := &Policy{documents: []string{string(text)}}
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
	case len(s.Resource) > 0 && len(s.NotResource) > 0:
		return errors.New("it has both Resource and NotResource")
	}
	for _, action := range slices.Concat(s.Action, s.NotAction) {
		if service, name, ok := strings.Cut(action, ":"); action != "*" && (!ok || service == "" || name == "") {
			return fmt.Errorf("action %q is not of the form service:Operation", action)
		}
	}
	for _, resource := range slices.Concat(s.Resource, s.NotResource) {
		if resource != "*" && !strings.HasPrefix(resource, "arn:") {
			return fmt.Errorf("resource %q is neither * nor an ARN", resource)
		}
		if err := literal(resource); err != nil {
			return err
		}
	}
	return s.Condition.validate()
}

// literal refuses a policy variable: taken for text, a statement with one would be about nothing, and a denial would deny nothing.
func literal(text string) error {
	if strings.Contains(text, "${") {
		return fmt.Errorf("%q has a policy variable, and those are not modelled: write the value, or *", text)
	}
	return nil
}

// Decide says whether the policy allows a request: it has to allow it for each resource.
func (p *Policy) Decide(r Request) Decision {
	resources := r.Resources
	if len(resources) == 0 {
		resources = []string{"*"}
	}
	decision := Allowed
	for _, resource := range resources {
		switch p.decide(r, resource) {
		case Denied:
			return Denied
		case NotAllowed:
			decision = NotAllowed
		}
	}
	return decision
}

func (p *Policy) decide(r Request, resource string) Decision {
	decision := NotAllowed
	for _, s := range p.statements {
		if !s.about(r.Action) || !s.covers(resource) || !s.Condition.hold(r.Context, resource) {
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

// covers says whether the statement is about a resource. One that names none is about all.
func (s statement) covers(resource string) bool {
	matches := func(pattern string) bool { return pattern == "*" || match(pattern, resource) }
	if len(s.NotResource) > 0 {
		return !slices.ContainsFunc(s.NotResource, matches)
	}
	return len(s.Resource) == 0 || slices.ContainsFunc(s.Resource, matches)
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
