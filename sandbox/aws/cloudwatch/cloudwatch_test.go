package cloudwatch_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"

	metrics "github.com/lockstep-delivery/lockstep/sandbox/aws/cloudwatch"
)

var nobody eventual.Reader

func newService(t testing.TB, profileName string) *metrics.Service {
	t.Helper()
	table, err := profile.Load(profileName)
	if err != nil {
		t.Fatal(err)
	}
	return metrics.New(profile.NewDraws(table, 1, 1))
}

// start is ten minutes ago, on a full minute.
var start = time.Now().Add(-10 * time.Minute).Truncate(time.Minute).UTC()

func record(s *metrics.Service, minute int, name string, values ...float64) {
	s.Record(start.Add(time.Duration(minute)*time.Minute), metrics.Sample{
		Namespace: metrics.ApplicationELB, Name: name, Unit: types.StandardUnitCount,
		Dimensions: metrics.Dimensions{"LoadBalancer": "app/web/1"}, Values: values,
	})
}

func query(id, name, stat string) types.MetricDataQuery {
	return types.MetricDataQuery{Id: &id, MetricStat: &types.MetricStat{
		Metric: &types.Metric{
			Namespace: new(metrics.ApplicationELB), MetricName: &name, Dimensions: []types.Dimension{{Name: new("LoadBalancer"), Value: new("app/web/1")}},
		},
		Period: new(int32(60)), Stat: &stat,
	}}
}

// ask evaluates an expression over m1, m2 and none over five minutes; the answer is minute=value of each point.
func ask(s *metrics.Service, source string) (string, error) {
	hidden := func(q types.MetricDataQuery) types.MetricDataQuery {
		q.ReturnData = new(false)
		return q
	}
	out, err := s.GetMetricData(nobody, &cloudwatch.GetMetricDataInput{
		StartTime: &start, EndTime: new(start.Add(5 * time.Minute)), ScanBy: types.ScanByTimestampAscending,
		MetricDataQueries: []types.MetricDataQuery{
			hidden(query("m1", "A", "Sum")), hidden(query("m2", "B", "Sum")), hidden(query("none", "C", "Sum")),
			{Id: new("e"), Expression: &source},
		},
	})
	if err != nil {
		return "", err
	}
	var all []string
	for _, r := range out.MetricDataResults {
		var text []string
		for i, v := range r.Values {
			text = append(text, fmt.Sprintf("%d=%v", int(r.Timestamps[i].Sub(start).Minutes()), v))
		}
		all = append(all, strings.Join(text, " "))
	}
	return strings.Join(all, "; "), nil
}

func TestMetricMath(t *testing.T) {
	t.Parallel()
	s := newService(t, "ideal")
	for minute, v := range []float64{10, 20, 0, 40} {
		record(s, minute, "A", v)
	}
	record(s, 0, "B", 1)
	record(s, 1, "B", 3)
	record(s, 3, "B", 0)
	for source, want := range map[string]string{
		"m1":                              "0=10 1=20 2=0 3=40",
		"m1+m2":                           "0=11 1=23 3=40",
		"m2/m1*100":                       "0=10 1=15 3=0",
		"m1/m2":                           "0=10 1=6.666666666666667",
		"-m1 + 2 * (3 - 1)":               "0=-6 1=-16 2=4 3=-36",
		"2^3^1 * m2":                      "0=8 1=24 3=0",
		"SUM(METRICS())":                  "0=11 1=23 2=0 3=40",
		`AVG(METRICS("m"))`:               "0=5.5 1=11.5 2=0 3=20",
		"MAX([m1,m2]) - MIN(m1)":          "0=10 1=20 2=0 3=40",
		"m1 / SUM(m2)":                    "0=2.5 1=5 2=0 3=10",
		"FILL(m2, 7)":                     "0=1 1=3 2=7 3=0 4=7",
		"FILL(m2, REPEAT)":                "0=1 1=3 2=3 3=0 4=0",
		"FILL(none, 0)":                   "0=0 1=0 2=0 3=0 4=0",
		"none":                            "",
		"m1 + none":                       "",
		"IF(m1 > 15, m1, 0)":              "0=0 1=20 2=0 3=40",
		"IF(m1 > 15 && m1 < 30, 1)":       "1=1",
		"IF(m1 >= 20 OR m1 == 0, m1, m2)": "0=1 1=20 2=0 3=40",
		"RATE(m1) * PERIOD(m1)":           "1=10 2=-20 3=40",
		"[m1, m2] * 2":                    "0=20 1=40 2=0 3=80; 0=2 1=6 3=0",
		`METRICS("nothing") * m1`:         "",
	} {
		if got, err := ask(s, source); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", source, got, err, want)
		}
	}
	for _, source := range []string{
		"", "m1 +", "(m1", "m1)", "m9", "e", "1", "SEARCH(m1)", "[m1", "SUM(m1, m2)", `"text"`, "m1 ~ m2", "FILL(m1)", "IF(m1)",
		"METRICS() + METRICS()", strings.Repeat("(", 60) + "m1" + strings.Repeat(")", 60), strings.Repeat("m1+", 1000) + "m1",
	} {
		var refused *wire.Error
		if _, err := ask(s, source); !errors.As(err, &refused) || refused.Code != "ValidationError" {
			t.Errorf("%.30s: %v", source, err)
		}
	}
}

