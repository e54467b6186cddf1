"""Certificates: requested and validated by DNS, imported, listed, tagged, deleted."""

import os
import pathlib
import unittest

from account import Account, client, want_all_used

acm, dns = client("acm"), client("route53")
CERTIFICATES = pathlib.Path(os.environ["CERTIFICATES"])


class Certificates(Account):
    def test_a_certificate_is_validated_by_its_record(self):
        arn = acm.request_certificate(
            DomainName="shop.example.com", SubjectAlternativeNames=["www.example.com"], ValidationMethod="DNS", KeyAlgorithm="EC_prime256v1",
            IdempotencyToken="one", Tags=[{"Key": "team", "Value": "shop"}],
        )["CertificateArn"]
        self.assertEqual(acm.request_certificate(DomainName="shop.example.com", SubjectAlternativeNames=["www.example.com"], ValidationMethod="DNS", KeyAlgorithm="EC_prime256v1", IdempotencyToken="one")["CertificateArn"], arn)
        pending = acm.describe_certificate(CertificateArn=arn)["Certificate"]
        self.assertEqual((pending["Status"], pending["Type"], set(pending["SubjectAlternativeNames"])), ("PENDING_VALIDATION", "AMAZON_ISSUED", {"shop.example.com", "www.example.com"}))
        self.refused(acm.exceptions.RequestInProgressException, acm.get_certificate, CertificateArn=arn)

        zone = dns.create_hosted_zone(Name="example.com", CallerReference="acm")["HostedZone"]["Id"]
        records = [o["ResourceRecord"] for o in pending["DomainValidationOptions"]]
        dns.change_resource_record_sets(HostedZoneId=zone, ChangeBatch={"Changes": [
            {"Action": "UPSERT", "ResourceRecordSet": {"Name": r["Name"], "Type": r["Type"], "TTL": 60, "ResourceRecords": [{"Value": r["Value"]}]}} for r in records
        ]})
        acm.get_waiter("certificate_validated").wait(CertificateArn=arn, WaiterConfig={"Delay": 1})
        issued = acm.describe_certificate(CertificateArn=arn)["Certificate"]
        self.assertEqual((issued["Status"], issued["KeyAlgorithm"]), ("ISSUED", "EC_prime256v1"))
        self.assertGreater(issued["NotAfter"], issued["NotBefore"])
        self.assertIn("BEGIN CERTIFICATE", acm.get_certificate(CertificateArn=arn)["Certificate"])

        acm.add_tags_to_certificate(CertificateArn=arn, Tags=[{"Key": "stage", "Value": "test"}])
        acm.remove_tags_from_certificate(CertificateArn=arn, Tags=[{"Key": "team"}])
        self.assertEqual(acm.list_tags_for_certificate(CertificateArn=arn)["Tags"], [{"Key": "stage", "Value": "test"}])
        acm.delete_certificate(CertificateArn=arn)
        self.refused(acm.exceptions.ResourceNotFoundException, acm.describe_certificate, CertificateArn=arn)

    def test_import(self):
        parts = {"Certificate": (CERTIFICATES / "server.pem").read_bytes(), "CertificateChain": (CERTIFICATES / "authority.pem").read_bytes()}
        arn = acm.import_certificate(PrivateKey=(CERTIFICATES / "server-key.pem").read_bytes(), **parts)["CertificateArn"]
        found = acm.describe_certificate(CertificateArn=arn)["Certificate"]
        self.assertEqual((found["Type"], found["DomainName"], found["Serial"]), ("IMPORTED", "shop.example.com", "02"))
        self.assertEqual(acm.get_certificate(CertificateArn=arn)["Certificate"].strip(), parts["Certificate"].decode().strip())
        self.refused("ValidationException", acm.import_certificate, PrivateKey=b"nothing", **parts)

    def test_pages_and_filters(self):
        arns = {acm.request_certificate(DomainName="%d.pages.example.com" % i, ValidationMethod="DNS")["CertificateArn"] for i in range(5)}
        found = [c["CertificateArn"] for c in self.pages(acm, "list_certificates", "CertificateSummaryList", 2, CertificateStatuses=["PENDING_VALIDATION"])]
        self.assertEqual((set(found) & arns, len(found)), (arns, len(set(found))))
        issued = acm.list_certificates(CertificateStatuses=["ISSUED"])["CertificateSummaryList"]
        self.assertFalse(arns & {c["CertificateArn"] for c in issued})

    def test_refusals(self):
        gone = "arn:aws:acm:eu-west-1:123456789012:certificate/00000000-0000-0000-0000-000000000000"
        self.refused(acm.exceptions.ResourceNotFoundException, acm.delete_certificate, CertificateArn=gone)
        self.refused(acm.exceptions.InvalidArnException, acm.describe_certificate, CertificateArn="arn:aws:s3:::certificates-of-a-bucket")
        self.refused(acm.exceptions.InvalidParameterException, acm.request_certificate, DomainName="no domain at all", ValidationMethod="DNS")


def tearDownModule():
    want_all_used(acm)


if __name__ == "__main__":
    unittest.main()
