package journal

import (
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
)

// Filter chooses records. The zero Filter takes all.
type Filter struct {
	// Operations are patterns (with * and ?) for service:Operation of calls; Events for the kinds of data-plane events.
	// If only one of them is set, only calls or only events are taken.
	Operations, Events []string
	// Caller must be contained in the user agent of a call, or be equal to its access key.
	Caller string
	// Resource must be contained in a parameter of a call.
	Resource string
	// Failed takes only calls that were answered with an error.
	Failed bool
}

// The names of a Filter's fields in queries.
const (
	operationQuery = "operation"
	eventQuery     = "event"
	callerQuery    = "caller"
	resourceQuery  = "resource"
	failedQuery    = "failed"
)

// Query writes the filter in the form that FilterOf reads.
func (f Filter) Query() url.Values {
	q := url.Values{}
	for _, pattern := range f.Operations {
		q.Add(operationQuery, pattern)
	}
	for _, pattern := range f.Events {
		q.Add(eventQuery, pattern)
	}
	if f.Caller != "" {
		q.Set(callerQuery, f.Caller)
	}
	if f.Resource != "" {
		q.Set(resourceQuery, f.Resource)
	}
	if f.Failed {
		q.Set(failedQuery, "1")
	}
	return q
}

// FilterOf reads a filter from a query. It fails if a pattern is none.
func FilterOf(q url.Values) (Filter, error) {
	f := Filter{
		Operations: q[operationQuery], Events: q[eventQuery],
		Caller: q.Get(callerQuery), Resource: q.Get(resourceQuery), Failed: q.Has(failedQuery),
	}
	for _, pattern := range slices.Concat(f.Operations, f.Events) {
		if _, err := path.Match(pattern, ""); err != nil {
			return Filter{}, fmt.Errorf("%q is no pattern: write one like elasticloadbalancing:Modify*", pattern)
		}
	}
	return f, nil
}

// Takes says whether the filter takes a record.
func (f Filter) Takes(r Record) bool {
	aboutCalls := len(f.Operations) > 0 || f.Caller != "" || f.Resource != "" || f.Failed
	if r.Event != "" {
		return len(f.Events) > 0 && matches(f.Events, r.Event) || len(f.Events) == 0 && !aboutCalls
	}
	if !aboutCalls {
		return len(f.Events) == 0
	}
	return (len(f.Operations) == 0 || matches(f.Operations, r.Service+":"+r.Operation)) &&
		(f.Caller == "" || f.Caller == r.AccessKey || strings.Contains(r.UserAgent, f.Caller)) &&
		(f.Resource == "" || r.speaksOf(f.Resource)) &&
		(!f.Failed || r.Code != "")
}

func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		ok, _ := path.Match(pattern, name)
		return ok
	})
}

func (r Record) speaksOf(resource string) bool {
	for _, value := range r.Parameters {
		if strings.Contains(value, resource) {
			return true
		}
	}
	return false
}
