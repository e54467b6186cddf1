"""The network, security groups, instances, interfaces, addresses and prefix lists."""

import unittest

from account import ACCOUNT, Account, client, want_all_used

ec2 = client("ec2")
VPC = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
SUBNETS = sorted(ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [VPC]}])["Subnets"], key=lambda s: s["SubnetId"])
SOON = {"Delay": 1, "MaxAttempts": 30}
IMAGE = "ami-0123456789abcdef0"


def filters(**values):
    """filters(vpc_id="a", tag__team=["b"]) filters by vpc-id and tag:team."""
    name = lambda text: text.replace("__", ":").replace("_", "-")
    return [{"Name": name(k), "Values": v if isinstance(v, list) else [v]} for k, v in values.items()]


def tags(**values):
    return [{"Key": k, "Value": v} for k, v in values.items()]


def tagged(kind, **values):
    return [{"ResourceType": kind, "Tags": tags(**values)}]


class EC2(Account):
    def dry_run(self, call, **parameters):
        """A call that would have succeeded is refused with a code of its own, and has done nothing."""
        error = self.refused("DryRunOperation", call, DryRun=True, **parameters)
        self.assertEqual(error.response["ResponseMetadata"]["HTTPStatusCode"], 412)


class Network(EC2):
    """What the account begins with."""

    def test_vpc_and_subnets(self):
        ec2.get_waiter("vpc_available").wait(VpcIds=[VPC])
        ec2.get_waiter("vpc_exists").wait(VpcIds=[VPC])
        ec2.get_waiter("subnet_available").wait(SubnetIds=[s["SubnetId"] for s in SUBNETS])
        one = SUBNETS[0]
        self.assertEqual((one["VpcId"], one["OwnerId"]), (VPC, ACCOUNT))
        by = lambda **f: sorted(s["SubnetId"] for s in ec2.describe_subnets(Filters=filters(**f))["Subnets"])
        everything = [s["SubnetId"] for s in SUBNETS]
        self.assertEqual(by(availability_zone="eu-west-1?"), everything)
        self.assertEqual(by(availability_zone=["eu-west-1a", "eu-west-1b"]), [s["SubnetId"] for s in SUBNETS if s["AvailabilityZone"] < "eu-west-1c"])
        self.assertEqual(by(cidr_block=one["CidrBlock"]), [one["SubnetId"]])
        self.assertEqual(by(subnet_id="subnet-*", vpc_id=VPC), everything)
        self.assertEqual(by(vpc_id=VPC.upper()), [])
        self.assertEqual(len(by(tag_key="kubernetes.io/role/elb")), 3)
        self.refused("InvalidParameterValue", ec2.describe_subnets, Filters=filters(no_such_filter="x"))
        self.refused("InvalidSubnetID.NotFound", ec2.describe_subnets, SubnetIds=["subnet-0123456789abcdef0"])
        self.refused("InvalidVpcID.NotFound", ec2.describe_vpcs, VpcIds=["vpc-0123456789abcdef0"])
        self.dry_run(ec2.describe_subnets)

    def test_pages(self):
        # The least that EC2 takes is 5.
        found = [s["SubnetId"] for s in self.pages(ec2, "describe_subnets", "Subnets", 5)]
        self.assertEqual(sorted(found), sorted({s["SubnetId"] for s in ec2.describe_subnets()["Subnets"]}))
        self.refused("InvalidPaginationToken", ec2.describe_subnets, MaxResults=5, NextToken="!")

    def test_every_list_comes_in_pages(self):
        """Six of everything are two pages of the smallest size."""
        for i in range(6):
            vpc = ec2.create_vpc(CidrBlock="10.%d.0.0/16" % (210 + i))["Vpc"]["VpcId"]
            self.addCleanup(ec2.delete_vpc, VpcId=vpc)
            gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
            self.addCleanup(ec2.delete_internet_gateway, InternetGatewayId=gateway)
            face = ec2.create_network_interface(SubnetId=SUBNETS[0]["SubnetId"])["NetworkInterface"]["NetworkInterfaceId"]
            self.addCleanup(ec2.delete_network_interface, NetworkInterfaceId=face)
            prefixes = ec2.create_managed_prefix_list(
                PrefixListName="page-%d" % i, MaxEntries=6, AddressFamily="IPv4", Entries=[{"Cidr": "10.%d.0.0/16" % j} for j in range(6)]
            )["PrefixList"]["PrefixListId"]
            self.addCleanup(ec2.delete_managed_prefix_list, PrefixListId=prefixes)
            ec2.create_tags(Resources=[vpc], Tags=tags(page=str(i)))
        for operation, key, parameters in (
            ("describe_vpcs", "Vpcs", {}), ("describe_route_tables", "RouteTables", {}), ("describe_internet_gateways", "InternetGateways", {}),
            ("describe_network_interfaces", "NetworkInterfaces", {}), ("describe_instance_status", "InstanceStatuses", {}),
            ("describe_instances", "Reservations", {}), ("describe_managed_prefix_lists", "PrefixLists", {}),
            ("get_managed_prefix_list_entries", "Entries", {"PrefixListId": prefixes}), ("describe_tags", "Tags", {"Filters": filters(key="page")}),
        ):
            with self.subTest(operation):
                self.assertEqual(self.pages(ec2, operation, key, 5, **parameters), getattr(ec2, operation)(**parameters)[key])

    def test_routes(self):
        tables = ec2.describe_route_tables(Filters=filters(vpc_id=VPC))["RouteTables"]
        ways = {r.get("GatewayId", "")[:4] for t in tables for r in t["Routes"]}
        self.assertLessEqual({"igw-", "loca"}, ways)
        gateway = ec2.describe_internet_gateways(Filters=[{"Name": "attachment.vpc-id", "Values": [VPC]}])["InternetGateways"][0]
        self.assertEqual(gateway["Attachments"][0]["VpcId"], VPC)
        ec2.get_waiter("internet_gateway_exists").wait(InternetGatewayIds=[gateway["InternetGatewayId"]])
        self.assertEqual(len([t for t in tables if any(a["Main"] for a in t["Associations"])]), 1)

    def test_zones_and_regions(self):
        zones = ec2.describe_availability_zones(Filters=filters(zone_type="availability-zone"))["AvailabilityZones"]
        self.assertEqual([z["ZoneName"] for z in zones], ["eu-west-1a", "eu-west-1b", "eu-west-1c"])
        self.assertEqual(ec2.describe_availability_zones(ZoneIds=[zones[1]["ZoneId"]])["AvailabilityZones"], zones[1:2])
        self.assertIn("eu-west-1", [r["RegionName"] for r in ec2.describe_regions()["Regions"]])


