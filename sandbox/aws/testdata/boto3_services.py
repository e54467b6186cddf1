"""Drives the services around load balancing with boto3: argument 1 is the endpoint, 2 and 3 are the key."""

import datetime
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError


def client(service, key=sys.argv[2], secret=sys.argv[3], token=None):
    return boto3.client(
        service,
        endpoint_url=sys.argv[1],
        region_name="eu-west-1",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        aws_session_token=token,
        config=Config(retries={"max_attempts": 0}),
    )


def refused(code, call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        assert error.response["Error"]["Code"] == code, error
        return error
    raise AssertionError("not refused with " + code)


sts = client("sts")
session = sts.assume_role(RoleArn="arn:aws:iam::123456789012:role/any", RoleSessionName="boto3")["Credentials"]
who = client("sts", session["AccessKeyId"], session["SecretAccessKey"], session["SessionToken"]).get_caller_identity()
assert who["Arn"] == "arn:aws:sts::123456789012:assumed-role/any/boto3", who

ec2, elb = client("ec2"), client("elbv2")
subnets = [s["SubnetId"] for s in ec2.describe_subnets(Filters=[{"Name": "tag:kubernetes.io/role/elb", "Values": ["1"]}])["Subnets"]]
balancer = elb.create_load_balancer(Name="web", Subnets=subnets, Tags=[{"Key": "team", "Value": "shop"}])["LoadBalancers"][0]
arn = balancer["LoadBalancerArn"]

acm = client("acm")
certificate = acm.request_certificate(DomainName="shop.example.com", ValidationMethod="DNS")["CertificateArn"]
record = acm.describe_certificate(CertificateArn=certificate)["Certificate"]["DomainValidationOptions"][0]["ResourceRecord"]

dns = client("route53")
zone = dns.create_hosted_zone(Name="example.com", CallerReference="boto3")["HostedZone"]["Id"]


def records(*changes):
    return dns.change_resource_record_sets(
        HostedZoneId=zone, ChangeBatch={"Changes": [{"Action": action, "ResourceRecordSet": each} for action, each in changes]}
    )["ChangeInfo"]["Id"]


def weighted(name, weight):
    return {
        "Name": "shop.example.com", "Type": "A", "SetIdentifier": name, "Weight": weight,
        "AliasTarget": {"HostedZoneId": balancer["CanonicalHostedZoneId"], "DNSName": balancer["DNSName"], "EvaluateTargetHealth": True},
    }


validation = {"Name": record["Name"], "Type": "CNAME", "TTL": 60, "ResourceRecords": [{"Value": record["Value"]}]}
change = records(("CREATE", weighted("a", 90)), ("CREATE", weighted("b", 10)), ("UPSERT", validation))
dns.get_waiter("resource_record_sets_changed").wait(Id=change, WaiterConfig={"Delay": 1})
acm.get_waiter("certificate_validated").wait(CertificateArn=certificate, WaiterConfig={"Delay": 1})
listed = [r for page in dns.get_paginator("list_resource_record_sets").paginate(HostedZoneId=zone, PaginationConfig={"PageSize": 2}) for r in page["ResourceRecordSets"]]
assert [(r["Type"], r.get("Weight")) for r in listed] == [("NS", None), ("SOA", None), ("A", 90), ("A", 10), ("CNAME", None)], listed
assert "already exists" in str(refused("InvalidChangeBatch", lambda: records(("CREATE", weighted("a", 1)))))
refused("NoSuchHostedZone", dns.get_hosted_zone, Id="Z0")

listener = elb.create_listener(
    LoadBalancerArn=arn, Protocol="HTTPS", Port=443, Certificates=[{"CertificateArn": certificate}],
    DefaultActions=[{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404"}}],
)
refused("ResourceInUseException", acm.delete_certificate, CertificateArn=certificate)
issued = [c for page in acm.get_paginator("list_certificates").paginate(CertificateStatuses=["ISSUED"]) for c in page["CertificateSummaryList"]]
assert [c["CertificateArn"] for c in issued] == [certificate] and issued[0]["InUse"], issued

waf = client("wafv2")
acl = waf.create_web_acl(
    Name="acl", Scope="REGIONAL", DefaultAction={"Allow": {}},
    VisibilityConfig={"SampledRequestsEnabled": False, "CloudWatchMetricsEnabled": False, "MetricName": "acl"},
)["Summary"]
assert "WebACL" not in waf.get_web_acl_for_resource(ResourceArn=arn)
waf.associate_web_acl(WebACLArn=acl["ARN"], ResourceArn=arn)
assert waf.get_web_acl_for_resource(ResourceArn=arn)["WebACL"]["ARN"] == acl["ARN"]
refused("WAFAssociatedItemException", waf.delete_web_acl, Name="acl", Scope="REGIONAL", Id=acl["Id"], LockToken=acl["LockToken"])
assert "WebACLSummary" not in client("waf-regional").get_web_acl_for_resource(ResourceArn=arn)

shield = client("shield")
assert shield.get_subscription_state()["SubscriptionState"] == "INACTIVE"
refused("ResourceNotFoundException", shield.describe_protection, ResourceArn=arn)

tagged = client("resourcegroupstaggingapi").get_paginator("get_resources").paginate(TagFilters=[{"Key": "team", "Values": ["shop"]}])
assert [r["ResourceARN"] for page in tagged for r in page["ResourceTagMappingList"]] == [arn]

metrics = client("cloudwatch")
now = datetime.datetime.now(datetime.timezone.utc)
metrics.put_metric_data(Namespace="Shop", MetricData=[{"MetricName": "Orders", "Value": 3, "Unit": "Count"}] * 2)
query = {"Id": "orders", "MetricStat": {"Metric": {"Namespace": "Shop", "MetricName": "Orders"}, "Period": 60, "Stat": "Sum"}}
data = metrics.get_metric_data(
    StartTime=now - datetime.timedelta(minutes=5), EndTime=now + datetime.timedelta(minutes=5),
    MetricDataQueries=[query, {"Id": "half", "Expression": "orders / 2"}],
)["MetricDataResults"]
assert [r["Values"] for r in data] == [[6.0], [3.0]] and isinstance(data[0]["Timestamps"][0], datetime.datetime), data
assert [m["MetricName"] for page in metrics.get_paginator("list_metrics").paginate() for m in page["Metrics"]] == ["Orders"]
refused("InvalidParameterValue", metrics.put_metric_data, Namespace="AWS/EC2", MetricData=[{"MetricName": "a", "Value": 1}])

refused("UnrecognizedClientException", client("acm", key="AKIANOBODY").list_certificates)
refused("InvalidClientTokenId", client("route53", key="AKIANOBODY").list_hosted_zones)
print("ok")
