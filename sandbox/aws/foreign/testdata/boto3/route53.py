"""Hosted zones and their records: weighted sets, aliases, changes, tags."""

import unittest

from account import Account, client, want_all_used

dns = client("route53")


def record(name, value="192.0.2.1", kind="A", **parameters):
    return {"Name": name, "Type": kind, "TTL": 60, "ResourceRecords": [{"Value": value}], **parameters}


class Zones(Account):
    def zone(self, name):
        made = dns.create_hosted_zone(Name=name, CallerReference=name, HostedZoneConfig={"Comment": "made by a test"})
        self.addCleanup(self.remove, made["HostedZone"]["Id"])
        return made["HostedZone"]["Id"]

    def remove(self, zone):
        left = [r for r in dns.list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"] if r["Type"] not in ("NS", "SOA")]
        if left:
            self.change(zone, *(("DELETE", r) for r in left))
        dns.delete_hosted_zone(Id=zone)

    def change(self, zone, *changes):
        batch = {"Changes": [{"Action": action, "ResourceRecordSet": each} for action, each in changes]}
        return dns.change_resource_record_sets(HostedZoneId=zone, ChangeBatch=batch)["ChangeInfo"]

    def test_life_of_a_zone(self):
        made = dns.create_hosted_zone(Name="life.example.com", CallerReference="once", HostedZoneConfig={"Comment": "first"})
        zone = made["HostedZone"]["Id"]
        self.assertIn(zone, made["Location"])
        self.assertEqual((made["HostedZone"]["Name"], made["HostedZone"]["ResourceRecordSetCount"], len(made["DelegationSet"]["NameServers"])), ("life.example.com.", 2, 4))
        dns.get_waiter("resource_record_sets_changed").wait(Id=made["ChangeInfo"]["Id"])
        self.assertEqual(dns.get_hosted_zone(Id=zone)["HostedZone"]["Config"], {"Comment": "first", "PrivateZone": False})
        dns.update_hosted_zone_comment(Id=zone, Comment="second")
        self.assertEqual(dns.get_hosted_zone(Id=zone.split("/")[-1])["HostedZone"]["Config"]["Comment"], "second")
        dns.change_tags_for_resource(ResourceType="hostedzone", ResourceId=zone.split("/")[-1], AddTags=[{"Key": "team", "Value": "shop"}, {"Key": "old", "Value": ""}])
        dns.change_tags_for_resource(ResourceType="hostedzone", ResourceId=zone.split("/")[-1], RemoveTagKeys=["old"])
        self.assertEqual(dns.list_tags_for_resource(ResourceType="hostedzone", ResourceId=zone.split("/")[-1])["ResourceTagSet"]["Tags"], [{"Key": "team", "Value": "shop"}])
        self.assertEqual(len(dns.list_tags_for_resources(ResourceType="hostedzone", ResourceIds=[zone.split("/")[-1]])["ResourceTagSets"]), 1)
        self.assertGreaterEqual(dns.get_hosted_zone_count()["HostedZoneCount"], 1)
        self.refused(dns.exceptions.HostedZoneAlreadyExists, dns.create_hosted_zone, Name="life.example.com", CallerReference="once")
        self.change(zone, ("CREATE", record("www.life.example.com")))
        self.refused(dns.exceptions.HostedZoneNotEmpty, dns.delete_hosted_zone, Id=zone)
        self.change(zone, ("DELETE", record("www.life.example.com")))
        self.assertIn(dns.delete_hosted_zone(Id=zone)["ChangeInfo"]["Status"], ("PENDING", "INSYNC"))
        self.refused(dns.exceptions.NoSuchHostedZone, dns.get_hosted_zone, Id=zone)
        self.refused(dns.exceptions.NoSuchChange, dns.get_change, Id="C0000000000000")

    def test_weighted_records(self):
        zone = self.zone("weighted.example.com")
        share = lambda name, weight: record("shop.weighted.example.com", "192.0.2.%d" % len(name), SetIdentifier=name, Weight=weight)
        info = self.change(zone, ("CREATE", share("a", 90)), ("CREATE", share("bb", 10)))
        dns.get_waiter("resource_record_sets_changed").wait(Id=info["Id"])
        self.change(zone, ("UPSERT", share("a", 0)), ("UPSERT", share("bb", 255)))
        found = [r for r in dns.list_resource_record_sets(HostedZoneId=zone, StartRecordName="shop.weighted.example.com", StartRecordType="A", MaxItems="2")["ResourceRecordSets"]]
        self.assertEqual({r["SetIdentifier"]: r["Weight"] for r in found}, {"a": 0, "bb": 255})
        error = self.refused(dns.exceptions.InvalidChangeBatch, self.change, zone, ("CREATE", share("a", 1)))
        self.assertIn("already exists", str(error))
        self.assertIn("not found", str(self.refused("InvalidChangeBatch", self.change, zone, ("DELETE", share("nobody", 1)))))
        self.assertIn("do not match the current values", str(self.refused("InvalidChangeBatch", self.change, zone, ("DELETE", share("a", 1)))))
        self.refused("InvalidChangeBatch", self.change, zone, ("CREATE", record("shop.weighted.example.com")))

    def test_a_batch_is_made_whole_or_not_at_all(self):
        zone = self.zone("batch.example.com")
        self.refused("InvalidChangeBatch", self.change, zone, ("CREATE", record("a.batch.example.com")), ("DELETE", record("b.batch.example.com")))
        self.assertEqual(len(dns.list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]), 2)

    def test_every_type_is_kept_as_it_was_sent(self):
        zone = self.zone("types.example.com")
        sent = [
            record("types.example.com", "10 mail.types.example.com.", "MX"), record("types.example.com", '"v=spf1 -all" "more & <more>"', "TXT"),
            record("aaaa.types.example.com", "2001:db8::1", "AAAA"), record("c.types.example.com", "types.example.com.", "CNAME"),
            record("_sip._tcp.types.example.com", "1 10 5060 sip.types.example.com.", "SRV"), record("types.example.com", '0 issue "amazon.com"', "CAA"),
            record("*.types.example.com"),
        ]
        self.change(zone, *(("CREATE", r) for r in sent))
        found = {(r["Name"], r["Type"]): r["ResourceRecords"] for r in dns.list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]}
        for each in sent:
            name = each["Name"].replace("*", "\\052") + "."
            self.assertEqual(found[name, each["Type"]], each["ResourceRecords"])

    def test_pages(self):
        zones = {self.zone("z%d.pages.example.com" % i) for i in range(5)}
        found = [z["Id"] for z in self.pages(dns, "list_hosted_zones", "HostedZones", 2)]
        self.assertEqual((set(found) & zones, len(found)), (zones, len(set(found))))
        first = dns.list_hosted_zones_by_name(DNSName="z2.pages.example.com", MaxItems="1")
        self.assertEqual((first["HostedZones"][0]["Name"], first["NextDNSName"], first["IsTruncated"]), ("z2.pages.example.com.", "z3.pages.example.com.", True))
        zone = next(iter(zones))
        name = dns.get_hosted_zone(Id=zone)["HostedZone"]["Name"]
        self.change(zone, *(("CREATE", record("h%d.%s" % (i, name))) for i in range(7)))
        names = [r["Name"] for r in self.pages(dns, "list_resource_record_sets", "ResourceRecordSets", 3, HostedZoneId=zone)]
        self.assertEqual(names, [name] * 2 + ["h%d.%s" % (i, name) for i in range(7)])

    def test_alias_of_a_load_balancer(self):
        zone, elb, ec2 = self.zone("alias.example.com"), client("elbv2"), client("ec2")
        subnets = [s["SubnetId"] for s in ec2.describe_subnets(Filters=[{"Name": "tag:kubernetes.io/role/elb", "Values": ["1"]}])["Subnets"]]
        balancer = elb.create_load_balancer(Name="alias", Subnets=subnets)["LoadBalancers"][0]
        alias = {"HostedZoneId": balancer["CanonicalHostedZoneId"], "DNSName": "dualstack." + balancer["DNSName"], "EvaluateTargetHealth": True}
        self.change(zone, ("CREATE", {"Name": "alias.example.com", "Type": "A", "AliasTarget": alias}))
        found = next(r for r in dns.list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"] if r["Type"] == "A")
        self.assertEqual(found["AliasTarget"]["DNSName"].lower(), "dualstack." + balancer["DNSName"].lower() + ".")
        self.refused("InvalidChangeBatch", self.change, zone, ("CREATE", {"Name": "x.alias.example.com", "Type": "A", "AliasTarget": {**alias, "HostedZoneId": "Z0000000000000"}}))


def tearDownModule():
    want_all_used(dns)


if __name__ == "__main__":
    unittest.main()