func TestStatisticsOverPeriods(t *testing.T) {
	t.Parallel()
	s := newService(t, "ideal")
	values := make([]float64, 1000)
	for i := range values {
		values[i] = float64(i+1) / 1000 // seconds
	}
	record(s, 0, "TargetResponseTime", values[:500]...)
	record(s, 1, "TargetResponseTime", values[500:]...)
	out, err := s.GetMetricStatistics(nobody, &cloudwatch.GetMetricStatisticsInput{
		Namespace: new(metrics.ApplicationELB), MetricName: new("TargetResponseTime"), Period: new(int32(3600)),
		StartTime: new(start.Truncate(time.Hour)), EndTime: new(start.Truncate(time.Hour).Add(2 * time.Hour)),
		Dimensions: []types.Dimension{{Name: new("LoadBalancer"), Value: new("app/web/1")}},
		Statistics: []types.Statistic{"Sum", "Average", "Minimum", "Maximum", "SampleCount"}, ExtendedStatistics: []string{"p50", "p99.9"},
	})
	if err != nil {
		t.Fatal(err)
	}
	// A full hour may begin between the two minutes.
	var count, sum float64
	for _, d := range out.Datapoints {
		count, sum = count+*d.SampleCount, sum+*d.Sum
		if len(out.Datapoints) == 1 {
			near := func(name string, got, want float64) {
				if math.Abs(got/want-1) > 0.02 {
					t.Errorf("%s is %v, want %v", name, got, want)
				}
			}
			near("p50", d.ExtendedStatistics["p50"], 0.5)
			near("p99.9", d.ExtendedStatistics["p99.9"], 0.999)
			near("average", *d.Average, 0.5005)
			near("minimum", *d.Minimum, 0.001)
			near("maximum", *d.Maximum, 1)
		}
	}
	if count != 1000 || math.Abs(sum-500.5) > 1e-6 {
		t.Errorf("%v values of sum %v", count, sum)
	}
}

// What load balancers report is told when the minute is over and the profile's delay has passed.
func TestReportsAreToldLater(t *testing.T) {
	t.Parallel()
	s := newService(t, "pessimistic")
	s.Record(time.Now().Add(-time.Minute), metrics.Sample{Namespace: metrics.NetworkELB, Name: "NewFlowCount", Values: []float64{1}})
	s.Record(time.Now().Add(-10*time.Minute), metrics.Sample{Namespace: metrics.NetworkELB, Name: "ActiveFlowCount", Values: []float64{1}})
	out, err := s.ListMetrics(nobody, &cloudwatch.ListMetricsInput{Namespace: new(metrics.NetworkELB)})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range out.Metrics {
		names = append(names, *m.MetricName)
	}
	if !slices.Equal(names, []string{"ActiveFlowCount"}) {
		t.Errorf("told %v", names)
	}
}

func TestDimensionOfAnARN(t *testing.T) {
	t.Parallel()
	for arn, want := range map[string]string{
		"arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/web/0123456789abcdef": "app/web/0123456789abcdef",
		"arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/api/0123456789abcdef":      "targetgroup/api/0123456789abcdef",
		"arn:aws:s3:::bucket": "",
	} {
		if got := metrics.LoadBalancer(arn); got != want {
			t.Errorf("%s: %q, want %q", arn, got, want)
		}
	}
}

func FuzzExpression(f *testing.F) {
	s := newService(f, "ideal")
	record(s, 0, "A", 1)
	for _, source := range []string{"m1+m2*2", `IF(m1>1 AND m2<2,FILL(m1,REPEAT),-1)`, `SUM(METRICS("m"))/[m1,m2]`} {
		f.Add(source)
	}
	f.Fuzz(func(t *testing.T, source string) {
		var refused *wire.Error
		if _, err := ask(s, source); err != nil && !errors.As(err, &refused) {
			t.Fatal(err)
		}
	})
}
