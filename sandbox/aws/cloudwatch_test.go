package aws_test

import (
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws"
	metrics "github.com/lockstep-delivery/lockstep/sandbox/aws/cloudwatch"
)

func TestMetricsOverTheSDK(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client := cloudwatch.NewFromConfig(w.config(owner))
	minute := time.Now().Add(-5 * time.Minute).Truncate(time.Minute).UTC()
	for i := range 4 {
		w.emulator.CloudWatch().Record(minute.Add(time.Duration(i)*time.Minute), metrics.Sample{
			Namespace: metrics.ApplicationELB, Name: "RequestCount", Unit: types.StandardUnitCount,
			Dimensions: metrics.Dimensions{"LoadBalancer": "app/web/1"}, Values: []float64{float64(i)}, Counts: []float64{10},
		})
	}
	must(client.PutMetricData(ctx, &cloudwatch.PutMetricDataInput{Namespace: new("Shop"), MetricData: []types.MetricDatum{
		{MetricName: new("Orders"), Value: new(2.5), Timestamp: &minute},
		{MetricName: new("Orders"), Values: []float64{1, 2}, Counts: []float64{3, 1}, Timestamp: &minute},
		{MetricName: new("Orders"), StatisticValues: &types.StatisticSet{SampleCount: new(2.0), Sum: new(10.0), Minimum: new(4.0), Maximum: new(6.0)}, Timestamp: &minute},
	}}))(w)
	count := types.MetricDataQuery{Id: new("count"), ReturnData: new(false), MetricStat: &types.MetricStat{
		Metric: &types.Metric{
			Namespace: new(metrics.ApplicationELB), MetricName: new("RequestCount"), Dimensions: []types.Dimension{{Name: new("LoadBalancer"), Value: new("app/web/1")}},
		},
		Period: new(int32(60)), Stat: new("Sum"),
	}}
	absent := count
	absent.Id, absent.ReturnData = new("absent"), nil
	absent.MetricStat = &types.MetricStat{Metric: &types.Metric{Namespace: new(metrics.ApplicationELB), MetricName: new("HTTPCode_ELB_5XX_Count")}, Period: new(int32(60)), Stat: new("Sum")}
	in := &cloudwatch.GetMetricDataInput{
		StartTime: new(minute.Add(20 * time.Second)), EndTime: new(minute.Add(3 * time.Minute)), MaxDatapoints: new(int32(2)),
		MetricDataQueries: []types.MetricDataQuery{count, absent, {Id: new("twice"), Expression: new("count * 2"), Label: new("both")}},
	}
	var values []float64
	var states []string
	for pages := cloudwatch.NewGetMetricDataPaginator(client, in); pages.HasMorePages(); {
		for _, r := range must(pages.NextPage(ctx))(w).MetricDataResults {
			if *r.Id == "absent" && (r.Values == nil || len(r.Values) > 0) {
				t.Errorf("a metric without data has values %v", r.Values)
			}
			values = append(values, r.Values...)
			states = append(states, *r.Id+" "+string(r.StatusCode))
		}
	}
	// The start is rounded down to the period, the end is left out, the newest comes first.
	if !slices.Equal(values, []float64{40, 20, 0}) || !slices.Equal(states, []string{"absent Complete", "twice PartialData", "twice Complete"}) {
		t.Errorf("values %v in pages %v", values, states)
	}
	shop := must(client.GetMetricStatistics(ctx, &cloudwatch.GetMetricStatisticsInput{
		Namespace: new("Shop"), MetricName: new("Orders"), StartTime: &minute, EndTime: new(minute.Add(time.Minute)), Period: new(int32(60)),
		Statistics: []types.Statistic{types.StatisticSum, types.StatisticSampleCount, types.StatisticMaximum}, ExtendedStatistics: []string{"p50"},
	}))(w).Datapoints
	if len(shop) != 1 || *shop[0].Sum != 17.5 || *shop[0].SampleCount != 7 || *shop[0].Maximum != 6 || shop[0].ExtendedStatistics != nil {
		t.Errorf("statistics of what was put: %+v", shop)
	}
	listed := must(client.ListMetrics(ctx, &cloudwatch.ListMetricsInput{Dimensions: []types.DimensionFilter{{Name: new("LoadBalancer")}}}))(w).Metrics
	if len(listed) != 1 || *listed[0].MetricName != "RequestCount" {
		t.Errorf("listed %+v", listed)
	}
	statistics := func(change func(*cloudwatch.GetMetricStatisticsInput)) error {
		in := &cloudwatch.GetMetricStatisticsInput{
			Namespace: new("Shop"), MetricName: new("Orders"), StartTime: &minute, EndTime: new(minute.Add(time.Minute)), Period: new(int32(60)),
			Statistics: []types.Statistic{types.StatisticSum},
		}
		change(in)
		return failed(client.GetMetricStatistics(ctx, in))
	}
	put := func(datum types.MetricDatum) error {
		return failed(client.PutMetricData(ctx, &cloudwatch.PutMetricDataInput{Namespace: new("Shop"), MetricData: []types.MetricDatum{datum}}))
	}
	twice := *in
	twice.MetricDataQueries = []types.MetricDataQuery{absent, absent}
	forged := *in
	forged.NextToken = new("forged")
	codes(t, map[string]refusal{
		"too many points": {statistics(func(in *cloudwatch.GetMetricStatisticsInput) { in.EndTime = new(minute.Add(1441 * time.Minute)) }), "InvalidParameterCombination"},
		"the end first":   {statistics(func(in *cloudwatch.GetMetricStatisticsInput) { in.EndTime = &minute }), "InvalidParameterCombination"},
		"no statistics":   {statistics(func(in *cloudwatch.GetMetricStatisticsInput) { in.Statistics = nil }), "InvalidParameterCombination"},
		"odd period":      {statistics(func(in *cloudwatch.GetMetricStatisticsInput) { in.Period = new(int32(90)) }), "InvalidParameterValue"},
		"no namespace":    {statistics(func(in *cloudwatch.GetMetricStatisticsInput) { in.Namespace = new("") }), "MissingParameter"},
		"reserved":        {failed(client.PutMetricData(ctx, &cloudwatch.PutMetricDataInput{Namespace: new("AWS/EC2"), MetricData: []types.MetricDatum{{MetricName: new("a")}}})), "InvalidParameterValue"},
		"no value":        {put(types.MetricDatum{MetricName: new("a")}), "MissingParameter"},
		"two forms":       {put(types.MetricDatum{MetricName: new("a"), Value: new(1.0), Values: []float64{1}}), "InvalidParameterCombination"},
		"too old":         {put(types.MetricDatum{MetricName: new("a"), Value: new(1.0), Timestamp: new(minute.Add(-15 * 24 * time.Hour))}), "InvalidParameterValue"},
		"the same id":     {failed(client.GetMetricData(ctx, &twice)), "ValidationError"},
		"a forged token":  {failed(client.GetMetricData(ctx, &forged)), "InvalidNextToken"},
		"not modelled":    {failed(client.DescribeAlarms(ctx, &cloudwatch.DescribeAlarmsInput{})), "NotImplemented"},
	})
	if w.emulator.NotModelled()["cloudwatch:DescribeAlarms"] != 1 {
		t.Errorf("%v: services have not the names that policies and faults give them", w.emulator.NotModelled())
	}
}

