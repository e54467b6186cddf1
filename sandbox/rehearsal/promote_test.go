package rehearsal

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Without a pause between promotes, AWS's own refill would be measured once its burst is used up.
func TestPromotesKeepTheirPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		p := newPace(500 * time.Millisecond)
		var at []time.Duration
		for _, takes := range []time.Duration{20 * time.Millisecond, 400 * time.Millisecond, 700 * time.Millisecond, 0, 0} {
			if err := p.wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			at = append(at, time.Since(begin)/time.Millisecond)
			time.Sleep(takes) // what a promote takes, in virtual time
		}
		// The fourth is late since the third took 700 ms; the fifth keeps its distance from the fourth.
		want := []time.Duration{500, 1000, 1500, 2200, 2700}
		for i := range want {
			if at[i] != want[i] {
				t.Fatalf("promotes began at %v ms, want %v", at, want)
			}
		}
	})
}

func TestThePromoteReportTellsItsPaceAndParts(t *testing.T) {
	ms := time.Millisecond
	r := PromoteReport{
		Every: 500 * ms, Latency: []time.Duration{10 * ms, 11 * ms, 30 * ms},
		Answered: []time.Duration{3 * ms, 4 * ms, 8 * ms}, Decided: []time.Duration{4 * ms, 5 * ms, 9 * ms}, Written: []time.Duration{6 * ms, 8 * ms, 20 * ms},
		Changes: map[string]int{"elasticloadbalancing:ModifyRule": 3},
	}
	var text strings.Builder
	r.Print(&text)
	for _, want := range []string{
		"3 promotes, one each 500ms: median 11ms, p99 30ms, max 30ms",
		"until the API server has answered the promote 4ms, until decided 5ms, until written to the Ingress 8ms",
		"elasticloadbalancing:ModifyRule               1.00",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is not in\n%s", want, text.String())
		}
	}
}