class SecurityGroups(EC2):
    def group(self, name, **parameters):
        made = ec2.create_security_group(GroupName=name, Description="made by a test", VpcId=VPC, **parameters)["GroupId"]
        self.addCleanup(ec2.delete_security_group, GroupId=made)
        return made

    def test_life(self):
        group = ec2.create_security_group(GroupName="life", Description="first", VpcId=VPC, TagSpecifications=tagged("security-group", team="shop"))["GroupId"]
        ec2.get_waiter("security_group_exists").wait(GroupIds=[group])
        other = self.group("life-peer")
        web = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 443}
        permissions = [
            {**web, "IpRanges": [{"CidrIp": "10.0.0.0/8", "Description": "inside"}]},
            {**web, "UserIdGroupPairs": [{"GroupId": other, "Description": "peers"}]},
            {**web, "Ipv6Ranges": [{"CidrIpv6": "::/0"}]},
            {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "192.0.2.1/32"}]},
            {"IpProtocol": "icmp", "FromPort": 8, "ToPort": -1, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]},
        ]
        self.dry_run(ec2.authorize_security_group_ingress, GroupId=group, IpPermissions=permissions)
        added = ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=permissions, TagSpecifications=tagged("security-group-rule", rule="one"))
        self.assertEqual(len(added["SecurityGroupRules"]), 5)
        self.assertTrue(all(r["SecurityGroupRuleId"].startswith("sgr-") and not r["IsEgress"] for r in added["SecurityGroupRules"]))
        self.refused("InvalidPermission.Duplicate", ec2.authorize_security_group_ingress, GroupId=group, IpPermissions=permissions[:1])

        found = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]
        self.assertEqual((found["GroupName"], found["Description"], found["Tags"]), ("life", "first", tags(team="shop")))
        together = next(p for p in found["IpPermissions"] if p["IpProtocol"] == "tcp")
        self.assertEqual(together["IpRanges"], [{"CidrIp": "10.0.0.0/8", "Description": "inside"}])
        self.assertEqual((together["UserIdGroupPairs"][0]["GroupId"], together["Ipv6Ranges"]), (other, [{"CidrIpv6": "::/0"}]))
        self.assertEqual(found["IpPermissionsEgress"][0]["IpProtocol"], "-1")
        self.refused("DependencyViolation", ec2.delete_security_group, GroupId=other)

        rules = ec2.describe_security_group_rules(Filters=filters(group_id=group))["SecurityGroupRules"]
        self.assertEqual(len(rules), 6)
        pages = [r["SecurityGroupRuleId"] for r in self.pages(ec2, "describe_security_group_rules", "SecurityGroupRules", 5, Filters=filters(group_id=group))]
        self.assertEqual(sorted(pages), sorted(r["SecurityGroupRuleId"] for r in rules))
        self.assertEqual(len(ec2.describe_security_group_rules(Filters=filters(tag__rule="one"))["SecurityGroupRules"]), 5)

        ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=permissions[:1])
        ec2.revoke_security_group_ingress(GroupId=group, SecurityGroupRuleIds=[r["SecurityGroupRuleId"] for r in added["SecurityGroupRules"][1:]])
        self.assertEqual(ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["IpPermissions"], [])
        self.refused("InvalidPermission.NotFound", ec2.revoke_security_group_ingress, GroupId=group, IpPermissions=permissions[:1])
        ec2.authorize_security_group_egress(GroupId=group, IpPermissions=permissions[:1])
        ec2.revoke_security_group_egress(GroupId=group, IpPermissions=permissions[:1])

        self.dry_run(ec2.delete_security_group, GroupId=group)
        ec2.delete_security_group(GroupId=group)
        self.refused("InvalidGroup.NotFound", ec2.describe_security_groups, GroupIds=[group])
        self.refused("InvalidGroup.NotFound", ec2.delete_security_group, GroupId=group)

    def test_the_short_way_to_write_a_rule(self):
        group = self.group("short")
        ec2.authorize_security_group_ingress(GroupId=group, IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="10.1.0.0/16")
        found = ec2.describe_security_groups(Filters=[{"Name": "ip-permission.cidr", "Values": ["10.1.*"]}, {"Name": "ip-permission.from-port", "Values": ["22"]}])
        self.assertEqual([g["GroupId"] for g in found["SecurityGroups"]], [group])

    def test_filters_and_pages(self):
        groups = {self.group("page-%d" % i, TagSpecifications=tagged("security-group", number=str(i), all="page")) for i in range(7)}
        by = lambda **f: {g["GroupId"] for g in ec2.describe_security_groups(Filters=filters(**f))["SecurityGroups"]}
        self.assertEqual(by(group_name="page-?"), groups)
        self.assertEqual(len(by(tag__number=["1", "3", "nobody"])), 2)
        self.assertEqual(by(tag_key="all", description="made*"), groups)
        self.assertEqual(by(group_name="PAGE-*"), set())
        found = [g["GroupId"] for g in self.pages(ec2, "describe_security_groups", "SecurityGroups", 5, Filters=filters(tag__all="page"))]
        self.assertEqual((set(found), len(found)), (groups, 7))

    def test_refusals(self):
        self.group("taken")
        self.refused("InvalidGroup.Duplicate", self.group, "taken")
        self.refused("InvalidParameterValue", self.group, "sg-mine")
        self.refused("InvalidVpcID.NotFound", ec2.create_security_group, GroupName="x", Description="x", VpcId="vpc-0123456789abcdef0")
        group = self.group("refused")
        bad = lambda **rule: self.refused("InvalidParameterValue", ec2.authorize_security_group_ingress, GroupId=group, IpPermissions=[{"IpProtocol": "tcp", "FromPort": 1, "ToPort": 1, **rule}])
        bad(IpRanges=[{"CidrIp": "10.0.0.0/99"}])
        self.refused(
            "InvalidGroup.NotFound", ec2.authorize_security_group_ingress, GroupId=group,
            IpPermissions=[{"IpProtocol": "tcp", "FromPort": 1, "ToPort": 1, "UserIdGroupPairs": [{"GroupId": "sg-0123456789abcdef0"}]}],
        )

    def test_rules_are_changed_in_place(self):
        group = self.group("change")
        rule = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "10.0.0.0/8", "Description": "old"}]}
        made = ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[rule])["SecurityGroupRules"][0]["SecurityGroupRuleId"]
        ec2.update_security_group_rule_descriptions_ingress(GroupId=group, IpPermissions=[{**rule, "IpRanges": [{"CidrIp": "10.0.0.0/8", "Description": "new"}]}])
        only = lambda: ec2.describe_security_group_rules(SecurityGroupRuleIds=[made])["SecurityGroupRules"][0]
        self.assertEqual(only()["Description"], "new")
        changed = {"IpProtocol": "tcp", "FromPort": 81, "ToPort": 82, "CidrIpv4": "10.2.0.0/16", "Description": "other"}
        ec2.modify_security_group_rules(GroupId=group, SecurityGroupRules=[{"SecurityGroupRuleId": made, "SecurityGroupRule": changed}])
        self.assertEqual({k: only()[k] for k in changed}, changed)
        egress = next(r for r in ec2.describe_security_group_rules(Filters=filters(group_id=group))["SecurityGroupRules"] if r["IsEgress"])
        ec2.update_security_group_rule_descriptions_egress(GroupId=group, SecurityGroupRuleDescriptions=[{"SecurityGroupRuleId": egress["SecurityGroupRuleId"], "Description": "out"}])
        self.refused("InvalidSecurityGroupRuleId.NotFound", ec2.modify_security_group_rules, GroupId=group, SecurityGroupRules=[{"SecurityGroupRuleId": "sgr-0123456789abcdef0", "SecurityGroupRule": changed}])


