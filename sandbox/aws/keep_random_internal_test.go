package aws

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// step makes one random call, which may be refused.
func (k *keeping) step(random *rand.Rand) {
	pick := func(kind string) string { // an ARN or id of that kind that the account has
		var found []string
		for _, text := range k.kept() {
			for _, part := range strings.Split(text, `"`) {
				if strings.Contains(part, kind) && !slices.Contains(found, part) {
					found = append(found, part)
				}
			}
		}
		slices.Sort(found)
		if len(found) == 0 {
			return kind + "none"
		}
		return found[random.IntN(len(found))]
	}
	name := fmt.Sprintf("n%d", random.IntN(6))
	number := random.IntN(1000)
	tags := fmt.Sprintf(`[{"Key": %q, "Value": "%d"}]`, name, number)
	steps := []func(){
		func() {
			k.do("ec2", "CreateSecurityGroup", `{"GroupName": %q, "Description": "d", "VpcId": %q}`, name, k.EC2().VPC())
		},
		func() { k.do("ec2", "DeleteSecurityGroup", `{"GroupId": %q}`, pick("sg-")) },
		func() {
			k.do("ec2", "AuthorizeSecurityGroupIngress", `{"GroupId": %q, "IpPermissions": [{"IpProtocol": "tcp", "FromPort": %d, "ToPort": 2000, "UserIdGroupPairs": [{"GroupId": %q}]}]}`, pick("sg-"), number, pick("sg-"))
		},
		func() {
			k.do("ec2", "CreateTags", `{"Resources": [%q], "Tags": %s}`, pick([]string{"sg-", "subnet-", "i-", "eni-"}[random.IntN(4)]), tags)
		},
		func() {
			_, _ = k.AddHost(Host{Name: name, Zone: "eu-west-1b", Ports: map[uint16]netip.AddrPort{uint16(number + 1): netip.MustParseAddrPort("127.0.0.1:3000")}})
		},
		func() { _ = k.RemoveHost(name) },
		func() {
			k.do("elasticloadbalancing", "CreateTargetGroup", `{"Name": %q, "Protocol": "HTTP", "Port": %d, "VpcId": %q, "TargetType": "ip", "Tags": %s}`, name, number+1, k.EC2().VPC(), tags)
		},
		func() {
			k.do("elasticloadbalancing", "DeleteTargetGroup", `{"TargetGroupArn": %q}`, pick(":targetgroup/"))
		},
		func() {
			k.do("elasticloadbalancing", "RegisterTargets", `{"TargetGroupArn": %q, "Targets": [{"Id": "10.77.0.%d"}]}`, pick(":targetgroup/"), 10+number%200)
		},
		func() {
			k.do("elasticloadbalancing", "CreateLoadBalancer", `{"Name": %q, "Subnets": [%q, %q], "SecurityGroups": [%q], "Tags": %s}`, name, must(k.subnetNamed("private.a"))(k.T), must(k.subnetNamed("public.b"))(k.T), pick("sg-"), tags)
		},
		func() {
			k.do("elasticloadbalancing", "DeleteLoadBalancer", `{"LoadBalancerArn": %q}`, pick(":loadbalancer/app/"))
		},
		func() {
			k.do("elasticloadbalancing", "CreateListener", `{"LoadBalancerArn": %q, "Protocol": "HTTP", "Port": %d, "DefaultActions": [{"Type": "forward", "TargetGroupArn": %q}]}`, pick(":loadbalancer/app/"), number+1, pick(":targetgroup/"))
		},
		func() {
			k.do("elasticloadbalancing", "CreateRule", `{"ListenerArn": %q, "Priority": %d, "Conditions": [{"Field": "path-pattern", "Values": ["/%d"]}], "Actions": [{"Type": "forward", "TargetGroupArn": %q}]}`, pick(":listener/app/"), number+1, number, pick(":targetgroup/"))
		},
		func() {
			k.do("elasticloadbalancing", "AddTags", `{"ResourceArns": [%q], "Tags": %s}`, pick(":elasticloadbalancing:"), tags)
		},
		func() { k.do("acm", "RequestCertificate", `{"DomainName": "%s.example.com", "Tags": %s}`, name, tags) },
		func() { k.do("acm", "DeleteCertificate", `{"CertificateArn": %q}`, pick(":certificate/")) },
		func() {
			k.do("route53", "CreateHostedZone", `{"Name": "%s.example.com", "CallerReference": "%d"}`, name, number)
		},
		func() {
			k.do("route53", "ChangeResourceRecordSets", `{"HostedZoneId": %q, "ChangeBatch": {"Changes": [{"Action": "UPSERT", "ResourceRecordSet": {"Name": "a%d.%s.example.com", "Type": "A", "TTL": 60, "ResourceRecords": [{"Value": "10.0.0.1"}]}}]}}`, pick("/hostedzone/"), number, name)
		},
		func() { k.do("route53", "DeleteHostedZone", `{"Id": %q}`, pick("/hostedzone/")) },
		func() {
			k.do("wafv2", "CreateWebACL", `{"Name": %q, "Scope": "REGIONAL", "DefaultAction": {"Allow": {}}, "VisibilityConfig": {"CloudWatchMetricsEnabled": true, "MetricName": "m", "SampledRequestsEnabled": true}}`, name)
		},
		func() {
			k.do("wafv2", "AssociateWebACL", `{"WebACLArn": %q, "ResourceArn": %q}`, pick(":regional/webacl/"), pick(":loadbalancer/app/"))
		},
		func() { k.do("waf-regional", "GetChangeToken", "{}") },
		func() { k.do("shield", "CreateSubscription", "{}") },
		func() {
			k.do("shield", "CreateProtection", `{"Name": %q, "ResourceArn": %q}`, name, pick(":loadbalancer/app/"))
		},
		func() { k.do("globalaccelerator", "CreateAccelerator", `{"Name": %q, "Tags": %s}`, name, tags) },
		func() { time.Sleep(time.Duration(number) * time.Second) },
	}
	steps[random.IntN(len(steps))]()
}

func TestAnyAccountIsTheSameAfterKills(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(seed, 1))
				dir := filepath.Join(dir, fmt.Sprint(seed))
				k := openAccount(t, dir, "typical")
				defer k.Close()
				done := map[string]int{}
				for range 3 {
					for range 120 {
						k.step(random)
					}
					k.killed()
					kept, described := k.kept(), k.described()
					for name, n := range k.done {
						done[name] += n
					}
					k = openAccount(t, dir, "typical")
					defer k.Close()
					synctest.Wait()
					same(t, "kept", kept, k.kept())
					same(t, "described", described, k.described())
				}
				if len(done) < 12 {
					t.Errorf("only these calls were carried out: %v", done)
				}
			})
		})
	}
}
