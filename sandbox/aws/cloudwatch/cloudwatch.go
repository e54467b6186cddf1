// Package cloudwatch keeps metrics and answers questions about them: those that the load balancers of
// the emulator report (Record), and those that callers put there themselves (PutMetricData).
//
//	metrics.Record(time.Now(), cloudwatch.Sample{
//		Namespace: cloudwatch.ApplicationELB, Name: "RequestCount", Unit: types.StandardUnitCount,
//		Dimensions: cloudwatch.Dimensions{"LoadBalancer": "app/web/0123456789abcdef"}, Values: []float64{1},
//	})
//
// A reported metric is told some time after the end of its minute, as the profile says; one that is put is told
// at once. The resolution is one minute, percentiles come from a histogram and are right to one
// percent. A metric without data has no values, not zeros.
//
// Not modelled: alarms, dashboards, streams, high resolution, anomaly detection, SEARCH and the other
// functions of metric math that compile does not know, trimmed means, entities, linked accounts, and
// the coarser data that AWS keeps for longer than 15 days.
package cloudwatch

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// The namespaces of load balancers.
const (
	ApplicationELB = "AWS/ApplicationELB"
	NetworkELB     = "AWS/NetworkELB"
)

// Dimensions are what a metric is told apart by, besides namespace and name: values by name.
type Dimensions map[string]string

// Sample is what was measured of one metric.
type Sample struct {
	Namespace, Name string
	Dimensions      Dimensions
	Unit            types.StandardUnit
	// Values were measured Counts times each; no Counts: once each.
	Values, Counts []float64
}

// LoadBalancer is the value of the dimension LoadBalancer (or TargetGroup) for an ARN: its tail from app/, net/ or
// targetgroup/ on. It is empty for other ARNs.
func LoadBalancer(arn string) string {
	_, tail, _ := strings.Cut(arn, ":loadbalancer/")
	if i := strings.Index(arn, ":targetgroup/"); i >= 0 {
		return arn[i+1:]
	}
	return tail
}

// keep is how long data is kept.
const keep = 15 * 24 * time.Hour

// Service is CloudWatch of one account in one region. Its methods may be called from several goroutines.
type Service struct {
	draws *profile.Draws

	mu     sync.Mutex
	series map[string]*series
	// trimmed is the minute at which old data was dropped last.
	trimmed int64
}

// New returns a service without metrics.
func New(draws *profile.Draws) *Service { return &Service{draws: draws, series: map[string]*series{}} }

// Operations are the operations that the service answers.
func (s *Service) Operations() wire.Operations[eventual.Reader] {
	return wire.NewOperations(
		wire.Of(s.GetMetricData),
		wire.Of(s.GetMetricStatistics),
		wire.Of(s.ListMetrics),
		wire.Of(s.PutMetricData),
	)
}

// series is one metric.
type series struct {
	namespace, name string
	dimensions      Dimensions
	unit            types.StandardUnit
	minutes         map[int64]*bucket // by minutes since 1970
}

// bucket is what was measured in a minute, or in several.
type bucket struct {
	visible              time.Time
	count, sum, min, max float64
	// histogram counts values by logarithmic class; blurred says that some values are known only as statistics.
	histogram map[int]float64
	blurred   bool
}

func key(namespace, name string, dimensions Dimensions) string {
	var out strings.Builder
	out.WriteString(namespace + "\x00" + name)
	for _, d := range slices.Sorted(maps.Keys(dimensions)) {
		out.WriteString("\x00" + d + "\x00" + dimensions[d])
	}
	return out.String()
}

// Record takes what the load balancers measured at a time. It is told when the minute is over and the
// delay of the profile has passed.
func (s *Service) Record(at time.Time, samples ...Sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	minute := at.Unix() / 60
	end := time.Unix((minute+1)*60, 0)
	for _, sample := range samples {
		k := key(sample.Namespace, sample.Name, sample.Dimensions)
		b := s.bucket(k, sample, minute)
		if b.visible.IsZero() {
			b.visible = end.Add(s.draws.Once(profile.MetricPublish, k+"@"+strconv.FormatInt(minute, 10)))
		}
		b.measure(sample.Values, sample.Counts)
	}
}

// bucket is that of a metric and a minute; it is made if there is none.
func (s *Service) bucket(k string, sample Sample, minute int64) *bucket {
	s.trim(minute)
	one := s.series[k]
	if one == nil {
		one = &series{namespace: sample.Namespace, name: sample.Name, dimensions: maps.Clone(sample.Dimensions), minutes: map[int64]*bucket{}}
		s.series[k] = one
	}
	if sample.Unit != "" {
		one.unit = sample.Unit
	}
	b := one.minutes[minute]
	if b == nil {
		b = newBucket()
		one.minutes[minute] = b
	}
	return b
}