class Tags(EC2):
    def test_tags(self):
        ids = [SUBNETS[0]["SubnetId"], VPC]
        ec2.create_tags(Resources=ids, Tags=tags(one="1", two="2"))
        self.addCleanup(ec2.delete_tags, Resources=ids, Tags=[{"Key": "one"}, {"Key": "two"}])
        ec2.create_tags(Resources=ids[:1], Tags=tags(one="changed"))
        found = {(t["ResourceId"], t["Key"]): (t["Value"], t["ResourceType"]) for t in ec2.describe_tags(Filters=filters(key=["one", "two"]))["Tags"]}
        self.assertEqual(found, {(ids[0], "one"): ("changed", "subnet"), (ids[0], "two"): ("2", "subnet"), (VPC, "one"): ("1", "vpc"), (VPC, "two"): ("2", "vpc")})
        ec2.delete_tags(Resources=ids, Tags=[{"Key": "one", "Value": "1"}, {"Key": "two"}])  # a value has to be equal, no value is any
        left = [(t["ResourceId"], t["Key"]) for t in self.pages(ec2, "describe_tags", "Tags", 5, Filters=filters(key=["one", "two"]))]
        self.assertEqual(left, [(ids[0], "one")])
        self.refused("InvalidSubnetID.NotFound", ec2.create_tags, Resources=["subnet-0123456789abcdef0"], Tags=tags(a="b"))


