"""Web ACLs of both generations and who they protect; protections of Shield."""

import unittest

from account import Account, client, want_all_used

waf, old, shield, elb, ec2 = client("wafv2"), client("waf-regional"), client("shield"), client("elbv2"), client("ec2")
SUBNETS = [s["SubnetId"] for s in ec2.describe_subnets(Filters=[{"Name": "tag:kubernetes.io/role/elb", "Values": ["1"]}])["Subnets"]]
SILENT = {"SampledRequestsEnabled": False, "CloudWatchMetricsEnabled": False, "MetricName": "acl"}


class Protected(Account):
    @classmethod
    def setUpClass(cls):
        cls.arn = elb.create_load_balancer(Name=cls.__name__, Subnets=SUBNETS)["LoadBalancers"][0]["LoadBalancerArn"]
        cls.network = elb.create_load_balancer(Name=cls.__name__ + "-net", Type="network", Subnets=SUBNETS)["LoadBalancers"][0]["LoadBalancerArn"]


class WebACLs(Protected):
    def acl(self, name):
        return waf.create_web_acl(Name=name, Scope="REGIONAL", DefaultAction={"Allow": {}}, VisibilityConfig=SILENT)["Summary"]

    def test_life(self):
        made = self.acl("life")
        got = waf.get_web_acl(Name="life", Scope="REGIONAL", Id=made["Id"])
        self.assertEqual((got["WebACL"]["ARN"], got["LockToken"], got["WebACL"]["DefaultAction"]), (made["ARN"], made["LockToken"], {"Allow": {}}))
        self.assertNotIn("WebACL", waf.get_web_acl_for_resource(ResourceArn=self.arn))
        waf.associate_web_acl(WebACLArn=made["ARN"], ResourceArn=self.arn)
        self.assertEqual(waf.get_web_acl_for_resource(ResourceArn=self.arn)["WebACL"]["Name"], "life")
        self.assertEqual(waf.list_resources_for_web_acl(WebACLArn=made["ARN"], ResourceType="APPLICATION_LOAD_BALANCER")["ResourceArns"], [self.arn])
        life = {"Name": "life", "Scope": "REGIONAL", "Id": made["Id"], "LockToken": got["LockToken"]}
        self.refused(waf.exceptions.WAFAssociatedItemException, waf.delete_web_acl, **life)
        waf.disassociate_web_acl(ResourceArn=self.arn)
        self.refused(waf.exceptions.WAFOptimisticLockException, waf.delete_web_acl, **{**life, "LockToken": "00000000-0000-0000-0000-000000000000"})
        waf.delete_web_acl(**life)
        self.refused(waf.exceptions.WAFNonexistentItemException, waf.associate_web_acl, WebACLArn=made["ARN"], ResourceArn=self.arn)

    def test_pages_and_refusals(self):
        names = ["page-%d" % i for i in range(5)]
        arn = [self.acl(name)["ARN"] for name in names][0]
        found, marker = [], {}
        while True:
            page = waf.list_web_acls(Scope="REGIONAL", Limit=2, **marker)
            self.assertLessEqual(len(page["WebACLs"]), 2)
            found += [a["Name"] for a in page["WebACLs"]]
            if "NextMarker" not in page:
                break
            marker = {"NextMarker": page["NextMarker"]}
        self.assertEqual([n for n in found if n in names], names)
        self.refused(waf.exceptions.WAFDuplicateItemException, self.acl, "page-0")
        self.refused(waf.exceptions.WAFInvalidParameterException, waf.associate_web_acl, WebACLArn=arn, ResourceArn=self.network)


class OldWebACLs(Protected):
    def test_life(self):
        token = lambda: old.get_change_token()["ChangeToken"]
        made = old.create_web_acl(Name="old", MetricName="old", DefaultAction={"Type": "ALLOW"}, ChangeToken=token())["WebACL"]
        self.assertIn("old", [a["Name"] for a in old.list_web_acls(Limit=10)["WebACLs"]])
        self.assertNotIn("WebACLSummary", old.get_web_acl_for_resource(ResourceArn=self.arn))
        old.associate_web_acl(WebACLId=made["WebACLId"], ResourceArn=self.arn)
        self.assertEqual(old.get_web_acl_for_resource(ResourceArn=self.arn)["WebACLSummary"], {"WebACLId": made["WebACLId"], "Name": "old"})
        self.assertEqual(old.list_resources_for_web_acl(WebACLId=made["WebACLId"], ResourceType="APPLICATION_LOAD_BALANCER")["ResourceArns"], [self.arn])
        self.refused(old.exceptions.WAFReferencedItemException, old.delete_web_acl, WebACLId=made["WebACLId"], ChangeToken=token())
        old.disassociate_web_acl(ResourceArn=self.arn)
        used = token()
        old.delete_web_acl(WebACLId=made["WebACLId"], ChangeToken=used)
        self.refused(old.exceptions.WAFStaleDataException, old.create_web_acl, Name="x", MetricName="x", DefaultAction={"Type": "ALLOW"}, ChangeToken=used)
        self.refused(old.exceptions.WAFNonexistentItemException, old.associate_web_acl, WebACLId=made["WebACLId"], ResourceArn=self.arn)


class Protections(Protected):
    def test_life(self):
        self.assertEqual(shield.get_subscription_state()["SubscriptionState"], "INACTIVE")
        self.refused(shield.exceptions.ResourceNotFoundException, shield.describe_protection, ResourceArn=self.arn)
        shield.create_subscription()
        self.assertEqual(shield.get_subscription_state()["SubscriptionState"], "ACTIVE")
        ids = [shield.create_protection(Name="p", ResourceArn=arn)["ProtectionId"] for arn in (self.arn, self.network)]
        self.refused(shield.exceptions.ResourceAlreadyExistsException, shield.create_protection, Name="p", ResourceArn=self.arn)
        self.refused(shield.exceptions.ResourceNotFoundException, shield.create_protection, Name="p", ResourceArn=self.arn[:-1])
        self.refused(shield.exceptions.InvalidResourceException, shield.create_protection, Name="p", ResourceArn="arn:aws:s3:::a-bucket-that-cannot-be")
        found = shield.describe_protection(ResourceArn=self.arn)["Protection"]
        self.assertEqual((found["Id"], found["Name"], found["ResourceArn"]), (ids[0], "p", self.arn))
        self.assertEqual(shield.describe_protection(ProtectionId=ids[1])["Protection"]["ResourceArn"], self.network)
        self.assertEqual(sorted(p["Id"] for p in self.pages(shield, "list_protections", "Protections")), sorted(ids))
        for each in ids:
            shield.delete_protection(ProtectionId=each)
        self.refused(shield.exceptions.ResourceNotFoundException, shield.delete_protection, ProtectionId=ids[0])


def tearDownModule():
    want_all_used(shield)


if __name__ == "__main__":
    unittest.main()
