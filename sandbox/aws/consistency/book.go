package consistency

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
)

// A book is a resource and what belongs to it: a listener with its rules, a target group, or a load balancer. Calls that change different
// books have no order between them.
//
//	page      "listener" (the listener itself), its rules by ARN; "group"; "balancer"
//	entry     what a page says and what it said before its last change, until the window is over
type book map[string]entry

type entry struct {
	now, before Content
	// born: the last change made the page. gone: it is deleted.
	born, gone bool
	// changed is the latest moment at which the change can have been accepted.
	changed time.Time
	// joint is the number of the permutation that was the last change, 0 for another change; past are those before it.
	joint int
	past  []int
	// seen are the callers that a read has shown the newest state.
	seen map[string]bool
	// made is the latest moment at which the page can have been made, met are the callers that have seen or used it since, in whatever state.
	made time.Time
	met  map[string]bool
}

// deed is what one call does to one book, or learns of it.
type deed struct {
	call *Call
	// from and to are when it can have happened.
	from, to time.Time
	known    bool // exactly
	// changes are pages with what they say from now on; a nil value deletes. all deletes every page.
	changes map[string]*Content
	fresh   bool // the pages of changes are made by this deed
	joint   int
	all     bool
	// answered is what the call's own answer says of the pages that it changed.
	answered map[string]Content
	// shown are the pages that a read was shown, of those in asked; asked nil: of all rules.
	read  bool
	asked []string
	shown map[string]Content
	// found and missed are pages that the call needed.
	found, missed []string
}

func (d *deed) writes() bool { return len(d.changes) > 0 || d.all }

// reader decides what a deed may see.
type reader struct {
	window    time.Duration
	monotonic bool
}

// step carries a deed out on a book. It says which claim the deed breaks, if any; the book is not changed in place.
func (r reader) step(b book, d *deed) (book, *Violation) {
	for _, page := range d.missed {
		if e, there := b[page]; there && !e.gone {
			if _, why := r.mayMiss(e, d); why != "" {
				return nil, new(violated("dependent", "%s was refused with %s, but %s %s", d, d.call.Code, short(page), why))
			}
		}
	}
	for _, page := range d.found {
		e, there := b[page]
		if !there || e.gone {
			return nil, new(violated("fresh", "%s found %s, which is not there", d, short(page)))
		}
		e = e.metBy(d.call.Caller())
		if e.born {
			e = e.seenBy(d.call.Caller())
		}
		b = b.with(page, e)
	}
	for page, want := range d.answered {
		if said := b[page].after(d.changes[page]); said != want {
			return nil, new(violated("answer", "%s answered %v for %s, which is %v now", d, want, short(page), said))
		}
	}
	if d.read {
		return r.look(b, d)
	}
	return b.changed(d), nil
}

// changed is the book after the deed.
func (b book) changed(d *deed) book {
	if !d.writes() {
		return b
	}
	next := maps.Clone(b)
	for page, to := range d.changes {
		e := next[page]
		past := e.past
		if e.joint > 0 {
			past = append(slices.Clone(past), e.joint)
		}
		changed := entry{before: e.now, born: d.fresh, changed: d.to, joint: d.joint, past: past, gone: to == nil, now: e.after(to), made: e.made, met: e.met}
		if d.fresh {
			changed.made, changed.met = d.to, nil
		}
		next[page] = changed
	}
	if d.all {
		for page, e := range next {
			e.gone = true
			next[page] = e
		}
	}
	return next
}

// after is what a page says after a change: what the change does not tell stays.
func (e entry) after(to *Content) Content {
	if to == nil {
		return e.now
	}
	return Content{cmp.Or(to.Priority, e.now.Priority), cmp.Or(to.Action, e.now.Action)}
}

func (b book) with(page string, e entry) book {
	next := maps.Clone(b)
	next[page] = e
	return next
}

func (e entry) seenBy(caller string) entry {
	e.seen = with(e.seen, caller)
	return e
}

func (e entry) metBy(caller string) entry {
	e.met = with(e.met, caller)
	return e
}

func with(callers map[string]bool, one string) map[string]bool {
	if callers[one] {
		return callers
	}
	more := map[string]bool{one: true}
	maps.Copy(more, callers)
	return more
}

// mayLag says why a read may not show the state before the last change; empty: it may.
func (r reader) mayLag(e entry, d *deed) (claim, why string) {
	switch {
	case !d.from.Before(e.changed.Add(r.window)):
		return "fresh", fmt.Sprintf("was changed %s ago", d.from.Sub(e.changed))
	case r.monotonic && e.seen[d.call.Caller()]:
		return "monotonic", "was shown to this caller in its newest state"
	}
	return "", ""
}

// mayMiss says why a deed may not miss a page; empty: it may. A change does not make a new page older.
func (r reader) mayMiss(e entry, d *deed) (claim, why string) {
	switch {
	case !d.from.Before(e.made.Add(r.window)):
		return "fresh", fmt.Sprintf("was made %s ago", d.from.Sub(e.made))
	case r.monotonic && (e.met[d.call.Caller()] || e.seen[d.call.Caller()]):
		return "monotonic", "was shown to this caller"
	}
	return "", ""
}