class OwnNetwork(EC2):
    """A network that is built and taken down again."""

    def test_life(self):
        self.dry_run(ec2.create_vpc, CidrBlock="10.200.0.0/16")
        vpc = ec2.create_vpc(CidrBlock="10.200.0.0/16", TagSpecifications=tagged("vpc", Name="own"))["Vpc"]["VpcId"]
        ec2.get_waiter("vpc_exists").wait(VpcIds=[vpc])
        ec2.get_waiter("vpc_available").wait(VpcIds=[vpc])
        self.assertEqual([v["VpcId"] for v in ec2.describe_vpcs(Filters=filters(tag__Name="own"))["Vpcs"]], [vpc])
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.200.1.0/24", AvailabilityZone="eu-west-1a", TagSpecifications=tagged("subnet", Name="own"))["Subnet"]
        ec2.get_waiter("subnet_available").wait(SubnetIds=[subnet["SubnetId"]])
        self.assertEqual((subnet["AvailableIpAddressCount"], subnet["Tags"]), (251, tags(Name="own")))
        self.refused("InvalidSubnet.Conflict", ec2.create_subnet, VpcId=vpc, CidrBlock="10.200.1.128/25")
        self.refused("InvalidSubnet.Range", ec2.create_subnet, VpcId=vpc, CidrBlock="10.201.0.0/24")
        gateway = ec2.create_internet_gateway(TagSpecifications=tagged("internet-gateway", Name="own"))["InternetGateway"]["InternetGatewayId"]
        ec2.get_waiter("internet_gateway_exists").wait(InternetGatewayIds=[gateway])
        ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
        self.refused("Resource.AlreadyAssociated", ec2.attach_internet_gateway, InternetGatewayId=gateway, VpcId=vpc)
        table = ec2.create_route_table(VpcId=vpc)["RouteTable"]
        self.assertEqual(table["Routes"][0]["GatewayId"], "local")
        self.assertTrue(ec2.create_route(RouteTableId=table["RouteTableId"], DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)["Return"])
        self.refused("RouteAlreadyExists", ec2.create_route, RouteTableId=table["RouteTableId"], DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
        association = ec2.associate_route_table(RouteTableId=table["RouteTableId"], SubnetId=subnet["SubnetId"])["AssociationId"]
        found = ec2.describe_route_tables(Filters=[{"Name": "association.subnet-id", "Values": [subnet["SubnetId"]]}])["RouteTables"][0]
        self.assertIn(("0.0.0.0/0", gateway, "active"), [(r["DestinationCidrBlock"], r["GatewayId"], r["State"]) for r in found["Routes"]])
        main = ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [vpc]}, {"Name": "association.main", "Values": ["true"]}])["RouteTables"]
        self.assertEqual(len(main), 1)

        ec2.modify_vpc_attribute(VpcId=vpc, EnableDnsHostnames={"Value": True})
        self.assertEqual(ec2.describe_vpc_attribute(VpcId=vpc, Attribute="enableDnsHostnames")["EnableDnsHostnames"], {"Value": True})
        ec2.modify_subnet_attribute(SubnetId=subnet["SubnetId"], MapPublicIpOnLaunch={"Value": True})
        self.assertTrue(ec2.describe_subnets(SubnetIds=[subnet["SubnetId"]])["Subnets"][0]["MapPublicIpOnLaunch"])
        self.refused("DependencyViolation", ec2.delete_vpc, VpcId=vpc)
        self.refused("DependencyViolation", ec2.delete_route_table, RouteTableId=table["RouteTableId"])
        self.refused("DependencyViolation", ec2.delete_internet_gateway, InternetGatewayId=gateway)
        ec2.disassociate_route_table(AssociationId=association)
        ec2.delete_route(RouteTableId=table["RouteTableId"], DestinationCidrBlock="0.0.0.0/0")
        self.refused("InvalidRoute.NotFound", ec2.delete_route, RouteTableId=table["RouteTableId"], DestinationCidrBlock="0.0.0.0/0")
        ec2.delete_route_table(RouteTableId=table["RouteTableId"])
        ec2.detach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
        ec2.delete_internet_gateway(InternetGatewayId=gateway)
        ec2.delete_subnet(SubnetId=subnet["SubnetId"])
        ec2.delete_vpc(VpcId=vpc)
        self.refused("InvalidVpcID.NotFound", ec2.describe_vpcs, VpcIds=[vpc])


