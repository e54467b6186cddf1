package aws

import (
	"sync"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/report"
)

// reportInterval is how often the counts of the nodes are looked at. What was counted is taken for the
// middle of the interval.
const reportInterval = report.Interval

// reports takes what the nodes of load balancers count to CloudWatch, at full multiples of the interval.
type reports struct {
	mu       sync.Mutex
	reporter *report.Reporter
	timer    *time.Timer
	ended    bool
}

func (e *Emulator) startReports() {
	e.reports.mu.Lock()
	defer e.reports.mu.Unlock()
	e.reports.reporter = report.New()
	e.reports.timer = time.AfterFunc(untilReport(), e.report)
}

func untilReport() time.Duration {
	now := time.Now()
	return now.Truncate(reportInterval).Add(reportInterval).Sub(now)
}

func (e *Emulator) report() {
	e.reports.mu.Lock()
	defer e.reports.mu.Unlock()
	if e.reports.ended {
		return
	}
	e.cloudwatch.Record(time.Now().Add(-reportInterval/2), e.reports.reporter.Samples(e.elbv2.Stats())...)
	e.reports.timer.Reset(untilReport())
}

// end waits for a report that is being made.
func (r *reports) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	if r.timer != nil {
		r.timer.Stop()
	}
}
