package cloudwatch

import (
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/paging"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

const (
	maxData       = 1000 // metrics in one PutMetricData
	maxValues     = 150
	maxDimensions = 30
	listPage      = 500
	maxStatistics = 1440
)

func invalid(format string, args ...any) error {
	return wire.Errorf("InvalidParameterValue", format, args...)
}

func contradiction(format string, args ...any) error {
	return wire.Errorf("InvalidParameterCombination", format, args...)
}

func missing(name string) error {
	return wire.Errorf("MissingParameter", "The parameter %s is required.", name)
}

func dimensions(list []types.Dimension) (Dimensions, error) {
	if len(list) > maxDimensions {
		return nil, invalid("A metric can have at most %d dimensions", maxDimensions)
	}
	all := Dimensions{}
	for _, d := range list {
		if deref(d.Name) == "" || deref(d.Value) == "" {
			return nil, invalid("The parameter Dimensions needs names and values that are not empty")
		}
		all[*d.Name] = *d.Value
	}
	return all, nil
}

func (d Dimensions) list() []types.Dimension {
	list := []types.Dimension{}
	for _, name := range slices.Sorted(maps.Keys(d)) {
		list = append(list, types.Dimension{Name: &name, Value: new(d[name])})
	}
	return list
}

// PutMetricData takes metrics of callers.
func (s *Service) PutMetricData(_ eventual.Reader, in *cloudwatch.PutMetricDataInput) (*cloudwatch.PutMetricDataOutput, error) {
	namespace := deref(in.Namespace)
	switch {
	case namespace == "":
		return nil, missing("Namespace")
	case strings.HasPrefix(namespace, "AWS/"):
		return nil, invalid("The value AWS/ for parameter Namespace is invalid: it is reserved")
	case len(in.MetricData) == 0:
		return nil, missing("MetricData")
	case len(in.MetricData) > maxData:
		return nil, invalid("The collection MetricData must not have a size greater than %d.", maxData)
	}
	now := time.Now()
	samples := make([]Sample, len(in.MetricData))
	for i, datum := range in.MetricData {
		var err error
		if samples[i], err = newSample(namespace, datum, now); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, datum := range in.MetricData {
		at := now
		if datum.Timestamp != nil {
			at = *datum.Timestamp
		}
		b := s.bucket(key(namespace, samples[i].Name, samples[i].Dimensions), samples[i], at.Unix()/60)
		b.measure(samples[i].Values, samples[i].Counts)
		if v := datum.StatisticValues; v != nil {
			b.add(&bucket{count: *v.SampleCount, sum: *v.Sum, min: *v.Minimum, max: *v.Maximum, blurred: true})
		}
	}
	return &cloudwatch.PutMetricDataOutput{}, nil
}

// newSample validates one metric of a caller.
func newSample(namespace string, datum types.MetricDatum, now time.Time) (Sample, error) {
	sample := Sample{Namespace: namespace, Name: deref(datum.MetricName), Unit: datum.Unit, Values: datum.Values, Counts: datum.Counts}
	forms := 0
	for _, given := range []bool{datum.Value != nil, len(datum.Values) > 0, datum.StatisticValues != nil} {
		if given {
			forms++
		}
	}
	if datum.Value != nil {
		sample.Values = []float64{*datum.Value}
	}
	v := datum.StatisticValues
	switch {
	case sample.Name == "":
		return sample, missing("MetricData.member.MetricName")
	case forms == 0:
		return sample, missing("MetricData.member.Value")
	case forms > 1:
		return sample, contradiction("The parameters Value, Values and StatisticValues are mutually exclusive")
	case len(sample.Values) > maxValues:
		return sample, invalid("A metric can have at most %d values", maxValues)
	case len(datum.Counts) > 0 && len(datum.Counts) != len(datum.Values):
		return sample, invalid("Values and Counts must have the same length")
	case v != nil && (v.SampleCount == nil || v.Sum == nil || v.Minimum == nil || v.Maximum == nil):
		return sample, missing("MetricData.member.StatisticValues")
	case v != nil && (*v.SampleCount <= 0 || *v.Minimum > *v.Maximum):
		return sample, invalid("StatisticValues contradict each other")
	case datum.Timestamp != nil && (now.Sub(*datum.Timestamp) > 14*24*time.Hour || datum.Timestamp.Sub(now) > 2*time.Hour):
		return sample, invalid("The parameter Timestamp must be at most two weeks old and two hours ahead")
	case datum.Unit != "" && !slices.Contains(datum.Unit.Values(), datum.Unit):
		return sample, invalid("The unit '%.40s' is not known", datum.Unit)
	}
	for _, value := range sample.Values {
		if math.IsNaN(value) || math.IsInf(value, 0) {
			return sample, invalid("The value %v cannot be stored", value)
		}
	}
	var err error
	sample.Dimensions, err = dimensions(datum.Dimensions)
	return sample, err
}

// ListMetrics lists the metrics that have data.
func (s *Service) ListMetrics(_ eventual.Reader, in *cloudwatch.ListMetricsInput) (*cloudwatch.ListMetricsOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if in.RecentlyActive != "" && in.RecentlyActive != types.RecentlyActivePt3h {
		return nil, invalid("RecentlyActive can only be PT3H")
	}
	now := time.Now()
	var found []*series
	for _, one := range s.sorted() {
		if one.matches(in) && one.told(now, in.RecentlyActive != "") {
			found = append(found, one)
		}
	}
	page, next, err := paging.Cut(found, func(one *series) string { return key(one.namespace, one.name, one.dimensions) }, in.NextToken, listPage)
	if err != nil {
		return nil, wire.Errorf("InvalidParameterValue", "Request parameter NextToken has an invalid value: %v", err)
	}
	out := &cloudwatch.ListMetricsOutput{Metrics: []types.Metric{}, NextToken: next}
	for _, one := range page {
		out.Metrics = append(out.Metrics, types.Metric{Namespace: &one.namespace, MetricName: &one.name, Dimensions: one.dimensions.list()})
	}
	return out, nil
}

func (one *series) matches(in *cloudwatch.ListMetricsInput) bool {
	if in.Namespace != nil && *in.Namespace != one.namespace || in.MetricName != nil && *in.MetricName != one.name {
		return false
	}
	for _, f := range in.Dimensions {
		value, ok := one.dimensions[deref(f.Name)]
		if !ok || f.Value != nil && *f.Value != value {
			return false
		}
	}
	return true
}

// told says whether any data of a metric is told by now; recent data only, if asked.
func (one *series) told(now time.Time, recent bool) bool {
	for minute, b := range one.minutes {
		if !now.Before(b.visible) && (!recent || now.Unix()-minute*60 < 3*60*60) {
			return true
		}
	}
	return false
}

// checkPeriod validates a period in seconds.
func checkPeriod(period *int32) (int64, error) {
	p := int64(deref(period))
	switch {
	case period == nil:
		return 0, missing("Period")
	case p == 1 || p == 5 || p == 10 || p == 20 || p == 30:
		return 60, nil // nothing is stored more finely
	case p < 60 || p%60 != 0:
		return 0, invalid("The parameter Period must be a multiple of 60, or 1, 5, 10, 20 or 30")
	}
	return p, nil
}

// GetMetricStatistics tells statistics of one metric, in no order.
func (s *Service) GetMetricStatistics(_ eventual.Reader, in *cloudwatch.GetMetricStatisticsInput) (*cloudwatch.GetMetricStatisticsOutput, error) {
	switch {
	case deref(in.Namespace) == "":
		return nil, missing("Namespace")
	case deref(in.MetricName) == "":
		return nil, missing("MetricName")
	case in.StartTime == nil:
		return nil, missing("StartTime")
	case in.EndTime == nil:
		return nil, missing("EndTime")
	case len(in.Statistics) == 0 && len(in.ExtendedStatistics) == 0:
		return nil, contradiction("At least one of the parameters Statistics and ExtendedStatistics must be specified.")
	case !in.StartTime.Before(*in.EndTime):
		return nil, contradiction("The parameter StartTime must be less than the parameter EndTime.")
	}
	period, err := checkPeriod(in.Period)
	if err != nil {
		return nil, err
	}
	w := newWindow(*in.StartTime, *in.EndTime, period)
	if asked := (w.end - w.start + period - 1) / period; asked > maxStatistics {
		return nil, contradiction("You have requested up to %d datapoints, which exceeds the limit of %d.", asked, maxStatistics)
	}
	of, err := dimensions(in.Dimensions)
	if err != nil {
		return nil, err
	}
	extended := map[string]statistic{}
	for _, name := range in.ExtendedStatistics {
		read, ok := newStatistic(name)
		if !ok || !strings.HasPrefix(name, "p") {
			return nil, invalid("The extended statistic '%.40s' is not known, or not modelled", name)
		}
		extended[name] = read
	}
	for _, name := range in.Statistics {
		if !slices.Contains(name.Values(), name) {
			return nil, invalid("The statistic '%.40s' is not known", name)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := &cloudwatch.GetMetricStatisticsOutput{Label: in.MetricName, Datapoints: []types.Datapoint{}}
	one := s.series[key(*in.Namespace, *in.MetricName, of)]
	if one == nil || in.Unit != "" && in.Unit != one.unitOrNone() {
		return out, nil
	}
	for at, b := range one.in(w, time.Now()) {
		out.Datapoints = append(out.Datapoints, datapoint(at, b, one.unitOrNone(), in.Statistics, extended))
	}
	return out, nil
}

func (one *series) unitOrNone() types.StandardUnit {
	if one.unit == "" {
		return types.StandardUnitNone
	}
	return one.unit
}

func datapoint(at int64, b *bucket, unit types.StandardUnit, names []types.Statistic, extended map[string]statistic) types.Datapoint {
	d := types.Datapoint{Timestamp: new(time.Unix(at, 0).UTC()), Unit: unit}
	for _, name := range names {
		read, _ := newStatistic(string(name))
		value, ok := read(b)
		if !ok {
			continue
		}
		switch name {
		case types.StatisticSampleCount:
			d.SampleCount = &value
		case types.StatisticAverage:
			d.Average = &value
		case types.StatisticSum:
			d.Sum = &value
		case types.StatisticMinimum:
			d.Minimum = &value
		case types.StatisticMaximum:
			d.Maximum = &value
		}
	}
	for name, read := range extended {
		if value, ok := read(b); ok {
			if d.ExtendedStatistics == nil {
				d.ExtendedStatistics = map[string]float64{}
			}
			d.ExtendedStatistics[name] = value
		}
	}
	return d
}
