"""Accelerators, their listeners, endpoint groups and endpoints, from creation to deletion."""

import unittest

from account import Account, client, want_all_used

ga, elb, ec2 = client("globalaccelerator"), client("elbv2"), client("ec2")
SUBNETS = [s["SubnetId"] for s in ec2.describe_subnets(Filters=[{"Name": "tag:kubernetes.io/role/elb", "Values": ["1"]}])["Subnets"]]


class Accelerators(Account):
    def test_life(self):
        made = ga.create_accelerator(Name="life", IpAddressType="IPV4", IdempotencyToken="once", Tags=[{"Key": "team", "Value": "shop"}])["Accelerator"]
        arn = made["AcceleratorArn"]
        self.assertEqual((made["Name"], made["Enabled"], len(made["IpSets"][0]["IpAddresses"])), ("life", True, 2))
        self.assertEqual(ga.create_accelerator(Name="life", IdempotencyToken="once")["Accelerator"]["AcceleratorArn"], arn)
        self.assertEqual(ga.describe_accelerator(AcceleratorArn=arn)["Accelerator"]["Status"], "DEPLOYED")
        ga.tag_resource(ResourceArn=arn, Tags=[{"Key": "stage", "Value": "test"}])
        ga.untag_resource(ResourceArn=arn, TagKeys=["team"])
        self.assertEqual(ga.list_tags_for_resource(ResourceArn=arn)["Tags"], [{"Key": "stage", "Value": "test"}])

        ports = [{"FromPort": 80, "ToPort": 80}, {"FromPort": 443, "ToPort": 443}]
        listener = ga.create_listener(AcceleratorArn=arn, PortRanges=ports, Protocol="TCP", ClientAffinity="SOURCE_IP", IdempotencyToken="l")["Listener"]["ListenerArn"]
        other = ga.create_listener(AcceleratorArn=arn, PortRanges=[{"FromPort": 53, "ToPort": 53}], Protocol="UDP", IdempotencyToken="m")["Listener"]["ListenerArn"]
        self.assertEqual(ga.describe_listener(ListenerArn=listener)["Listener"]["PortRanges"], ports)
        self.assertEqual({l["ListenerArn"] for l in self.pages(ga, "list_listeners", "Listeners", AcceleratorArn=arn)}, {listener, other})
        ga.update_listener(ListenerArn=listener, PortRanges=ports[:1])
        self.refused(ga.exceptions.InvalidPortRangeException, ga.update_listener, ListenerArn=listener, PortRanges=[{"FromPort": 9, "ToPort": 8}])

        balancers = [elb.create_load_balancer(Name="ga-%d" % i, Subnets=SUBNETS)["LoadBalancers"][0]["LoadBalancerArn"] for i in (1, 2)]
        group = ga.create_endpoint_group(
            ListenerArn=listener, EndpointGroupRegion="eu-west-1", TrafficDialPercentage=50, HealthCheckPath="/ready", HealthCheckProtocol="HTTP",
            EndpointConfigurations=[{"EndpointId": balancers[0], "Weight": 128, "ClientIPPreservationEnabled": True}], IdempotencyToken="g",
            PortOverrides=[{"ListenerPort": 80, "EndpointPort": 8080}],
        )["EndpointGroup"]
        self.refused(
            ga.exceptions.EndpointGroupAlreadyExistsException, ga.create_endpoint_group, ListenerArn=listener, EndpointGroupRegion="eu-west-1", IdempotencyToken="h",
        )
        ga.create_endpoint_group(ListenerArn=listener, EndpointGroupRegion="us-east-1", IdempotencyToken="i")
        groups = self.pages(ga, "list_endpoint_groups", "EndpointGroups", ListenerArn=listener)
        self.assertEqual({g["EndpointGroupRegion"] for g in groups}, {"eu-west-1", "us-east-1"})
        found = ga.describe_endpoint_group(EndpointGroupArn=group["EndpointGroupArn"])["EndpointGroup"]
        self.assertEqual((found["TrafficDialPercentage"], found["EndpointDescriptions"][0]["Weight"], found["PortOverrides"]), (50, 128, [{"ListenerPort": 80, "EndpointPort": 8080}]))
        self.assertIn("HealthState", found["EndpointDescriptions"][0])
        if hasattr(ga, "add_endpoints"):
            ga.add_endpoints(EndpointGroupArn=group["EndpointGroupArn"], EndpointConfigurations=[{"EndpointId": balancers[1], "Weight": 1}])
            ga.remove_endpoints(EndpointGroupArn=group["EndpointGroupArn"], EndpointIdentifiers=[{"EndpointId": balancers[0]}])
            self.assertEqual([e["EndpointId"] for e in ga.describe_endpoint_group(EndpointGroupArn=group["EndpointGroupArn"])["EndpointGroup"]["EndpointDescriptions"]], balancers[1:])
        changed = ga.update_endpoint_group(EndpointGroupArn=group["EndpointGroupArn"], TrafficDialPercentage=100, EndpointConfigurations=[{"EndpointId": balancers[1], "Weight": 255}])
        self.assertEqual(changed["EndpointGroup"]["EndpointDescriptions"][0]["Weight"], 255)

        self.refused(ga.exceptions.AssociatedEndpointGroupFoundException, ga.delete_listener, ListenerArn=listener)
        for each in groups:
            ga.delete_endpoint_group(EndpointGroupArn=each["EndpointGroupArn"])
        self.refused(ga.exceptions.EndpointGroupNotFoundException, ga.describe_endpoint_group, EndpointGroupArn=group["EndpointGroupArn"])
        self.refused(ga.exceptions.AcceleratorNotDisabledException, ga.delete_accelerator, AcceleratorArn=arn)
        self.assertFalse(ga.update_accelerator(AcceleratorArn=arn, Enabled=False, Name="renamed")["Accelerator"]["Enabled"])
        self.refused(ga.exceptions.AssociatedListenerFoundException, ga.delete_accelerator, AcceleratorArn=arn)
        for each in (listener, other):
            ga.delete_listener(ListenerArn=each)
        self.refused(ga.exceptions.ListenerNotFoundException, ga.describe_listener, ListenerArn=listener)
        ga.delete_accelerator(AcceleratorArn=arn)
        self.refused(ga.exceptions.AcceleratorNotFoundException, ga.describe_accelerator, AcceleratorArn=arn)

    def test_pages(self):
        arns = {ga.create_accelerator(Name="page-%d" % i, IdempotencyToken=str(i))["Accelerator"]["AcceleratorArn"] for i in range(5)}
        found = [a["AcceleratorArn"] for a in self.pages(ga, "list_accelerators", "Accelerators", 2)]
        self.assertEqual((set(found) & arns, len(found)), (arns, len(set(found))))


def tearDownModule():
    want_all_used(ga)


if __name__ == "__main__":
    unittest.main()
