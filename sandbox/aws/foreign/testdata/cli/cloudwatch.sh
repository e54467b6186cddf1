# Metrics: older releases send forms, newer ones JSON or CBOR.
. "${0%/*}/account.sh"

minute=$(($(date +%s) / 60 * 60 - 60))
at=$(date -u -d @$minute +%FT%TZ) from=$(date -u -d @$((minute - 600)) +%FT%TZ) to=$(date -u -d @$((minute + 120)) +%FT%TZ)
for value in 1.25 2.5; do
	aws cloudwatch put-metric-data --namespace Shop --metric-name Orders --dimensions Shop=north --timestamp "$at" --value $value --unit Count
done
want 'Orders north' aws cloudwatch list-metrics --namespace Shop --query 'Metrics[0].[MetricName,Dimensions[0].Value]'
want '3.75 2.5 Count' aws cloudwatch get-metric-statistics --namespace Shop --metric-name Orders --dimensions Name=Shop,Value=north --start-time "$from" --end-time "$to" \
	--period 60 --statistics Sum Maximum --query 'Datapoints[0].[Sum,Maximum,Unit]'
want '7.5' aws cloudwatch get-metric-data --start-time "$from" --end-time "$to" --query 'MetricDataResults[0].Values' --metric-data-queries '[
	{"Id": "twice", "Expression": "2 * orders"},
	{"Id": "orders", "ReturnData": false, "MetricStat": {"Period": 60, "Stat": "Sum", "Metric":
		{"Namespace": "Shop", "MetricName": "Orders", "Dimensions": [{"Name": "Shop", "Value": "north"}]}}}]'
refused InvalidParameterValue aws cloudwatch put-metric-data --namespace AWS/EC2 --metric-name Orders --value 1
