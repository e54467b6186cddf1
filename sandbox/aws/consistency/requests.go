package consistency

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// checkRequests holds each request to the versions that its node had while it can have been matched: from when the client sent it to
// when the target had it. All rules of a run match all requests, so that the one with the smallest number decides.
func (h *History) checkRequests() []Violation {
	var found []Violation
	nodes := h.toldByNode()
	for _, r := range h.Requests {
		if wrong := h.checkRequest(r, nodes[nodeName{r.LoadBalancer, r.Zone}]); wrong != nil {
			found = append(found, *wrong)
		}
	}
	return found
}

func (h *History) checkRequest(r Request, told []Told) *Violation {
	var actions []string
	closed := false
	for i, t := range told {
		if t.At.After(r.Arrived) || i+1 < len(told) && told[i+1].Done.Before(r.Sent) {
			continue
		}
		rules := t.Listeners[r.Listener]
		if rules == nil || i == 0 && t.Done.After(r.Sent) {
			closed = true
		}
		if rules == nil {
			continue
		}
		action := winner(r.Listener, rules)
		if h.serves(r, action) {
			return nil
		}
		actions = append(actions, action)
	}
	if r.Failed != "" && (closed || len(actions) == 0) {
		return nil
	}
	return new(violated("weights", "a request through the node of %s, sent at %s and with the target at %s, was answered %d by %q%q %s; the node had %q",
		r.Zone, clock(r.Sent), clock(r.Arrived), r.Status, r.Fixed, r.Group, r.Failed, actions))
}

// winner is the action of the rule with the smallest number, or of the listener itself.
func winner(listener string, rules map[string]Content) string {
	best, action := 1<<30, rules[listener].Action
	for rule, c := range rules {
		if n, err := strconv.Atoi(c.Priority); rule != listener && err == nil && n < best {
			best, action = n, c.Action
		}
	}
	return action
}

// serves says whether an action can have given the answer.
func (h *History) serves(r Request, action string) bool {
	if body, fixed := strings.CutPrefix(action, "fixed "); fixed {
		return r.Fixed == body
	}
	groups, _ := strings.CutPrefix(action, "forward ")
	for group := range strings.FieldsSeq(groups) {
		arn, weight, _ := strings.Cut(group, "=")
		// A group of which no target is healthy answers 503.
		if weight != "0" && (r.Status == 503 || r.Status == 200 && r.Group == arn && h.has(r, arn)) {
			return true
		}
	}
	return false
}

// has says whether the node had the target in a group at some moment of the request.
func (h *History) has(r Request, group string) bool {
	var in []ToldTargets
	for _, t := range h.Targets {
		if t.LoadBalancer == r.LoadBalancer && t.Zone == r.Zone && t.Group == group {
			in = append(in, t)
		}
	}
	for i, t := range in {
		until := time.Time{}
		if i+1 < len(in) {
			until = in[i+1].Done
		}
		if !t.At.After(r.Arrived) && (until.IsZero() || !until.Before(r.Sent)) && slices.Contains(t.Targets, r.Target) {
			return true
		}
	}
	return false
}

func isListener(book string) bool { return strings.Contains(book, ":listener/") }
