"""Metrics: put, listed, read as statistics, as data and by arithmetic. Older releases send forms, newer ones CBOR."""

import datetime
import unittest

from account import Account, client

metrics = client("cloudwatch")
NOW = datetime.datetime.now(datetime.timezone.utc).replace(second=0, microsecond=0)
MINUTE = datetime.timedelta(minutes=1)


def stat(name, statistic, identifier="m", **parameters):
    return {"Id": identifier, "MetricStat": {"Metric": {"Namespace": "Shop", "MetricName": name, **parameters}, "Period": 60, "Stat": statistic}}


class Metrics(Account):
    def data(self, *queries, **parameters):
        found = metrics.get_metric_data(StartTime=NOW - 10 * MINUTE, EndTime=NOW + MINUTE, MetricDataQueries=list(queries), **parameters)
        return {r["Id"]: r["Values"] for r in found["MetricDataResults"]}

    def test_values_by_minute(self):
        shop = [{"Name": "Shop", "Value": "north"}]
        metrics.put_metric_data(Namespace="Shop", MetricData=[
            {"MetricName": "Orders", "Dimensions": shop, "Timestamp": NOW - MINUTE * age, "Value": value, "Unit": "Count"} for age, value in ((3, 1), (3, 2), (2, 5.5), (1, 0))
        ])
        self.assertEqual(self.data(stat("Orders", "Sum", Dimensions=shop), ScanBy="TimestampAscending"), {"m": [3, 5.5, 0]})
        self.assertEqual(self.data(stat("Orders", "Average", Dimensions=shop)), {"m": [0, 5.5, 1.5]})
        self.assertEqual(self.data(stat("Orders", "Sum")), {"m": []})  # without its dimension it is another metric
        points = metrics.get_metric_statistics(
            Namespace="Shop", MetricName="Orders", Dimensions=shop, StartTime=NOW - 10 * MINUTE, EndTime=NOW, Period=60, Statistics=["Sum", "SampleCount", "Maximum"],
        )["Datapoints"]
        by_time = {p["Timestamp"]: (p["Sum"], p["SampleCount"], p["Maximum"], p["Unit"]) for p in points}
        self.assertEqual(by_time[NOW - 3 * MINUTE], (3, 2, 2, "Count"))
        self.assertEqual(len(points), 3)
        percentiles = metrics.get_metric_statistics(
            Namespace="Shop", MetricName="Orders", Dimensions=shop, StartTime=NOW - 10 * MINUTE, EndTime=NOW, Period=600, ExtendedStatistics=["p99"],
        )["Datapoints"]
        self.assertIn("p99", percentiles[0]["ExtendedStatistics"])

    def test_arithmetic(self):
        metrics.put_metric_data(Namespace="Shop", MetricData=[
            {"MetricName": "Requests", "Timestamp": NOW - MINUTE, "StatisticValues": {"SampleCount": 4, "Sum": 40, "Minimum": 1, "Maximum": 20}},
            {"MetricName": "Errors", "Timestamp": NOW - MINUTE, "Values": [1, 3], "Counts": [1, 1]},
        ])
        hidden = {"ReturnData": False}
        self.assertEqual(
            self.data({**stat("Requests", "Sum", "all"), **hidden}, {**stat("Errors", "Sum", "bad"), **hidden}, {"Id": "share", "Expression": "100 * bad / all", "Label": "errors"}),
            {"share": [10]},
        )
        filled = self.data(stat("Requests", "Sum", "all"), {"Id": "filled", "Expression": "FILL(all, 0)"})["filled"]
        self.assertEqual((filled[1], sum(filled), len(filled)), (40, 40, 11))  # the newest minute is first
        self.refused("ValidationError", self.data, {"Id": "broken", "Expression": "1 +"})

    def test_pages(self):
        names = {"page-%d" % i for i in range(7)}
        metrics.put_metric_data(Namespace="Pages", MetricData=[{"MetricName": n, "Value": 1, "Timestamp": NOW - MINUTE * (i % 3)} for n in names for i in range(6)])
        found = [m["MetricName"] for page in metrics.get_paginator("list_metrics").paginate(Namespace="Pages") for m in page["Metrics"]]
        self.assertEqual(sorted(found), sorted(names))
        self.assertEqual(len(metrics.list_metrics(Namespace="Pages", MetricName="page-3", RecentlyActive="PT3H")["Metrics"]), 1)
        query = {"Id": "m", "MetricStat": {"Metric": {"Namespace": "Pages", "MetricName": "page-1"}, "Period": 60, "Stat": "Sum"}}
        pages = metrics.get_paginator("get_metric_data").paginate(MetricDataQueries=[query], StartTime=NOW - 10 * MINUTE, EndTime=NOW + MINUTE, PaginationConfig={"PageSize": 2})
        values = [v for page in pages for r in page["MetricDataResults"] for v in r["Values"]]
        self.assertEqual(values, [2, 2, 2])

    def test_more_than_a_page_of_metrics(self):
        for start in range(0, 600, 20):
            metrics.put_metric_data(Namespace="Many", MetricData=[{"MetricName": "m%03d" % i, "Value": 1} for i in range(start, start + 20)])
        pages = list(metrics.get_paginator("list_metrics").paginate(Namespace="Many"))
        self.assertGreater(len(pages), 1)
        self.assertEqual(len({m["MetricName"] for page in pages for m in page["Metrics"]}), 600)

    def test_a_large_request(self):
        """Newer releases compress what is larger than 10 kB."""
        many = [{"MetricName": "large", "Timestamp": NOW - MINUTE, "Value": 1, "Dimensions": [{"Name": "Filler", "Value": "x" * 200}]}] * 200
        metrics.put_metric_data(Namespace="Large", MetricData=many)
        query = {"Id": "m", "MetricStat": {"Metric": {"Namespace": "Large", "MetricName": "large", "Dimensions": many[0]["Dimensions"]}, "Period": 60, "Stat": "SampleCount"}}
        self.assertEqual(self.data(query), {"m": [200]})

    def test_refusals(self):
        self.refused("InvalidParameterValue", metrics.put_metric_data, Namespace="AWS/EC2", MetricData=[{"MetricName": "a", "Value": 1}])
        self.refused(
            metrics.exceptions.InvalidParameterCombinationException,
            metrics.get_metric_statistics, Namespace="Shop", MetricName="Orders", StartTime=NOW - datetime.timedelta(days=2), EndTime=NOW, Period=60, Statistics=["Sum"],
        )
        self.refused(metrics.exceptions.InvalidParameterValueException, metrics.list_metrics, NextToken="!")


if __name__ == "__main__":
    unittest.main()
