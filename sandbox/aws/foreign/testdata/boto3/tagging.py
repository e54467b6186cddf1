"""Resources of all services by their tags."""

import unittest

from account import Account, client, want_all_used

tagged, elb, ec2 = client("resourcegroupstaggingapi"), client("elbv2"), client("ec2")
VPC = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]


class Resources(Account):
    def find(self, **filters):
        return self.pages(tagged, "get_resources", "ResourceTagMappingList", 2, **filters)

    def test_filters(self):
        team = lambda name: [{"Key": "team", "Value": name}]
        group = lambda name, team: elb.create_target_group(Name=name, Protocol="HTTP", Port=80, VpcId=VPC, Tags=team)["TargetGroups"][0]["TargetGroupArn"]
        groups = [group("g%d" % i, team("shop")) for i in range(4)]
        other = group("other", team("pay") + [{"Key": "stage", "Value": "test"}])
        certificate = client("acm").request_certificate(DomainName="example.com", Tags=team("shop"))["CertificateArn"]
        accelerator = client("globalaccelerator").create_accelerator(Name="web", Tags=team("shop"))["Accelerator"]["AcceleratorArn"]
        zone = client("route53").create_hosted_zone(Name="example.com", CallerReference="1")["HostedZone"]["Id"]
        client("route53").change_tags_for_resource(ResourceType="hostedzone", ResourceId=zone.split("/")[-1], AddTags=team("shop"))

        arns = lambda found: sorted(r["ResourceARN"] for r in found)
        shop = [{"Key": "team", "Values": ["shop"]}]
        everything = sorted(groups + [certificate, accelerator, "arn:aws:route53:::hostedzone/" + zone.split("/")[-1]])
        self.assertEqual(arns(self.find(TagFilters=shop)), everything)
        self.assertEqual(arns(self.find(TagFilters=shop, ResourceTypeFilters=["elasticloadbalancing:targetgroup"])), sorted(groups))
        self.assertEqual(arns(self.find(TagFilters=shop, ResourceTypeFilters=["acm", "globalaccelerator:accelerator"])), sorted([certificate, accelerator]))
        self.assertEqual(arns(self.find(TagFilters=[{"Key": "team", "Values": ["shop", "pay"]}, {"Key": "stage"}])), [other])
        self.assertEqual(tagged.get_resources(ResourceARNList=[other])["ResourceTagMappingList"][0]["Tags"], [{"Key": "stage", "Value": "test"}, {"Key": "team", "Value": "pay"}])
        elb.remove_tags(ResourceArns=[groups[0]], TagKeys=["team"])
        self.assertNotIn(groups[0], arns(self.find(TagFilters=shop)))
        # What once had tags is still known.
        self.assertEqual(tagged.get_resources(ResourceARNList=[groups[0]])["ResourceTagMappingList"][0]["Tags"], [])

    def test_refusals(self):
        self.refused(tagged.exceptions.InvalidParameterException, tagged.get_resources, ResourcesPerPage=1000)
        self.refused(tagged.exceptions.PaginationTokenExpiredException, tagged.get_resources, PaginationToken="!")


def tearDownModule():
    want_all_used(tagged)


if __name__ == "__main__":
    unittest.main()
