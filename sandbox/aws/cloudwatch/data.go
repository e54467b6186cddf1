package cloudwatch

import (
	"encoding/base64"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

const (
	maxQueries    = 500
	maxDatapoints = 100_800
)

var queryID = regexp.MustCompile(`^[a-z][a-zA-Z0-9_]{0,254}$`)

func unsound(format string, args ...any) error {
	return wire.Errorf("ValidationError", format, args...)
}

// GetMetricData answers queries: metrics, and expressions over them.
func (s *Service) GetMetricData(_ eventual.Reader, in *cloudwatch.GetMetricDataInput) (*cloudwatch.GetMetricDataOutput, error) {
	switch {
	case in.StartTime == nil:
		return nil, missing("StartTime")
	case in.EndTime == nil:
		return nil, missing("EndTime")
	case len(in.MetricDataQueries) == 0:
		return nil, missing("MetricDataQueries")
	case len(in.MetricDataQueries) > maxQueries:
		return nil, unsound("The collection MetricDataQueries must not have a size greater than %d.", maxQueries)
	case !in.StartTime.Before(*in.EndTime):
		return nil, unsound("The parameter StartTime must be less than the parameter EndTime.")
	}
	limit := maxDatapoints
	if in.MaxDatapoints != nil {
		if limit = int(*in.MaxDatapoints); limit < 1 || limit > maxDatapoints {
			return nil, invalid("MaxDatapoints %d is not between 1 and %d", limit, maxDatapoints)
		}
	}
	offset, err := readOffset(in.NextToken)
	if err != nil {
		return nil, err
	}
	q := question{queries: in.MetricDataQueries, start: *in.StartTime, end: *in.EndTime, now: time.Now(), byID: map[string]*node{}}
	if err := q.compile(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	q.fetch(s)
	s.mu.Unlock()
	results, err := q.results(in.ScanBy != types.ScanByTimestampAscending)
	if err != nil {
		return nil, err
	}
	out := &cloudwatch.GetMetricDataOutput{Messages: []types.MessageData{}}
	out.MetricDataResults, out.NextToken = cut(results, offset, limit)
	return out, nil
}

func readOffset(token *string) (int, error) {
	if deref(token) == "" {
		return 0, nil
	}
	text, err := base64.RawURLEncoding.DecodeString(*token)
	offset, second := strconv.Atoi(string(text))
	if err != nil || second != nil || offset < 1 {
		return 0, wire.Errorf("InvalidNextToken", "The next token specified is invalid.")
	}
	return offset, nil
}

// cut leaves out the first offset values, and those behind the next limit.
func cut(results []types.MetricDataResult, offset, limit int) (page []types.MetricDataResult, next *string) {
	page = []types.MetricDataResult{}
	end, seen := offset+limit, 0
	for _, r := range results {
		first, last := seen, seen+len(r.Values)
		seen = last
		if last <= offset && (len(r.Values) > 0 || offset > 0) {
			continue
		}
		if first >= end && len(r.Values) > 0 {
			break
		}
		from, to := max(0, offset-first), min(len(r.Values), end-first)
		if to < len(r.Values) {
			r.StatusCode = types.StatusCodePartialData
		}
		r.Values, r.Timestamps = r.Values[from:to], r.Timestamps[from:to]
		page = append(page, r)
	}
	total := 0
	for _, r := range results {
		total += len(r.Values)
	}
	if end < total {
		next = new(base64.RawURLEncoding.EncodeToString([]byte(strconv.Itoa(end))))
	}
	return page, next
}

// question is all queries of one call.
type question struct {
	queries    []types.MetricDataQuery
	start, end time.Time
	now        time.Time
	byID       map[string]*node
}

// node is one query: a metric, or an expression over others.
type node struct {
	query      types.MetricDataQuery
	metric     *source
	expression expression
	value      *value
	busy       bool
}

// source is the metric of a query.
type source struct {
	key    string
	read   statistic
	period int64
	unit   types.StandardUnit
}

// compile validates the queries and parses their expressions.
func (q *question) compile() error {
	returned := false
	for _, query := range q.queries {
		id := deref(query.Id)
		switch {
		case !queryID.MatchString(id):
			return unsound("The id '%.60s' must begin with a small letter and have letters, digits and underscores only", id)
		case q.byID[id] != nil:
			return unsound("The id '%s' is given twice", id)
		case (query.Expression == nil) == (query.MetricStat == nil):
			return unsound("Query '%s' needs either MetricStat or Expression", id)
		}
		n := &node{query: query}
		var err error
		if query.MetricStat != nil {
			n.metric, err = newSource(id, query.MetricStat)
		} else if n.expression, err = parseExpression(*query.Expression); err != nil {
			err = unsound("Error in expression '%s': %v", id, err)
		}
		if err != nil {
			return err
		}
		q.byID[id] = n
		returned = returned || query.ReturnData == nil || *query.ReturnData
	}
	if !returned {
		return unsound("At least one query must return data")
	}
	return nil
}

func newSource(id string, stat *types.MetricStat) (*source, error) {
	if stat.Metric == nil || deref(stat.Metric.Namespace) == "" || deref(stat.Metric.MetricName) == "" {
		return nil, missing("MetricDataQueries.member.MetricStat.Metric")
	}
	of, err := dimensions(stat.Metric.Dimensions)
	if err != nil {
		return nil, err
	}
	read, ok := newStatistic(deref(stat.Stat))
	if !ok {
		return nil, unsound("Query '%s': the statistic '%.40s' is not known, or not modelled", id, deref(stat.Stat))
	}
	period, err := checkPeriod(stat.Period)
	if err != nil {
		return nil, err
	}
	return &source{key: key(*stat.Metric.Namespace, *stat.Metric.MetricName, of), read: read, period: period, unit: stat.Unit}, nil
}

// fetch reads the metrics.
func (q *question) fetch(s *Service) {
	for _, n := range q.byID {
		if n.metric == nil {
			continue
		}
		n.value = &value{kind: oneSeries, series: []timeSeries{{period: n.metric.period, at: map[int64]float64{}}}}
		one := s.series[n.metric.key]
		if one == nil || n.metric.unit != "" && n.metric.unit != one.unitOrNone() {
			continue
		}
		for at, b := range one.in(newWindow(q.start, q.end, n.metric.period), q.now) {
			if v, ok := n.metric.read(b); ok {
				n.value.series[0].at[at] = v
			}
		}
	}
}

// results evaluates what is to be returned, in the order of the queries.
func (q *question) results(descending bool) ([]types.MetricDataResult, error) {
	var results []types.MetricDataResult
	for _, query := range q.queries {
		if query.ReturnData != nil && !*query.ReturnData {
			continue
		}
		v, err := q.evaluate(*query.Id)
		if err != nil {
			return nil, unsound("Error in expression '%s': %v", *query.Id, err)
		}
		if v.kind == scalar {
			return nil, unsound("Error in expression '%s': it gives a number, not a time series", *query.Id)
		}
		label := deref(query.Label)
		switch {
		case label != "":
		case query.MetricStat != nil:
			label = *query.MetricStat.Metric.MetricName
		default:
			label = *query.Id
		}
		for _, one := range v.series {
			results = append(results, one.result(*query.Id, label, descending))
		}
	}
	return results, nil
}

func (t timeSeries) result(id, label string, descending bool) types.MetricDataResult {
	r := types.MetricDataResult{Id: &id, Label: &label, StatusCode: types.StatusCodeComplete, Timestamps: []time.Time{}, Values: []float64{}}
	order := slices.Sorted(maps.Keys(t.at))
	if descending {
		slices.Reverse(order)
	}
	for _, at := range order {
		r.Timestamps = append(r.Timestamps, time.Unix(at, 0).UTC())
		r.Values = append(r.Values, t.at[at])
	}
	return r
}