class Instances(EC2):
    def test_life(self):
        group = ec2.create_security_group(GroupName="instances", Description="instances", VpcId=VPC)["GroupId"]
        wanted = {
            "ImageId": IMAGE, "InstanceType": "t3.micro", "MinCount": 2, "MaxCount": 2, "SubnetId": SUBNETS[0]["SubnetId"], "SecurityGroupIds": [group],
            "TagSpecifications": tagged("instance", team="shop"), "ClientToken": "once",
        }
        self.dry_run(ec2.run_instances, **{**wanted, "ClientToken": "dry"})
        made = ec2.run_instances(**wanted)
        ids = [i["InstanceId"] for i in made["Instances"]]
        self.assertEqual(len(ids), 2)
        again = ec2.run_instances(**wanted)  # the same token: the same instances
        self.assertEqual((again["ReservationId"], [i["InstanceId"] for i in again["Instances"]]), (made["ReservationId"], ids))
        self.refused("IdempotentParameterMismatch", ec2.run_instances, **{**wanted, "InstanceType": "m5.large"})
        ec2.get_waiter("instance_exists").wait(InstanceIds=ids, WaiterConfig=SOON)
        ec2.get_waiter("instance_running").wait(InstanceIds=ids, WaiterConfig=SOON)
        found = [i for r in ec2.describe_instances(Filters=[*filters(tag__team="shop"), {"Name": "instance-state-name", "Values": ["run*"]}])["Reservations"] for i in r["Instances"]]
        self.assertEqual({i["InstanceId"] for i in found}, set(ids))
        one = next(i for i in found if i["InstanceId"] == ids[0])
        self.assertEqual((one["SubnetId"], one["VpcId"], one["SecurityGroups"][0]["GroupId"], one["InstanceType"]), (SUBNETS[0]["SubnetId"], VPC, group, "t3.micro"))
        face = one["NetworkInterfaces"][0]
        self.assertEqual((face["PrivateIpAddress"], face["Attachment"]["DeviceIndex"]), (one["PrivateIpAddress"], 0))
        self.refused("DependencyViolation", ec2.delete_security_group, GroupId=group)

        for waiter in ("instance_status_ok", "system_status_ok"):
            ec2.get_waiter(waiter).wait(InstanceIds=ids, WaiterConfig=SOON)
        ec2.reboot_instances(InstanceIds=ids)
        stopped = ec2.stop_instances(InstanceIds=ids[:1])["StoppingInstances"][0]
        self.assertEqual((stopped["PreviousState"]["Name"], stopped["CurrentState"]["Code"] in (64, 80)), ("running", True))
        ec2.get_waiter("instance_stopped").wait(InstanceIds=ids[:1], WaiterConfig=SOON)
        ec2.start_instances(InstanceIds=ids[:1])
        ec2.get_waiter("instance_running").wait(InstanceIds=ids[:1], WaiterConfig=SOON)
        self.assertEqual(ec2.terminate_instances(InstanceIds=ids)["TerminatingInstances"][0]["PreviousState"]["Name"], "running")
        ec2.get_waiter("instance_terminated").wait(InstanceIds=ids, WaiterConfig=SOON)
        self.refused("IncorrectInstanceState", ec2.start_instances, InstanceIds=ids[:1])
        ec2.delete_security_group(GroupId=group)

    def test_pages_and_refusals(self):
        ids = [ec2.run_instances(ImageId=IMAGE, MinCount=1, MaxCount=1, SubnetId=SUBNETS[0]["SubnetId"])["Instances"][0]["InstanceId"] for _ in range(7)]
        self.addCleanup(ec2.terminate_instances, InstanceIds=ids)
        self.assertEqual(len(self.pages(ec2, "describe_instances", "Reservations", 5, Filters=[{"Name": "instance-id", "Values": ids}])), 7)
        self.refused("InvalidParameterCombination", ec2.describe_instances, InstanceIds=ids, MaxResults=5)
        self.refused("InvalidSubnetID.NotFound", ec2.run_instances, ImageId=IMAGE, MinCount=1, MaxCount=1, SubnetId="subnet-0123456789abcdef0")

    def test_unknown(self):
        self.refused("InvalidInstanceID.NotFound", ec2.describe_instances, InstanceIds=["i-0123456789abcdef0"])
        self.refused("InvalidInstanceID.Malformed", ec2.describe_instances, InstanceIds=["nobody"])
        self.assertEqual(ec2.describe_instances(Filters=filters(private_ip_address="192.0.2.1"))["Reservations"], [])