// look carries out a read.
func (r reader) look(b book, d *deed) (book, *Violation) {
	pages := d.asked
	if pages == nil {
		for page := range b {
			if strings.Contains(page, ":listener-rule/") {
				pages = append(pages, page)
			}
		}
	}
	for page := range d.shown {
		if e, there := b[page]; !there || e.gone {
			return nil, new(violated("fresh", "%s was shown %s, which is not there", d, short(page)))
		}
	}
	joint := halves{}
	next := maps.Clone(b)
	for _, page := range pages {
		e, there := b[page]
		if !there || e.gone {
			continue
		}
		shown, present := d.shown[page]
		old := shown == e.before && shown != e.now && !e.born
		switch {
		case !present:
			if claim, why := r.mayMiss(e, d); claim != "" {
				return nil, new(violated(claim, "%s was not shown %s, which %s", d, short(page), why))
			}
			continue // which says nothing of what has changed since
		case shown == e.now:
			next[page] = e.metBy(d.call.Caller()).seenBy(d.call.Caller())
		case !old:
			return nil, new(violated("fresh", "%s was shown %v for %s, which says %v and said %v", d, shown, short(page), e.now, e.before))
		default:
			if claim, why := r.mayLag(e, d); claim != "" {
				return nil, new(violated(claim, "%s was shown %v for %s, which says %v and %s", d, shown, short(page), e.now, why))
			}
			next[page] = e.metBy(d.call.Caller())
		}
		if e.joint > 0 && e.now != e.before {
			joint.note(e.joint, old, page)
		}
		for _, one := range e.past {
			joint.note(one, false, page)
		}
	}
	for _, h := range joint {
		if len(h) == 2 {
			return nil, new(violated("permutation", "%s was shown %s after and %s before one call of SetRulePriorities", d, h[false], h[true]))
		}
	}
	return next, nil
}

// halves are, by permutation, a page that was shown as before it (true) and one as after it (false).
type halves map[int]map[bool]string

func (h halves) note(permutation int, old bool, page string) {
	if h[permutation] == nil {
		h[permutation] = map[bool]string{}
	}
	h[permutation][old] = short(page)
}

// String says who did what, when.
func (d *deed) String() string {
	return fmt.Sprintf("%s of %s at %s", d.call.Operation, program(d.call.UserAgent), d.call.Received.Format("15:04:05.000000"))
}

// program is the name that the program gave itself, in a user agent of the SDK.
func program(agent string) string {
	_, name, _ := strings.Cut(agent, "app/")
	name, _, _ = strings.Cut(name, " ")
	return name
}

func short(arn string) string { return arn[strings.LastIndex(arn, ":")+1:] }

// checkBooks finds an order of the deeds of each book that explains them, and returns it by book. A book without such an order is left
// out: there is nothing that nodes could be held to.
func (h *History) checkBooks() (map[string][]*deed, []Violation) {
	r := reader{window: h.most(profile.ReadWindow), monotonic: h.Profile.MonotonicReads}
	model := porcupine.Model{
		Init: func() any { return book{} },
		Step: func(state, input, _ any) (bool, any) {
			next, wrong := r.step(state.(book), input.(*deed))
			return wrong == nil, next
		},
		Equal: func(a, b any) bool { return reflect.DeepEqual(a, b) },
	}
	order := map[string][]*deed{}
	var found []Violation
	deeds := h.deeds()
	for _, name := range slices.Sorted(maps.Keys(deeds)) {
		var operations []porcupine.Operation
		for _, d := range deeds[name] {
			operations = append(operations, porcupine.Operation{Input: d, Call: d.from.UnixNano(), Return: d.to.UnixNano()})
		}
		result, info := porcupine.CheckOperationsVerbose(model, operations, time.Minute)
		var longest []porcupine.Operation
		for _, partition := range info.PartialLinearizationsOperations() {
			for _, one := range partition {
				if len(one) > len(longest) {
					longest = one
				}
			}
		}
		var done []*deed
		for _, o := range longest {
			done = append(done, o.Input.(*deed))
		}
		switch result {
		case porcupine.Ok:
			order[name] = done
		case porcupine.Illegal:
			found = append(found, r.explain(done, deeds[name]))
		case porcupine.Unknown:
			found = append(found, violated("fresh", "no order of the %d calls about %s was found within a minute", len(deeds[name]), short(name)))
		}
	}
	return order, found
}

// explain says why the deed that comes next cannot come.
func (r reader) explain(done, all []*deed) Violation {
	state := book{}
	for _, d := range done {
		state, _ = r.step(state, d)
	}
	var first *Violation
	for _, d := range all {
		if slices.Contains(done, d) {
			continue
		}
		if _, wrong := r.step(state, d); wrong != nil {
			first = wrong
			break
		}
	}
	if first == nil {
		return violated("fresh", "no order of the calls explains their answers")
	}
	return *first
}
