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
	t.Parallel()
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
	t.Parallel()
	lost := httptest.NewServer(http.NotFoundHandler())
	defer lost.Close()
	at := netip.MustParseAddrPort(lost.Listener.Addr().String())
	config := demoLoad(DemoOptions{Rate: 100}, "shop", func(context.Context) ([]netip.AddrPort, time.Time, error) {
		return []netip.AddrPort{at}, time.Now().Add(time.Minute), nil
	})
	config.Duration = 100 * time.Millisecond
	result, err := load.Run(t.Context(), config)
	if err != nil || result.Sent == 0 || result.Failed != result.Sent {
		t.Errorf("%d of %d requests failed: %v", result.Failed, result.Sent, err)
	}
}

// Readers of the text see when what was answered, also if a whole status or version was there for a second only.
func TestTheTextTellsStatusesAndVersionsOverTime(t *testing.T) {
	t.Parallel()
	r := Report{Requests: load.Result{
		Status: map[int]uint64{200: 590, 503: 9}, Versions: map[string]load.Version{"v1": {}, "v2": {}},
	}}
	for i := range 60 { // two rows of three seconds: 21 to 23 and 24 to 26; 10 requests a second
		s := load.Second{Second: i, Sent: 10, Status: map[int]uint64{200: 10}, Versions: map[string]uint64{"v1": 10}}
		switch {
		case i == 22:
			s.Status, s.Versions, s.Failed = map[int]uint64{503: 9}, nil, 10 // and one without an answer
		case i > 23:
			s.Versions = map[string]uint64{"v1": 4, "v2": 6}
		}
		r.Requests.Seconds = append(r.Requests.Seconds, s)
	}
	var text strings.Builder
	r.Print(&text)
	var course [][]string
	for line := range strings.Lines(text.String()) {
		if fields := strings.Fields(line); strings.Contains(line, "|") {
			course = append(course, fields)
		}
	}
	if len(course) != 21 {
		t.Fatalf("%d rows, want a head and 20 for 60 seconds:\n%s", len(course), text.String())
	}
	for i, want := range map[int]string{
		0: "from second sent failed status 200 status 503 no answer | v1 v2",
		1: "0 30 0 30 0 0 | 30 0",
		8: "21 30 10 20 9 1 | 20 0",
		9: "24 30 0 30 0 0 | 12 18",
	} {
		if got := strings.Join(course[i], " "); got != want {
			t.Errorf("row %d is %q, want %q", i, got, want)
		}
	}
}