// Older SDKs speak query to CloudWatch, some JSON.
func TestMetricsInOlderProtocols(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *aws.Config) { c.Anonymous = true })
	now := strconv.FormatInt(time.Now().Unix(), 10)
	for _, tt := range []struct{ why, kind, target, body, want string }{
		{"put by query", "application/x-www-form-urlencoded", "", "Action=PutMetricData&Version=2010-08-01&Namespace=Shop&MetricData.member.1.MetricName=Orders&MetricData.member.1.Value=3.5&MetricData.member.1.Dimensions.member.1.Name=Till&MetricData.member.1.Dimensions.member.1.Value=1", "<PutMetricDataResult>"},
		{"list by query", "application/x-www-form-urlencoded", "", "Action=ListMetrics&Version=2010-08-01", `xmlns="http://monitoring.amazonaws.com/doc/2010-08-01/"><ListMetricsResult><Metrics><member><Dimensions><member><Name>Till</Name>`},
		{"list by JSON", "application/x-amz-json-1.0", "GraniteServiceVersion20100801.ListMetrics", "{}", `"MetricName":"Orders"`},
		{"put by JSON", "application/x-amz-json-1.0", "GraniteServiceVersion20100801.PutMetricData", `{"Namespace":"Shop","MetricData":[{"MetricName":"Orders","Value":1,"Timestamp":` + now + `.5}]}`, "{}"},
		{"wrong by query", "application/x-www-form-urlencoded", "", "Action=PutMetricData&Version=2010-08-01&Namespace=AWS/EC2", "<Code>InvalidParameterValue</Code>"},
		{"wrong by JSON", "application/x-amz-json-1.0", "GraniteServiceVersion20100801.PutMetricData", `{"Namespace":"AWS/EC2"}`, `"__type":"com.amazonaws.cloudwatch#InvalidParameterValueException"`},
	} {
		request, err := http.NewRequest(http.MethodPost, w.endpoint, strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", tt.kind)
		if tt.target != "" {
			request.Header.Set("X-Amz-Target", tt.target)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if !strings.Contains(string(text), tt.want) {
			t.Errorf("%s: %s %s, want %s in it", tt.why, response.Status, text, tt.want)
		}
	}
}