class Interfaces(EC2):
    def test_life(self):
        subnet = SUBNETS[0]["SubnetId"]
        made = ec2.create_network_interface(
            SubnetId=subnet, Description="second", TagSpecifications=tagged("network-interface", Name="second"), ClientToken="once"
        )["NetworkInterface"]
        face = made["NetworkInterfaceId"]
        self.assertEqual((made["Status"], made["SubnetId"], made["InterfaceType"]), ("pending", subnet, "interface"))
        self.assertEqual(ec2.create_network_interface(SubnetId=subnet, Description="second", TagSpecifications=tagged("network-interface", Name="second"), ClientToken="once")["NetworkInterface"]["NetworkInterfaceId"], face)
        ec2.get_waiter("network_interface_available").wait(NetworkInterfaceIds=[face])
        instance = ec2.run_instances(ImageId=IMAGE, MinCount=1, MaxCount=1, SubnetId=subnet)["Instances"][0]["InstanceId"]
        ec2.get_waiter("instance_running").wait(InstanceIds=[instance], WaiterConfig=SOON)
        attachment = ec2.attach_network_interface(NetworkInterfaceId=face, InstanceId=instance, DeviceIndex=1)["AttachmentId"]
        found = ec2.describe_network_interfaces(Filters=[{"Name": "attachment.instance-id", "Values": [instance]}, {"Name": "description", "Values": ["sec*"]}])["NetworkInterfaces"]
        self.assertEqual([(f["NetworkInterfaceId"], f["Status"], f["Attachment"]["AttachmentId"]) for f in found], [(face, "in-use", attachment)])
        self.refused("InvalidNetworkInterface.InUse", ec2.delete_network_interface, NetworkInterfaceId=face)

        added = ec2.assign_private_ip_addresses(NetworkInterfaceId=face, SecondaryPrivateIpAddressCount=2)["AssignedPrivateIpAddresses"]
        by_address = ec2.describe_network_interfaces(Filters=[{"Name": "addresses.private-ip-address", "Values": [added[0]["PrivateIpAddress"]]}])["NetworkInterfaces"]
        self.assertEqual([f["NetworkInterfaceId"] for f in by_address], [face])
        ec2.unassign_private_ip_addresses(NetworkInterfaceId=face, PrivateIpAddresses=[added[1]["PrivateIpAddress"]])
        group = ec2.create_security_group(GroupName="interfaces", Description="interfaces", VpcId=VPC)["GroupId"]
        ec2.modify_network_interface_attribute(NetworkInterfaceId=face, Groups=[group])
        ec2.modify_network_interface_attribute(NetworkInterfaceId=face, Description={"Value": "changed"})
        now = ec2.describe_network_interfaces(NetworkInterfaceIds=[face])["NetworkInterfaces"][0]
        self.assertEqual((now["Description"], [g["GroupId"] for g in now["Groups"]], len(now["PrivateIpAddresses"])), ("changed", [group], 2))

        ec2.detach_network_interface(AttachmentId=attachment)
        ec2.get_waiter("network_interface_available").wait(NetworkInterfaceIds=[face], WaiterConfig=SOON)
        ec2.delete_network_interface(NetworkInterfaceId=face)
        self.refused("InvalidNetworkInterfaceID.NotFound", ec2.describe_network_interfaces, NetworkInterfaceIds=[face])
        ec2.terminate_instances(InstanceIds=[instance])
        ec2.delete_security_group(GroupId=group)

    def test_interfaces_of_load_balancers(self):
        elb = client("elbv2")
        arn = elb.create_load_balancer(Name="faces", Subnets=[s["SubnetId"] for s in SUBNETS if "a" <= s["AvailabilityZone"][-1] <= "b"][:1] + [
            s["SubnetId"] for s in SUBNETS if s["AvailabilityZone"] == "eu-west-1c"][:1])["LoadBalancers"][0]["LoadBalancerArn"]
        by = lambda: ec2.describe_network_interfaces(Filters=[{"Name": "description", "Values": ["ELB app/faces/*"]}])["NetworkInterfaces"]
        self.assertEqual({(f["RequesterManaged"], f["Status"]) for f in by()}, {(True, "in-use")})
        self.assertEqual(len(by()), 2)
        elb.delete_load_balancer(LoadBalancerArn=arn)
        self.assertEqual(by(), [])


