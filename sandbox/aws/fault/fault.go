// Package fault makes the emulated AWS fail on purpose. Calls are throttled, denied, slow, broken or answered from an
// old state; load balancer nodes hear of nothing, targets fail their health checks, zones and machines are gone. Each
// fault has a filter (operations, caller, resource, zone) and a time in which it works.
//
// A Fault is a plain value, written as JSON in the admin API. A Set holds those that are in force and is asked by
// whatever they hit: Strike for a call, Holds, Sickens and Loses for the data plane. It does nothing by itself.
package fault

import (
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/throttle"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// Kind is what a fault does.
type Kind string

// The kinds of faults that hit calls.
const (
	Throttle Kind = "throttle" // refused as throttled, without having taken effect
	Deny     Kind = "deny"     // refused for want of permission, naming the action
	Error    Kind = "error"    // refused with Status (default 500) and Code (default InternalFailure)
	Delay    Kind = "delay"    // answered later by Delay
	Stale    Kind = "stale"    // reads show the state before a change, for Delay after that change
)

// The kinds of faults that hit the data plane.
const (
	Stuck     Kind = "stuck"     // the nodes of Zone hear of no change; what they missed reaches them at the end
	Unhealthy Kind = "unhealthy" // targets fail every health check
	Zone      Kind = "zone"      // nobody reaches Zone any more, and nothing in it reaches others
	Node      Kind = "node"      // the machine that Resource names does not answer
)

// kinds are all, with what they do, for those who have to choose.
var kinds = []struct {
	kind Kind
	does string
}{
	{Throttle, "refuse calls as throttled"},
	{Deny, "refuse calls for want of permission"},
	{Error, "refuse calls with --status and --code (500 InternalFailure)"},
	{Delay, "answer calls later, by --delay"},
	{Stale, "let reads show the state before a change, until the change is --delay old"},
	{Stuck, "let the load balancer nodes of --zone hear of no change"},
	{Unhealthy, "let targets fail their health checks"},
	{Zone, "take --zone away: load balancer nodes, targets and machines in it; open connections hang"},
	{Node, "take the machine away that --resource names"},
}

// Kinds lists all kinds, each with what it does in terms of the command line.
func Kinds() (names []Kind, does map[Kind]string) {
	does = map[Kind]string{}
	for _, k := range kinds {
		names, does[k.kind] = append(names, k.kind), k.does
	}
	return names, does
}

// OnCalls says whether a kind hits calls; the others hit the data plane.
func (k Kind) OnCalls() bool {
	switch k {
	case Throttle, Deny, Error, Delay, Stale:
		return true
	}
	return false
}

// Fault says what fails how, and when. The zero values of the filters match everything.
type Fault struct {
	ID   string `json:"id,omitempty"`
	Kind Kind   `json:"kind"`
	// Operations are patterns (with * and ?) for actions as policies name them, such as
	// elasticloadbalancing:Modify* or cloudwatch:GetMetricData.
	Operations []string `json:"operations,omitempty"`
	// Caller must be contained in the user agent or be equal to the access key.
	Caller string `json:"caller,omitempty"`
	// Resource must be contained in a parameter of the call (a name, an id, an ARN), in the ARN of the load balancer of a
	// stuck node, in the address:port or a target group's ARN of an unhealthy target, or be the name of a Node.
	Resource string `json:"resource,omitempty"`
	// Zone is the availability zone of a fault of the data plane. Empty: every zone, but for kind Zone, which needs one.
	Zone string `json:"zone,omitempty"`
	// From and Until bound the time in which the fault works. Zero: no bound.
	From  time.Time `json:"from,omitzero"`
	Until time.Time `json:"until,omitzero"`
	// Every n-th matching call is hit. 0 and 1: each.
	Every int `json:"every,omitempty"`
	// Delay of kind Delay, or the age of a change until which Stale hides it; in nanoseconds.
	Delay time.Duration `json:"delay,omitempty"`
	// Status, Code and Message of kind Error.
	Status  int    `json:"status,omitempty"`
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
}

// Validate says what is wrong with a fault. A filter that its kind never looks at is wrong as well: the fault would hit
// more than its author meant.
func (f Fault) Validate() error {
	names, _ := Kinds()
	if !slices.Contains(names, f.Kind) {
		return fmt.Errorf("there is no fault of kind %q: take one of %s", f.Kind, strings.Join(texts(names), ", "))
	}
	timed := f.Kind == Delay || f.Kind == Stale
	for _, wrong := range []struct {
		is   bool
		says string
	}{
		{timed && f.Delay <= 0, "needs a delay above 0"},
		{!timed && f.Delay != 0, "takes no delay"},
		{!f.From.IsZero() && !f.Until.IsZero() && !f.Until.After(f.From), "ends before it begins"},
		{f.Every < 0, "cannot hit every call of a negative number"},
		{!f.Kind.OnCalls() && (len(f.Operations) > 0 || f.Caller != "" || f.Every > 1), "does not look at calls: leave operations, caller and every out"},
		{f.Kind.OnCalls() && f.Zone != "", "hits calls, and those have no zone"},
		{f.Kind == Zone && f.Zone == "", "needs a zone"},
		{f.Kind == Zone && f.Resource != "", "hits all of a zone: leave the resource out"},
		{f.Kind == Node && f.Resource == "", "needs the name of a node as its resource"},
		{f.Kind != Error && (f.Status != 0 || f.Code != "" || f.Message != ""), "has an answer of its own: leave status, code and message out"},
		{f.Status != 0 && (f.Status < 400 || f.Status > 599), "needs a status from 400 to 599"},
	} {
		if wrong.is {
			return fmt.Errorf("a fault of kind %s %s", f.Kind, wrong.says)
		}
	}
	for _, pattern := range f.Operations {
		if _, err := path.Match(pattern, ""); err != nil || !strings.Contains(pattern, ":") && pattern != "*" {
			return fmt.Errorf("operations: %q is no pattern: write one like elasticloadbalancing:Modify*", pattern)
		}
	}
	return nil
}

func texts(kinds []Kind) (list []string) {
	for _, k := range kinds {
		list = append(list, string(k))
	}
	return list
}

// in says whether the fault works at a moment.
func (f Fault) in(now time.Time) bool {
	return !now.Before(f.From) && (f.Until.IsZero() || now.Before(f.Until))
}

// Call is what faults can be told apart by.
type Call struct {
	// Service and Operation are those of the action, as policies name it.
	Service, Operation   string
	AccessKey, UserAgent string
	// Parameters are those of the call, by name.
	Parameters map[string]string
	// Principal is the ARN of the caller.
	Principal string
	// Resource is the ARN that a denial names. Empty: it names none.
	Resource string
	// Dialect decides on the code of a denial.
	Dialect wire.Dialect
}

// Effect is what the faults do to one call together.
type Effect struct {
	Delay time.Duration
	Stale *eventual.Staleness
	// Error is nil for a call that goes on.
	Error *wire.Error
}

func (f Fault) matchesCall(c Call, now time.Time) bool {
	if !f.Kind.OnCalls() || !f.in(now) || !f.names(c.Parameters) {
		return false
	}
	if f.Caller != "" && f.Caller != c.AccessKey && !strings.Contains(c.UserAgent, f.Caller) {
		return false
	}
	name := c.Service + ":" + c.Operation
	return len(f.Operations) == 0 || slices.ContainsFunc(f.Operations, func(pattern string) bool {
		ok, _ := path.Match(pattern, name)
		return ok
	})
}

// names says whether a parameter speaks of the resource.
func (f Fault) names(parameters map[string]string) bool {
	if f.Resource == "" {
		return true
	}
	for _, value := range parameters {
		if strings.Contains(value, f.Resource) {
			return true
		}
	}
	return false
}

func (f Fault) apply(c Call, effect *Effect) {
	switch f.Kind {
	case Delay:
		effect.Delay += f.Delay
	case Stale:
		effect.Stale = &eventual.Staleness{Probability: 1, Window: f.Delay}
	case Throttle:
		effect.fail(throttle.Refusal(c.Service))
	case Deny:
		effect.fail(Denial(c, c.Service+":"+c.Operation, false))
	case Error:
		e := wire.Errorf("InternalFailure", "An internal error has occurred.").WithStatus(http.StatusInternalServerError)
		if f.Status != 0 {
			e.Status = f.Status
		}
		if f.Code != "" {
			e.Code = f.Code
		}
		if f.Message != "" {
			e.Message = f.Message
		}
		effect.fail(e)
	}
}

// fail keeps the first error.
func (e *Effect) fail(err *wire.Error) {
	if e.Error == nil {
		e.Error = err
	}
}

// Denial is the answer to a call for want of permission for an action, which a policy denies explicitly, or none allows.
func Denial(c Call, action string, explicit bool) *wire.Error {
	why := fmt.Sprintf("because no identity-based policy allows the %s action", action)
	if explicit {
		why = "with an explicit deny in an identity-based policy"
	}
	on := ""
	if c.Resource != "" {
		on = "on resource: " + c.Resource + " "
	}
	text := fmt.Sprintf("User: %s is not authorized to perform: %s %s%s", c.Principal, action, on, why)
	switch c.Dialect {
	case wire.EC2Dialect:
		return wire.Errorf("UnauthorizedOperation", "You are not authorized to perform this operation. %s", text).WithStatus(http.StatusForbidden)
	case wire.JSONDialect:
		return wire.Errorf("AccessDeniedException", "%s", text)
	}
	return wire.Errorf("AccessDenied", "%s", text).WithStatus(http.StatusForbidden)
}