// trim drops what is too old, once an hour.
func (s *Service) trim(minute int64) {
	if minute-s.trimmed < 60 {
		return
	}
	s.trimmed = minute
	oldest := minute - int64(keep/time.Minute)
	for k, one := range s.series {
		maps.DeleteFunc(one.minutes, func(m int64, _ *bucket) bool { return m < oldest })
		if len(one.minutes) == 0 {
			delete(s.series, k)
		}
	}
}

func newBucket() *bucket {
	return &bucket{min: math.Inf(1), max: math.Inf(-1), histogram: map[int]float64{}}
}

func (b *bucket) measure(values, counts []float64) {
	for i, v := range values {
		n := 1.0
		if i < len(counts) {
			n = counts[i]
		}
		b.count += n
		b.sum += v * n
		b.min, b.max = min(b.min, v), max(b.max, v)
		b.histogram[class(v)] += n
	}
}

// add puts what another bucket has on top.
func (b *bucket) add(o *bucket) {
	b.count += o.count
	b.sum += o.sum
	b.min, b.max = min(b.min, o.min), max(b.max, o.max)
	b.blurred = b.blurred || o.blurred
	for c, n := range o.histogram {
		b.histogram[c] += n
	}
}

// width is the ratio of the bounds of a class: values are told to one percent.
const width = 1.02

// offset keeps the classes of values below 1 on the side of their sign.
const offset = 20_000

// class is 0 for 0, above for positive and below for negative values.
func class(v float64) int {
	if v == 0 || math.IsNaN(v) {
		return 0
	}
	c := max(int(math.Floor(math.Log(math.Abs(v))/math.Log(width)))+offset, 1)
	if v < 0 {
		return -c
	}
	return c
}

// middle is a value of a class.
func middle(c int) float64 {
	if c == 0 {
		return 0
	}
	v := math.Pow(width, math.Abs(float64(c))-offset+0.5)
	if c < 0 {
		return -v
	}
	return v
}

// percentile is the value that p percent of the values do not exceed; false if that cannot be told.
func (b *bucket) percentile(p float64) (float64, bool) {
	if b.min == b.max {
		return b.min, true
	}
	if b.blurred {
		return 0, false
	}
	rank, seen := p/100*b.count, 0.0
	for _, c := range slices.Sorted(maps.Keys(b.histogram)) {
		if seen += b.histogram[c]; seen >= rank {
			return min(max(middle(c), b.min), b.max), true
		}
	}
	return b.max, true
}

// statistic reads a statistic by name: SampleCount, Average, Sum, Minimum, Maximum, or p0 to p100.
type statistic func(*bucket) (float64, bool)

func newStatistic(name string) (statistic, bool) {
	switch name {
	case "SampleCount":
		return func(b *bucket) (float64, bool) { return b.count, true }, true
	case "Sum":
		return func(b *bucket) (float64, bool) { return b.sum, true }, true
	case "Average":
		return func(b *bucket) (float64, bool) { return b.sum / b.count, b.count != 0 }, true
	case "Minimum":
		return func(b *bucket) (float64, bool) { return b.min, true }, true
	case "Maximum":
		return func(b *bucket) (float64, bool) { return b.max, true }, true
	}
	digits, ok := strings.CutPrefix(name, "p")
	p, err := strconv.ParseFloat(digits, 64)
	if !ok || err != nil || !(p >= 0 && p <= 100) {
		return nil, false
	}
	return func(b *bucket) (float64, bool) { return b.percentile(p) }, true
}

// points are the values of a metric by the start of their period, in seconds since 1970.
type points map[int64]*bucket

// window is the part of time that is asked for, cut into periods. The start is one of a period.
type window struct{ start, end, period int64 }

func newWindow(start, end time.Time, period int64) window {
	w := window{start: start.Unix(), end: end.Unix(), period: period}
	if !end.Equal(end.Truncate(time.Second)) {
		w.end++
	}
	w.start -= mod(w.start, period)
	return w
}

func mod(a, b int64) int64 { return (a%b + b) % b }

// in collects a metric's data for a window, as far as it is told by now.
func (one *series) in(w window, now time.Time) points {
	found := points{}
	for minute, b := range one.minutes {
		at := minute * 60
		if at < w.start || at >= w.end || now.Before(b.visible) {
			continue
		}
		slot := at - mod(at, w.period)
		if found[slot] == nil {
			found[slot] = newBucket()
		}
		found[slot].add(b)
	}
	return found
}

// sorted are all metrics in order.
func (s *Service) sorted() []*series {
	return slices.SortedFunc(maps.Values(s.series), func(a, b *series) int {
		return cmp.Compare(key(a.namespace, a.name, a.dimensions), key(b.namespace, b.name, b.dimensions))
	})
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
