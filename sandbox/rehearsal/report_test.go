package rehearsal

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/load"
)

// The many ways in which users may have been let down, none of which may pass for a success.
func TestOnlyAWholeReleaseWithoutLossPasses(t *testing.T) {
	good := func() Report {
		return Report{Requests: load.Result{
			Intended: 10, Sent: 10, Answered: 10, Status: map[int]uint64{200: 10},
			Versions: map[string]load.Version{"v1": {Answered: 4}, "v2": {Answered: 6}},
		}}
	}
	if r := good(); !r.Passed() {
		t.Fatalf("a good report does not pass: %+v", r)
	}
	for why, spoil := range map[string]func(*Report){
		"a request failed":                        func(r *Report) { r.Requests.Failed = 1 },
		"a request was not sent":                  func(r *Report) { r.Requests.Saturation.Unsent = 1; r.Requests.Intended = 11 },
		"a request is unaccounted for":            func(r *Report) { r.Requests.Intended = 11 },
		"an answer came from the load balancer":   func(r *Report) { r.Requests.Versions["v2"] = load.Version{Answered: 5} },
		"new clients would have found no address": func(r *Report) { r.Requests.FailedLookups = 1 },
		"nothing was sent":                        func(r *Report) { r.Requests = load.Result{} },
		"a law was broken":                        func(r *Report) { r.Violations = []Violation{{Law: 2}} },
		"the release did not come to its end":     func(r *Report) { r.Problem = "waited in vain" },
	} {
		r := good()
		spoil(&r)
		if r.Passed() {
			t.Errorf("%s: the report passes", why)
		}
		var text strings.Builder
		if r.Print(&text); !strings.Contains(text.String(), "\nFAILED: ") {
			t.Errorf("%s: the text says\n%s", why, text.String())
		}
	}
}

// A listener that has lost its rule answers 404 by its default action, which is as bad for users as a 503.
func TestTheLoadCountsAnswersFrom400On(t *testing.T) {
	lost := httptest.NewServer(http.NotFoundHandler())
	defer lost.Close()
	at := netip.MustParseAddrPort(lost.Listener.Addr().String())
	config := demoLoad(DemoOptions{Rate: 100}, "shop", func(context.Context) ([]netip.AddrPort, error) { return []netip.AddrPort{at}, nil })
	config.Duration = 100 * time.Millisecond
	result, err := load.Run(t.Context(), config)
	if err != nil || result.Sent == 0 || result.Failed != result.Sent {
		t.Errorf("%d of %d requests failed: %v", result.Failed, result.Sent, err)
	}
}
