"""Clients wait for what takes a second here: they see it begun, and then done."""

import time
import unittest

from botocore.config import Config

from account import Account, client

SOON = {"Delay": 1, "MaxAttempts": 30}


class Waiters(Account):
    def test_a_load_balancer_is_provisioned(self):
        elb, ec2 = client("elbv2"), client("ec2")
        subnets = [s["SubnetId"] for s in ec2.describe_subnets(Filters=[{"Name": "tag:kubernetes.io/role/elb", "Values": ["1"]}])["Subnets"]]
        made = elb.create_load_balancer(Name="web", Subnets=subnets)["LoadBalancers"][0]
        self.assertEqual(made["State"]["Code"], "provisioning")
        elb.get_waiter("load_balancer_available").wait(Names=["web"], WaiterConfig=SOON)
        self.assertEqual(elb.describe_load_balancers(Names=["web"])["LoadBalancers"][0]["State"]["Code"], "active")

    def test_a_record_arrives(self):
        dns = client("route53")
        change = dns.create_hosted_zone(Name="example.com", CallerReference="1")["ChangeInfo"]
        self.assertEqual(change["Status"], "PENDING")
        dns.get_waiter("resource_record_sets_changed").wait(Id=change["Id"], WaiterConfig=SOON)
        self.assertEqual(dns.get_change(Id=change["Id"])["ChangeInfo"]["Status"], "INSYNC")

    def test_a_certificate_is_issued(self):
        # A zone that is still busy refuses a change; clients try again by themselves.
        acm, dns = client("acm"), client("route53", Config(retries={"mode": "standard", "total_max_attempts": 10}))
        arn = acm.request_certificate(DomainName="shop.example.org", ValidationMethod="DNS")["CertificateArn"]
        record = acm.describe_certificate(CertificateArn=arn)["Certificate"]["DomainValidationOptions"][0]["ResourceRecord"]
        zone = dns.create_hosted_zone(Name="example.org", CallerReference="2")["HostedZone"]["Id"]
        dns.change_resource_record_sets(HostedZoneId=zone, ChangeBatch={"Changes": [
            {"Action": "CREATE", "ResourceRecordSet": {"Name": record["Name"], "Type": "CNAME", "TTL": 60, "ResourceRecords": [{"Value": record["Value"]}]}}
        ]})
        self.assertEqual(acm.describe_certificate(CertificateArn=arn)["Certificate"]["Status"], "PENDING_VALIDATION")
        acm.get_waiter("certificate_validated").wait(CertificateArn=arn, WaiterConfig=SOON)

    def test_an_accelerator_is_deployed(self):
        ga = client("globalaccelerator")
        made = ga.create_accelerator(Name="web", IdempotencyToken="1")["Accelerator"]
        self.assertEqual(made["Status"], "IN_PROGRESS")
        deadline = time.monotonic() + 30
        while ga.describe_accelerator(AcceleratorArn=made["AcceleratorArn"])["Accelerator"]["Status"] != "DEPLOYED":
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.2)  # no client has a waiter for it


if __name__ == "__main__":
    unittest.main()