class Addresses(EC2):
    def test_life(self):
        self.dry_run(ec2.allocate_address, Domain="vpc")
        made = ec2.allocate_address(Domain="vpc", TagSpecifications=tagged("elastic-ip", Name="front"))
        found = ec2.describe_addresses(Filters=filters(tag__Name="front"))["Addresses"]
        self.assertEqual([(a["AllocationId"], a["PublicIp"], a["Domain"]) for a in found], [(made["AllocationId"], made["PublicIp"], "vpc")])
        self.assertEqual(ec2.describe_addresses(AllocationIds=[made["AllocationId"]])["Addresses"], found)
        face = ec2.create_network_interface(SubnetId=SUBNETS[0]["SubnetId"])["NetworkInterface"]["NetworkInterfaceId"]
        association = ec2.associate_address(AllocationId=made["AllocationId"], NetworkInterfaceId=face)["AssociationId"]
        shown = ec2.describe_network_interfaces(NetworkInterfaceIds=[face])["NetworkInterfaces"][0]["Association"]
        self.assertEqual((shown["PublicIp"], shown["AssociationId"]), (made["PublicIp"], association))
        self.refused("InvalidIPAddress.InUse", ec2.release_address, AllocationId=made["AllocationId"])
        ec2.disassociate_address(AssociationId=association)
        ec2.delete_network_interface(NetworkInterfaceId=face)
        ec2.release_address(AllocationId=made["AllocationId"])
        self.refused("InvalidAllocationID.NotFound", ec2.release_address, AllocationId=made["AllocationId"])


