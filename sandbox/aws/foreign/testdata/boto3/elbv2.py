"""Load balancers, listeners, rules, target groups and their targets, trust stores and capacity."""

import http.server
import os
import pathlib
import threading
import unittest
import urllib.request

from account import ENDPOINT, Account, admin, client, want_all_used

# Certificates made for this run: of a server with its key, of an authority, and the list of what that has revoked.
CERTIFICATES = pathlib.Path(os.environ["CERTIFICATES"])

elb, ec2, acm = client("elbv2"), client("ec2"), client("acm")
VPC = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
SUBNETS = [s["SubnetId"] for s in ec2.describe_subnets(Filters=[{"Name": "tag:kubernetes.io/role/elb", "Values": ["1"]}])["Subnets"]]
NOT_FOUND = [{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404", "ContentType": "text/plain", "MessageBody": "nobody here"}}]


def forward(*groups):
    """An action that shares requests between (group, weight) pairs."""
    return [{"Type": "forward", "ForwardConfig": {"TargetGroups": [{"TargetGroupArn": g, "Weight": w} for g, w in groups]}}]


def tags(arn):
    return {t["Key"]: t["Value"] for t in elb.describe_tags(ResourceArns=[arn])["TagDescriptions"][0]["Tags"]}


class Balancing(Account):
    def balancer(self, name, **parameters):
        made = elb.create_load_balancer(Name=name, Subnets=SUBNETS, **parameters)["LoadBalancers"][0]
        self.addCleanup(elb.delete_load_balancer, LoadBalancerArn=made["LoadBalancerArn"])
        return made

    def target_group(self, name, protocol="HTTP", port=8080, **parameters):
        made = elb.create_target_group(Name=name, Protocol=protocol, Port=port, VpcId=VPC, **{"TargetType": "ip", **parameters})["TargetGroups"][0]
        self.addCleanup(elb.delete_target_group, TargetGroupArn=made["TargetGroupArn"])
        return made["TargetGroupArn"]

    def listener(self, balancer, port=80, protocol="HTTP", actions=None, **parameters):
        made = elb.create_listener(
            LoadBalancerArn=balancer["LoadBalancerArn"], Port=port, Protocol=protocol, DefaultActions=actions or NOT_FOUND, **parameters
        )["Listeners"][0]
        self.addCleanup(elb.delete_listener, ListenerArn=made["ListenerArn"])
        return made["ListenerArn"]

    def certificate(self):
        read = lambda name: (CERTIFICATES / name).read_bytes()
        return acm.import_certificate(Certificate=read("server.pem"), PrivateKey=read("server-key.pem"))["CertificateArn"]


class LoadBalancers(Balancing):
    def test_life_of_an_application_load_balancer(self):
        groups = [ec2.create_security_group(GroupName="alb-%d" % i, Description="alb", VpcId=VPC)["GroupId"] for i in (1, 2)]
        made = elb.create_load_balancer(
            Name="life", Subnets=SUBNETS[:2], SecurityGroups=groups[:1], Scheme="internal", IpAddressType="ipv4", Tags=[{"Key": "team", "Value": "shop"}]
        )["LoadBalancers"][0]
        arn = made["LoadBalancerArn"]
        self.assertEqual((made["Type"], made["Scheme"], made["VpcId"], made["SecurityGroups"]), ("application", "internal", VPC, groups[:1]))
        self.assertTrue(made["DNSName"].startswith("internal-life-"))
        elb.get_waiter("load_balancer_available").wait(LoadBalancerArns=[arn])
        elb.get_waiter("load_balancer_exists").wait(Names=["life"])
        self.assertEqual(elb.describe_load_balancers(Names=["life"])["LoadBalancers"][0]["LoadBalancerArn"], arn)

        elb.set_security_groups(LoadBalancerArn=arn, SecurityGroups=groups)
        zones = elb.set_subnets(LoadBalancerArn=arn, Subnets=SUBNETS)["AvailabilityZones"]
        self.assertEqual(sorted(z["SubnetId"] for z in zones), sorted(SUBNETS))
        self.assertEqual(elb.set_ip_address_type(LoadBalancerArn=arn, IpAddressType="ipv4")["IpAddressType"], "ipv4")
        found = elb.describe_load_balancers(LoadBalancerArns=[arn])["LoadBalancers"][0]
        self.assertEqual((sorted(found["SecurityGroups"]), len(found["AvailabilityZones"])), (sorted(groups), 3))

        elb.modify_load_balancer_attributes(LoadBalancerArn=arn, Attributes=[{"Key": "idle_timeout.timeout_seconds", "Value": "30"}, {"Key": "deletion_protection.enabled", "Value": "true"}])
        attributes = {a["Key"]: a["Value"] for a in elb.describe_load_balancer_attributes(LoadBalancerArn=arn)["Attributes"]}
        self.assertEqual((attributes["idle_timeout.timeout_seconds"], attributes["routing.http2.enabled"]), ("30", "true"))
        self.refused(elb.exceptions.OperationNotPermittedException, elb.delete_load_balancer, LoadBalancerArn=arn)
        elb.modify_load_balancer_attributes(LoadBalancerArn=arn, Attributes=[{"Key": "deletion_protection.enabled", "Value": "false"}])
        self.refused(
            elb.exceptions.InvalidConfigurationRequestException,
            elb.modify_load_balancer_attributes, LoadBalancerArn=arn, Attributes=[{"Key": "idle_timeout.timeout_seconds", "Value": "5000"}],
        )

        elb.add_tags(ResourceArns=[arn], Tags=[{"Key": "stage", "Value": "test"}, {"Key": "team", "Value": "pay"}])
        self.assertEqual(tags(arn), {"team": "pay", "stage": "test"})
        elb.remove_tags(ResourceArns=[arn], TagKeys=["stage"])
        self.assertEqual(tags(arn), {"team": "pay"})

        elb.delete_load_balancer(LoadBalancerArn=arn)
        elb.get_waiter("load_balancers_deleted").wait(LoadBalancerArns=[arn])
        self.refused(elb.exceptions.LoadBalancerNotFoundException, elb.describe_load_balancers, LoadBalancerArns=[arn])
        elb.delete_load_balancer(LoadBalancerArn=arn)  # that it is gone is what was asked for

    def test_life_of_a_network_load_balancer(self):
        made = elb.create_load_balancer(Name="net", Type="network", Scheme="internal", SubnetMappings=[{"SubnetId": s} for s in SUBNETS])["LoadBalancers"][0]
        arn = made["LoadBalancerArn"]
        self.addCleanup(elb.delete_load_balancer, LoadBalancerArn=arn)
        self.assertEqual((made["Type"], made["State"]["Code"] in ("provisioning", "active")), ("network", True))
        tcp, udp, tls = (self.target_group("net-" + p.lower(), p, 7000) for p in ("TCP", "UDP", "TLS"))
        self.listener(made, 80, "TCP", [{"Type": "forward", "TargetGroupArn": tcp}])
        self.listener(made, 53, "UDP", [{"Type": "forward", "TargetGroupArn": udp}])
        secure = self.listener(
            made, 443, "TLS", [{"Type": "forward", "TargetGroupArn": tls}], Certificates=[{"CertificateArn": self.certificate()}],
            SslPolicy="ELBSecurityPolicy-TLS13-1-2-2021-06", AlpnPolicy=["HTTP2Preferred"],
        )
        self.assertEqual(elb.describe_listeners(ListenerArns=[secure])["Listeners"][0]["AlpnPolicy"], ["HTTP2Preferred"])
        self.assertEqual(sorted(l["Port"] for l in self.pages(elb, "describe_listeners", "Listeners", LoadBalancerArn=arn)), [53, 80, 443])
        elb.modify_load_balancer_attributes(LoadBalancerArn=arn, Attributes=[{"Key": "load_balancing.cross_zone.enabled", "Value": "true"}])
        self.refused(elb.exceptions.UnsupportedProtocolException, elb.create_listener, LoadBalancerArn=arn, Port=8080, Protocol="HTTP", DefaultActions=NOT_FOUND)

    def test_refusals(self):
        self.balancer("refused")
        self.refused(elb.exceptions.DuplicateLoadBalancerNameException, elb.create_load_balancer, Name="refused", Subnets=SUBNETS, Scheme="internal")
        self.refused(elb.exceptions.SubnetNotFoundException, elb.create_load_balancer, Name="other", Subnets=["subnet-0123456789abcdef0", SUBNETS[0]])
        self.refused(elb.exceptions.LoadBalancerNotFoundException, elb.describe_load_balancers, Names=["nobody"])
        self.refused("ValidationError", elb.create_load_balancer, Name="-", Subnets=SUBNETS)
        self.refused(
            elb.exceptions.DuplicateTagKeysException,
            elb.create_load_balancer, Name="other", Subnets=SUBNETS, Tags=[{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}],
        )

    def test_pages(self):
        names = {"page-%d" % i for i in range(5)}
        for name in names:
            self.balancer(name)
        found = [b["LoadBalancerName"] for b in self.pages(elb, "describe_load_balancers", "LoadBalancers", 2)]
        self.assertEqual((len(found), set(found) & names), (len(set(found)), names))
        self.refused("ValidationError", elb.describe_load_balancers, Marker="no such page")
        self.refused("ValidationError", elb.describe_load_balancers, PageSize=401)

    def test_capacity(self):
        if not hasattr(elb, "modify_capacity_reservation"):
            self.skipTest("this release of boto3 does not know capacity reservations")
        arn = self.balancer("capacity")["LoadBalancerArn"]
        elb.get_waiter("load_balancer_available").wait(LoadBalancerArns=[arn])
        elb.modify_capacity_reservation(LoadBalancerArn=arn, MinimumLoadBalancerCapacity={"CapacityUnits": 300})
        found = elb.describe_capacity_reservation(LoadBalancerArn=arn)
        self.assertEqual(found["MinimumLoadBalancerCapacity"], {"CapacityUnits": 300})
        self.assertEqual({z["State"]["Code"] for z in found["CapacityReservationState"]}, {"provisioned"})
        self.refused(
            elb.exceptions.CapacityUnitsLimitExceededException,
            elb.modify_capacity_reservation, LoadBalancerArn=arn, MinimumLoadBalancerCapacity={"CapacityUnits": 1000000},
        )
        elb.modify_capacity_reservation(LoadBalancerArn=arn, ResetCapacityReservation=True)
        self.assertNotIn("MinimumLoadBalancerCapacity", elb.describe_capacity_reservation(LoadBalancerArn=arn))


    def test_pools_of_addresses(self):
        if not hasattr(elb, "modify_ip_pools"):
            self.skipTest("this release of boto3 does not know pools of addresses")
        arn, pool = self.balancer("pools")["LoadBalancerArn"], {"Ipv4IpamPoolId": "ipam-pool-0123456789abcdef0"}
        self.assertEqual(elb.modify_ip_pools(LoadBalancerArn=arn, IpamPools=pool)["IpamPools"], pool)
        self.assertEqual(elb.describe_load_balancers(LoadBalancerArns=[arn])["LoadBalancers"][0]["IpamPools"], pool)
        elb.modify_ip_pools(LoadBalancerArn=arn, RemoveIpamPools=["ipv4"])
        self.assertNotIn("IpamPools", elb.describe_load_balancers(LoadBalancerArns=[arn])["LoadBalancers"][0])


class Listeners(Balancing):
    def test_life_of_a_secure_listener(self):
        balancer, one, two = self.balancer("secure"), self.certificate(), self.certificate()
        arn = self.listener(balancer, 443, "HTTPS", Certificates=[{"CertificateArn": one}])
        found = elb.describe_listeners(ListenerArns=[arn])["Listeners"][0]
        self.assertEqual((found["Certificates"], found["Protocol"]), ([{"CertificateArn": one}], "HTTPS"))
        self.assertTrue(found["SslPolicy"].startswith("ELBSecurityPolicy-"))

        elb.add_listener_certificates(ListenerArn=arn, Certificates=[{"CertificateArn": two}])
        certificates = self.pages(elb, "describe_listener_certificates", "Certificates", ListenerArn=arn)
        # The default certificate is listed twice.
        self.assertEqual({(c["CertificateArn"], c["IsDefault"]) for c in certificates}, {(one, True), (one, False), (two, False)})
        elb.remove_listener_certificates(ListenerArn=arn, Certificates=[{"CertificateArn": two}])
        self.refused(elb.exceptions.OperationNotPermittedException, elb.remove_listener_certificates, ListenerArn=arn, Certificates=[{"CertificateArn": one}])
        self.refused(
            elb.exceptions.CertificateNotFoundException, elb.add_listener_certificates, ListenerArn=arn,
            Certificates=[{"CertificateArn": one[:-1] + ("0" if one[-1] != "0" else "1")}],
        )
        changed = elb.modify_listener(ListenerArn=arn, Port=8443, SslPolicy="ELBSecurityPolicy-TLS13-1-2-2021-06", Certificates=[{"CertificateArn": two}])["Listeners"][0]
        self.assertEqual((changed["Port"], changed["SslPolicy"], changed["Certificates"]), (8443, "ELBSecurityPolicy-TLS13-1-2-2021-06", [{"CertificateArn": two}]))
        self.refused(acm.exceptions.ResourceInUseException, acm.delete_certificate, CertificateArn=two)
        self.refused(elb.exceptions.SSLPolicyNotFoundException, elb.modify_listener, ListenerArn=arn, SslPolicy="ELBSecurityPolicy-None")
        if hasattr(elb, "modify_listener_attributes"):
            elb.modify_listener_attributes(ListenerArn=arn, Attributes=[{"Key": "routing.http.response.server.enabled", "Value": "false"}])
            attributes = {a["Key"]: a.get("Value") for a in elb.describe_listener_attributes(ListenerArn=arn)["Attributes"]}
            self.assertEqual(attributes["routing.http.response.server.enabled"], "false")
        elb.delete_listener(ListenerArn=arn)
        self.refused(elb.exceptions.ListenerNotFoundException, elb.describe_listeners, ListenerArns=[arn])
        self._cleanups = [c for c in self._cleanups if c[0] != elb.delete_listener]

    def test_redirect(self):
        redirect = {"Protocol": "HTTPS", "Port": "443", "Host": "#{host}", "Path": "/#{path}", "Query": "#{query}", "StatusCode": "HTTP_301"}
        arn = self.listener(self.balancer("redirect"), actions=[{"Type": "redirect", "RedirectConfig": redirect}])
        self.assertEqual(elb.describe_listeners(ListenerArns=[arn])["Listeners"][0]["DefaultActions"][0]["RedirectConfig"], redirect)

    def test_refusals(self):
        balancer = self.balancer("busy")
        self.listener(balancer)
        arn = balancer["LoadBalancerArn"]
        other = [{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "200"}}]
        self.refused(elb.exceptions.DuplicateListenerException, elb.create_listener, LoadBalancerArn=arn, Port=80, Protocol="HTTP", DefaultActions=other)
        self.refused(
            elb.exceptions.TargetGroupNotFoundException, elb.create_listener, LoadBalancerArn=arn, Port=81, Protocol="HTTP",
            DefaultActions=forward(("arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/none/0123456789abcdef", 1)),
        )

    def test_ssl_policies(self):
        names = [p["Name"] for p in self.pages(elb, "describe_ssl_policies", "SslPolicies", 3)]
        self.assertIn("ELBSecurityPolicy-2016-08", names)
        self.assertEqual(len(names), len(set(names)))
        one = elb.describe_ssl_policies(Names=["ELBSecurityPolicy-TLS13-1-2-2021-06"])["SslPolicies"][0]
        self.assertIn("TLSv1.3", one["SslProtocols"])
        self.assertTrue(all("Priority" in c for c in one["Ciphers"]))

    def test_account_limits(self):
        limits = {l["Name"]: l["Max"] for l in self.pages(elb, "describe_account_limits", "Limits", 4)}
        self.assertEqual((limits["application-load-balancers"], limits["rules-per-application-load-balancer"]), ("50", "100"))

    def test_trust_stores(self):
        if not hasattr(elb, "create_trust_store"):
            self.skipTest("this release of boto3 does not know trust stores")
        for key in ("authority.pem", "revoked.pem"):
            put = urllib.request.Request(ENDPOINT + "/_lockstep/objects/certificates/" + key, (CERTIFICATES / key).read_bytes(), method="PUT")
            urllib.request.urlopen(put).close()
        where = {"CaCertificatesBundleS3Bucket": "certificates", "CaCertificatesBundleS3Key": "authority.pem"}
        stores = [elb.create_trust_store(Name="partners-%d" % i, **where)["TrustStores"][0]["TrustStoreArn"] for i in (1, 2)]
        store = elb.describe_trust_stores(Names=["partners-1"])["TrustStores"][0]
        self.assertEqual((store["Status"], store["NumberOfCaCertificates"], store["TrustStoreArn"]), ("ACTIVE", 1, stores[0]))
        self.assertEqual(len(self.pages(elb, "describe_trust_stores", "TrustStores")), 2)
        self.refused(elb.exceptions.DuplicateTrustStoreNameException, elb.create_trust_store, Name="partners-1", **where)
        self.refused(
            elb.exceptions.CaCertificatesBundleNotFoundException,
            elb.create_trust_store, Name="nothing", CaCertificatesBundleS3Bucket="certificates", CaCertificatesBundleS3Key="nothing",
        )
        added = elb.add_trust_store_revocations(TrustStoreArn=stores[0], RevocationContents=[{"S3Bucket": "certificates", "S3Key": "revoked.pem", "RevocationType": "CRL"}] * 2)
        ids = [r["RevocationId"] for r in added["TrustStoreRevocations"]]
        self.assertEqual([r["RevocationId"] for r in self.pages(elb, "describe_trust_store_revocations", "TrustStoreRevocations", TrustStoreArn=stores[0])], ids)
        self.assertIn("revoked.pem", elb.get_trust_store_revocation_content(TrustStoreArn=stores[0], RevocationId=ids[0])["Location"])
        self.assertIn("authority.pem", elb.get_trust_store_ca_certificates_bundle(TrustStoreArn=stores[0])["Location"])
        elb.remove_trust_store_revocations(TrustStoreArn=stores[0], RevocationIds=ids)
        self.refused(elb.exceptions.RevocationIdNotFoundException, elb.remove_trust_store_revocations, TrustStoreArn=stores[0], RevocationIds=ids)

        balancer, secured = self.balancer("mutual"), [{"CertificateArn": self.certificate()}]
        arn, other = (
            self.listener(balancer, port, "HTTPS", Certificates=secured, MutualAuthentication={"Mode": "verify", "TrustStoreArn": stores[0]})
            for port in (443, 8443)
        )
        associated = [a["ResourceArn"] for a in self.pages(elb, "describe_trust_store_associations", "TrustStoreAssociations", TrustStoreArn=stores[0])]
        self.assertEqual(sorted(associated), sorted([arn, other]))
        self.refused(elb.exceptions.TrustStoreInUseException, elb.delete_trust_store, TrustStoreArn=stores[0])
        if hasattr(elb, "delete_shared_trust_store_association"):
            self.refused(elb.exceptions.ResourceNotFoundException, elb.get_resource_policy, ResourceArn=stores[0])
            self.refused(elb.exceptions.DeleteAssociationSameAccountException, elb.delete_shared_trust_store_association, TrustStoreArn=stores[0], ResourceArn=arn)
        for each in (arn, other):
            elb.modify_listener(ListenerArn=each, MutualAuthentication={"Mode": "off"})
        elb.modify_trust_store(TrustStoreArn=stores[1], **where)
        for each in stores:
            elb.delete_trust_store(TrustStoreArn=each)
        self.refused(elb.exceptions.TrustStoreNotFoundException, elb.describe_trust_stores, TrustStoreArns=stores)


class Rules(Balancing):
    def setUp(self):
        name = "r-" + self._testMethodName.replace("_", "-")[5:25].strip("-")
        self.arn = self.listener(self.balancer(name))
        self.stable, self.canary = self.target_group(name + "-s"), self.target_group(name + "-c")
        self.addCleanup(lambda: [elb.delete_rule(RuleArn=r["RuleArn"]) for r in elb.describe_rules(ListenerArn=self.arn)["Rules"] if not r["IsDefault"]])

    def rule(self, priority, conditions, actions=NOT_FOUND, **parameters):
        return elb.create_rule(ListenerArn=self.arn, Priority=priority, Conditions=conditions, Actions=actions, **parameters)["Rules"][0]

    def test_every_kind_of_condition(self):
        for priority, condition in enumerate((
            {"Field": "host-header", "HostHeaderConfig": {"Values": ["*.example.com", "shop.example.org"]}},
            {"Field": "path-pattern", "PathPatternConfig": {"Values": ["/a/*", "/b?"]}},
            {"Field": "http-header", "HttpHeaderConfig": {"HttpHeaderName": "X-Canary", "Values": ["yes", "on*"]}},
            {"Field": "http-request-method", "HttpRequestMethodConfig": {"Values": ["GET", "HEAD"]}},
            {"Field": "query-string", "QueryStringConfig": {"Values": [{"Key": "version", "Value": "2"}, {"Value": "beta"}]}},
            {"Field": "source-ip", "SourceIpConfig": {"Values": ["10.0.0.0/8", "192.0.2.1/32"]}},
        ), 1):
            with self.subTest(condition["Field"]):
                made = self.rule(priority, [condition])
                config = next(key for key in condition if key.endswith("Config"))
                self.assertEqual((made["Priority"], made["Conditions"][0][config]), (str(priority), condition[config]))
                self.assertEqual(elb.describe_rules(RuleArns=[made["RuleArn"]])["Rules"][0], made)

    def test_a_canary(self):
        rule = self.rule(10, [{"Field": "path-pattern", "Values": ["/*"]}], forward((self.stable, 100), (self.canary, 0)), Tags=[{"Key": "rollout", "Value": "web"}])
        self.assertEqual(tags(rule["RuleArn"]), {"rollout": "web"})
        for weight in (5, 50, 100):
            changed = elb.modify_rule(RuleArn=rule["RuleArn"], Actions=forward((self.stable, 100 - weight), (self.canary, weight)))["Rules"][0]
            self.assertEqual([g["Weight"] for g in changed["Actions"][0]["ForwardConfig"]["TargetGroups"]], [100 - weight, weight])
        sticky = forward((self.stable, 1), (self.canary, 1))
        sticky[0]["ForwardConfig"]["TargetGroupStickinessConfig"] = {"Enabled": True, "DurationSeconds": 60}
        elb.modify_rule(RuleArn=rule["RuleArn"], Actions=sticky)
        found = elb.describe_rules(RuleArns=[rule["RuleArn"]])["Rules"][0]["Actions"][0]["ForwardConfig"]
        self.assertEqual(found["TargetGroupStickinessConfig"], {"Enabled": True, "DurationSeconds": 60})
        self.assertEqual(
            [g["TargetGroupName"] for g in elb.describe_target_groups(LoadBalancerArn=elb.describe_listeners(ListenerArns=[self.arn])["Listeners"][0]["LoadBalancerArn"])["TargetGroups"]],
            sorted(g["TargetGroupName"] for g in elb.describe_target_groups(TargetGroupArns=[self.stable, self.canary])["TargetGroups"]),
        )
        self.refused(elb.exceptions.ResourceInUseException, elb.delete_target_group, TargetGroupArn=self.canary)

    def test_priorities(self):
        one, two = (self.rule(i, [{"Field": "path-pattern", "Values": ["/%d" % i]}])["RuleArn"] for i in (1, 2))
        changed = elb.set_rule_priorities(RulePriorities=[{"RuleArn": one, "Priority": 2}, {"RuleArn": two, "Priority": 1}])["Rules"]
        self.assertEqual({r["RuleArn"]: r["Priority"] for r in changed}, {one: "2", two: "1"})
        self.refused(elb.exceptions.PriorityInUseException, elb.set_rule_priorities, RulePriorities=[{"RuleArn": one, "Priority": 1}])
        self.refused(elb.exceptions.PriorityInUseException, self.rule, 2, [{"Field": "path-pattern", "Values": ["/3"]}])
        default = next(r["RuleArn"] for r in elb.describe_rules(ListenerArn=self.arn)["Rules"] if r["IsDefault"])
        self.refused(elb.exceptions.OperationNotPermittedException, elb.delete_rule, RuleArn=default)
        elb.delete_rule(RuleArn=one)
        self.refused(elb.exceptions.RuleNotFoundException, elb.describe_rules, RuleArns=[one])

    def test_pages(self):
        for i in range(1, 8):
            self.rule(i, [{"Field": "path-pattern", "Values": ["/%d" % i]}])
        found = [r["Priority"] for r in self.pages(elb, "describe_rules", "Rules", 3, ListenerArn=self.arn)]
        self.assertEqual(found, [str(i) for i in range(1, 8)] + ["default"])


class TargetGroups(Balancing):
    def test_life(self):
        arn = self.target_group(
            "life", HealthCheckPath="/ready", HealthCheckIntervalSeconds=10, HealthyThresholdCount=2, Matcher={"HttpCode": "200-299"},
            ProtocolVersion="HTTP2", Tags=[{"Key": "team", "Value": "shop"}],
        )
        found = elb.describe_target_groups(Names=["life"])["TargetGroups"][0]
        self.assertEqual((found["TargetGroupArn"], found["HealthCheckPath"], found["Matcher"], found["ProtocolVersion"]), (arn, "/ready", {"HttpCode": "200-299"}, "HTTP2"))
        self.assertEqual(tags(arn), {"team": "shop"})
        changed = elb.modify_target_group(TargetGroupArn=arn, HealthCheckPath="/live", Matcher={"HttpCode": "204"})["TargetGroups"][0]
        self.assertEqual((changed["HealthCheckPath"], changed["Matcher"]["HttpCode"], changed["HealthCheckIntervalSeconds"]), ("/live", "204", 10))
        elb.modify_target_group_attributes(TargetGroupArn=arn, Attributes=[{"Key": "deregistration_delay.timeout_seconds", "Value": "7"}, {"Key": "stickiness.enabled", "Value": "true"}])
        attributes = {a["Key"]: a["Value"] for a in elb.describe_target_group_attributes(TargetGroupArn=arn)["Attributes"]}
        self.assertEqual((attributes["deregistration_delay.timeout_seconds"], attributes["stickiness.enabled"], attributes["stickiness.type"]), ("7", "true", "lb_cookie"))

    def test_refusals(self):
        arn = self.target_group("taken")
        self.refused(elb.exceptions.DuplicateTargetGroupNameException, elb.create_target_group, Name="taken", Protocol="HTTPS", Port=1, VpcId=VPC)
        self.refused(elb.exceptions.TargetGroupNotFoundException, elb.describe_target_groups, Names=["nobody"])
        self.refused(elb.exceptions.TargetGroupNotFoundException, elb.describe_target_health, TargetGroupArn=arn[:-1] + ("0" if arn[-1] != "0" else "1"))
        self.refused("ValidationError", elb.register_targets, TargetGroupArn=arn, Targets=[{"Id": "nowhere"}])
        self.refused("ValidationError", elb.register_targets, TargetGroupArn=arn, Targets=[{"Id": "192.168.1.1"}])  # outside of the VPC: a zone must be named

    def test_a_function(self):
        made = elb.create_target_group(Name="function", TargetType="lambda")["TargetGroups"][0]
        arn, function = made["TargetGroupArn"], "arn:aws:lambda:eu-west-1:123456789012:function:shop"
        self.addCleanup(elb.delete_target_group, TargetGroupArn=arn)
        self.assertEqual((made["TargetType"], made["HealthCheckEnabled"], made.get("Protocol")), ("lambda", False, None))
        elb.register_targets(TargetGroupArn=arn, Targets=[{"Id": function}])
        self.assertEqual(elb.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"][0]["Target"]["Id"], function)
        elb.modify_target_group_attributes(TargetGroupArn=arn, Attributes=[{"Key": "lambda.multi_value_headers.enabled", "Value": "true"}])

    def test_a_load_balancer_behind_another(self):
        behind = self.balancer("behind", Scheme="internal")
        self.listener(behind, 8080)
        arn = self.target_group("front", "TCP", 8080, TargetType="alb", HealthCheckProtocol="HTTP")
        self.assertEqual(elb.describe_target_groups(TargetGroupArns=[arn])["TargetGroups"][0]["TargetType"], "alb")
        elb.register_targets(TargetGroupArn=arn, Targets=[{"Id": behind["LoadBalancerArn"], "Port": 8080}])
        self.assertEqual([h["Target"]["Id"] for h in elb.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]], [behind["LoadBalancerArn"]])
        self.refused(elb.exceptions.InvalidTargetException, elb.register_targets, TargetGroupArn=arn, Targets=[{"Id": behind["LoadBalancerArn"][:-1] + "x", "Port": 8080}])
        elb.deregister_targets(TargetGroupArn=arn, Targets=[{"Id": behind["LoadBalancerArn"], "Port": 8080}])

    def test_pages(self):
        arns = {self.target_group("page-%d" % i) for i in range(5)}
        found = [g["TargetGroupArn"] for g in self.pages(elb, "describe_target_groups", "TargetGroups", 2)]
        self.assertEqual((len(found), set(found) & arns), (len(set(found)), arns))

    def test_targets_serve_and_leave(self):
        """A program of this test is a target: it is waited for, asked through the load balancer and taken away."""
        class Shop(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"shop")

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Shop)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.shutdown)
        host = admin("hosts", "POST", {"name": "shop", "zone": "eu-west-1a", "ports": {"8080": "127.0.0.1:%d" % server.server_port}})

        arn = self.target_group("served", TargetType="instance", HealthCheckIntervalSeconds=5, HealthCheckTimeoutSeconds=2, HealthyThresholdCount=2)
        elb.modify_target_group_attributes(TargetGroupArn=arn, Attributes=[{"Key": "deregistration_delay.timeout_seconds", "Value": "1"}])
        balancer = self.balancer("served")
        target = {"Id": host["id"], "Port": 8080}
        elb.register_targets(TargetGroupArn=arn, Targets=[target])
        self.assertEqual(elb.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"][0]["TargetHealth"]["Reason"], "Target.NotInUse")
        self.listener(balancer, actions=forward((arn, 1)))
        soon = {"Delay": 1, "MaxAttempts": 60}
        elb.get_waiter("target_in_service").wait(TargetGroupArn=arn, Targets=[target], WaiterConfig=soon)

        nodes = next(b for b in admin("loadbalancers") if b["name"] == "served")["nodes"]
        with urllib.request.urlopen("http://%s/" % nodes[0]["real"]["80"]) as answer:
            self.assertEqual(answer.read(), b"shop")

        elb.deregister_targets(TargetGroupArn=arn, Targets=[target])
        elb.get_waiter("target_deregistered").wait(TargetGroupArn=arn, Targets=[target], WaiterConfig=soon)
        self.assertEqual(elb.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"], [])


def tearDownModule():
    want_all_used(elb)


if __name__ == "__main__":
    unittest.main()
