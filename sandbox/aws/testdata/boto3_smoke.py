"""Drives the emulated account with boto3, the SDK of another language: argument 1 is the endpoint."""

import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

settings = dict(
    endpoint_url=sys.argv[1],
    region_name="eu-west-1",
    aws_access_key_id=sys.argv[2],
    aws_secret_access_key=sys.argv[3],
    config=Config(retries={"max_attempts": 0}),
)
ec2 = boto3.client("ec2", **settings)
elb = boto3.client("elbv2", **settings)
sts = boto3.client("sts", **settings)

assert sts.get_caller_identity()["Account"] == "123456789012"
vpc = ec2.describe_vpcs()["Vpcs"][0]
subnets = ec2.describe_subnets(
    Filters=[{"Name": "vpc-id", "Values": [vpc["VpcId"]]}, {"Name": "tag:kubernetes.io/role/elb", "Values": ["1"]}]
)["Subnets"]
assert len(subnets) == 3, subnets

group = ec2.create_security_group(GroupName="lb", Description="load balancer", VpcId=vpc["VpcId"])["GroupId"]
added = ec2.authorize_security_group_ingress(
    GroupId=group,
    IpPermissions=[{"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "0.0.0.0/0", "Description": "all"}]}],
)
assert added["SecurityGroupRules"][0]["CidrIpv4"] == "0.0.0.0/0", added

balancer = elb.create_load_balancer(
    Name="web", Subnets=[s["SubnetId"] for s in subnets], SecurityGroups=[group], Tags=[{"Key": "team", "Value": "shop"}]
)["LoadBalancers"][0]
elb.get_waiter("load_balancer_available").wait(LoadBalancerArns=[balancer["LoadBalancerArn"]], WaiterConfig={"Delay": 1})
groups = [
    elb.create_target_group(Name=name, Protocol="HTTP", Port=8080, VpcId=vpc["VpcId"], TargetType="ip")["TargetGroups"][0]["TargetGroupArn"]
    for name in ("stable", "canary")
]
listener = elb.create_listener(
    LoadBalancerArn=balancer["LoadBalancerArn"],
    Protocol="HTTP",
    Port=80,
    DefaultActions=[{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404", "ContentType": "text/plain"}}],
)["Listeners"][0]["ListenerArn"]
weights = [{"TargetGroupArn": groups[0], "Weight": 90}, {"TargetGroupArn": groups[1], "Weight": 10}]
rule = elb.create_rule(
    ListenerArn=listener,
    Priority=1,
    Conditions=[{"Field": "host-header", "HostHeaderConfig": {"Values": ["shop.example.com"]}}],
    Actions=[{"Type": "forward", "ForwardConfig": {"TargetGroups": weights}}],
)["Rules"][0]
assert rule["Actions"][0]["ForwardConfig"]["TargetGroups"] == weights, rule
assert rule["Conditions"][0]["Values"] == ["shop.example.com"], rule

elb.register_targets(TargetGroupArn=groups[0], Targets=[{"Id": subnets[0]["CidrBlock"].split("/")[0][:-1] + "9"}])
health = elb.describe_target_health(TargetGroupArn=groups[0])["TargetHealthDescriptions"]
assert health[0]["TargetHealth"]["State"] == "initial", health
tags = elb.describe_tags(ResourceArns=[balancer["LoadBalancerArn"]])["TagDescriptions"][0]["Tags"]
assert tags == [{"Key": "team", "Value": "shop"}], tags
names = [g["TargetGroupName"] for page in elb.get_paginator("describe_target_groups").paginate(PageSize=1) for g in page["TargetGroups"]]
assert sorted(names) == ["canary", "stable"], names

for call, code in (
    (lambda: elb.describe_rules(RuleArns=[rule["RuleArn"] + "0"]), "RuleNotFound"),
    (lambda: elb.delete_target_group(TargetGroupArn=groups[0]), "ResourceInUse"),
    (lambda: ec2.delete_security_group(GroupId=group), "DependencyViolation"),
):
    try:
        call()
        raise AssertionError("not refused with " + code)
    except ClientError as refused:
        assert refused.response["Error"]["Code"] == code, refused
elb.delete_load_balancer(LoadBalancerArn=balancer["LoadBalancerArn"])
print("ok")