class PrefixLists(EC2):
    def test_life(self):
        made = ec2.create_managed_prefix_list(
            PrefixListName="offices", MaxEntries=5, AddressFamily="IPv4", Entries=[{"Cidr": "192.0.2.0/24", "Description": "north"}], TagSpecifications=tagged("prefix-list", team="shop"),
        )["PrefixList"]
        identifier = made["PrefixListId"]
        self.assertTrue(identifier.startswith("pl-"))
        found = self.pages(ec2, "describe_managed_prefix_lists", "PrefixLists", 5, Filters=filters(prefix_list_name="offices"))
        self.assertEqual([(p["PrefixListId"], p["MaxEntries"], p["AddressFamily"]) for p in found], [(identifier, 5, "IPv4")])
        entries = lambda: {e["Cidr"]: e.get("Description") for e in self.pages(ec2, "get_managed_prefix_list_entries", "Entries", 5, PrefixListId=identifier)}
        self.assertEqual(entries(), {"192.0.2.0/24": "north"})
        ec2.modify_managed_prefix_list(PrefixListId=identifier, CurrentVersion=1, AddEntries=[{"Cidr": "198.51.100.0/24", "Description": "south"}], RemoveEntries=[{"Cidr": "192.0.2.0/24"}])
        self.assertEqual(entries(), {"198.51.100.0/24": "south"})
        self.refused("PrefixListVersionMismatch", ec2.modify_managed_prefix_list, PrefixListId=identifier, CurrentVersion=1, AddEntries=[{"Cidr": "203.0.113.0/24"}])
        group = ec2.create_security_group(GroupName="prefixes", Description="prefixes", VpcId=VPC)["GroupId"]
        ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[{"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "PrefixListIds": [{"PrefixListId": identifier}]}])
        self.assertEqual(ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["IpPermissions"][0]["PrefixListIds"], [{"PrefixListId": identifier}])
        ec2.delete_security_group(GroupId=group)
        ec2.delete_managed_prefix_list(PrefixListId=identifier)
        self.refused("InvalidPrefixListID.NotFound", ec2.describe_managed_prefix_lists, PrefixListIds=[identifier])


class AccountAttributes(EC2):
    def test_attributes(self):
        found = {a["AttributeName"]: [v["AttributeValue"] for v in a["AttributeValues"]] for a in ec2.describe_account_attributes()["AccountAttributes"]}
        self.assertEqual(found["supported-platforms"], ["VPC"])
        self.assertIn("default-vpc", found)


def tearDownModule():
    want_all_used(ec2)


if __name__ == "__main__":
    unittest.main()
