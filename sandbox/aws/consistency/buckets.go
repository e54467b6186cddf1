package consistency

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// size is that of a bucket, and what flows into it per second.
type size struct{ burst, refill float64 }

// sizes are AWS's, as its page on throttling of Elastic Load Balancing has them. All calls together need a token of "" too.
var sizes = map[string]size{
	"": {40, 10}, "resource intensive": {10, 0.2}, "registration": {20, 4}, "non-mutating": {40, 10}, "mutating": {20, 3},
}

func category(operation string) string {
	switch {
	case operation == "CreateLoadBalancer", operation == "SetSubnets":
		return "resource intensive"
	case operation == "RegisterTargets", operation == "DeregisterTargets":
		return "registration"
	case strings.HasPrefix(operation, "Describe"):
		return "non-mutating"
	}
	return "mutating"
}

// checkBuckets replays the calls on buckets of which only calls that were let in take a token.
func (h *History) checkBuckets() []Violation {
	if h.Unthrottled {
		return nil
	}
	calls := slices.Clone(h.Calls)
	slices.SortStableFunc(calls, func(a, b Call) int {
		return cmp.Or(a.Received.Compare(b.Received), cmp.Compare(a.Sequence, b.Sequence))
	})
	tokens, at := map[string]float64{}, map[string]time.Time{}
	const rounding = 1e-6
	for _, c := range calls {
		least := 1e9
		names := []string{"", category(c.Operation)}
		for _, name := range names {
			s := sizes[name]
			if at[name].IsZero() {
				tokens[name] = s.burst
			} else {
				tokens[name] = min(s.burst, tokens[name]+c.Received.Sub(at[name]).Seconds()*s.refill)
			}
			at[name] = c.Received
			least = min(least, tokens[name])
		}
		refused := c.Code == "Throttling"
		switch {
		case refused && least >= 1+rounding:
			return []Violation{violated("throttle", "%s at %s was refused with %.3f tokens left", c.Operation, clock(c.Received), least)}
		case !refused && least < 1-rounding:
			return []Violation{violated("throttle", "%s at %s was let in with %.3f tokens left", c.Operation, clock(c.Received), least)}
		case !refused:
			for _, name := range names {
				tokens[name]--
			}
		}
	}
	return nil
}
