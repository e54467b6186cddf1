package aws

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-delivery/lockstep/sandbox/address"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/journal"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/snapshot"
)

// keeping is an account in a folder, called without the wire. It runs in a synctest bubble.
type keeping struct {
	*testing.T
	*Emulator
	refused map[string]int // errors by operation
	done    map[string]int
}

func openAccount(t *testing.T, dir, profileName string) *keeping {
	t.Helper()
	table, err := profile.Load(profileName)
	if err != nil {
		t.Fatal(err)
	}
	// Reads are to tell the truth: how stale they may be is not what is tested here.
	table.Probabilities[profile.ReadNewMissing], table.Probabilities[profile.ReadOldState] = 0, 0
	e, err := New(Config{VPC: address.Mapping{Octet: 77}, WithoutTraffic: true, Seed: 1, DataDir: dir, Profile: table})
	if err != nil {
		t.Fatal(err)
	}
	return &keeping{t, e, map[string]int{}, map[string]int{}}
}

// killed waits until all is on the disk and leaves the process for dead: nothing is closed until the test is over.
func (k *keeping) killed() {
	time.Sleep(2 * time.Second) // of virtual time: longer than the keeper rests
	synctest.Wait()
}

// do carries out a call with an input as JSON, and gives a field of the answer.
func (k *keeping) do(service, operation, input string, args ...any) func(path string) string {
	k.Helper()
	text := fmt.Sprintf(input, args...)
	c := &call{name: service, record: journal.Record{Operation: operation}}
	output, err := k.perform(c, func() (any, error) { return k.carryOut(service, operation, []byte(text)) })
	if err != nil {
		k.refused[service+":"+operation]++
		if k.refused == nil {
			k.Fatalf("%s:%s %s: %v", service, operation, text, err)
		}
		return func(string) string { return "" }
	}
	k.done[service+":"+operation]++
	k.tagging.Observe()
	answer, err := json.Marshal(output)
	if err != nil {
		k.Fatal(err)
	}
	var tree any
	if err := json.Unmarshal(answer, &tree); err != nil {
		k.Fatal(err)
	}
	return func(path string) string {
		text, _ := field(tree, path).(string)
		return text
	}
}

// reads are calls that need no parameters, and calls for each of the ARNs that the account has.
var reads = []struct{ service, operation, input string }{
	{"elasticloadbalancing", "DescribeLoadBalancers", "{}"}, {"elasticloadbalancing", "DescribeTargetGroups", "{}"},
	{"ec2", "DescribeInstances", "{}"}, {"ec2", "DescribeNetworkInterfaces", "{}"}, {"ec2", "DescribeSecurityGroups", "{}"},
	{"ec2", "DescribeSecurityGroupRules", "{}"}, {"ec2", "DescribeTags", "{}"}, {"ec2", "DescribeSubnets", "{}"}, {"ec2", "DescribeVpcs", "{}"},
	{"ec2", "DescribeRouteTables", "{}"},
	{"acm", "ListCertificates", "{}"}, {"route53", "ListHostedZones", "{}"},
	{"wafv2", "ListWebACLs", `{"Scope": "REGIONAL"}`}, {"waf-regional", "ListWebACLs", "{}"},
	{"shield", "GetSubscriptionState", "{}"}, {"shield", "ListProtections", "{}"},
	{"globalaccelerator", "ListAccelerators", "{}"}, {"tagging", "GetResources", "{}"},
}

var readsOf = map[string][]struct{ service, operation, input string }{
	":loadbalancer/": {
		{"elasticloadbalancing", "DescribeListeners", `{"LoadBalancerArn": %q}`}, {"elasticloadbalancing", "DescribeLoadBalancerAttributes", `{"LoadBalancerArn": %q}`},
		{"elasticloadbalancing", "DescribeTags", `{"ResourceArns": [%q]}`}, {"wafv2", "GetWebACLForResource", `{"ResourceArn": %q}`},
		{"waf-regional", "GetWebACLForResource", `{"ResourceArn": %q}`}, {"shield", "DescribeProtection", `{"ResourceArn": %q}`},
	},
	":listener/": {
		{"elasticloadbalancing", "DescribeRules", `{"ListenerArn": %q}`}, {"elasticloadbalancing", "DescribeListenerAttributes", `{"ListenerArn": %q}`},
		{"elasticloadbalancing", "DescribeListenerCertificates", `{"ListenerArn": %q}`},
	},
	":targetgroup/": {
		{"elasticloadbalancing", "DescribeTargetHealth", `{"TargetGroupArn": %q}`}, {"elasticloadbalancing", "DescribeTargetGroupAttributes", `{"TargetGroupArn": %q}`},
	},
	":certificate/": {
		{"acm", "DescribeCertificate", `{"CertificateArn": %q}`}, {"acm", "GetCertificate", `{"CertificateArn": %q}`}, {"acm", "ListTagsForCertificate", `{"CertificateArn": %q}`},
	},
	"/hostedzone/":  {{"route53", "ListResourceRecordSets", `{"HostedZoneId": %q}`}, {"route53", "GetHostedZone", `{"Id": %q}`}},
	":accelerator/": {{"globalaccelerator", "ListListeners", `{"AcceleratorArn": %q}`}, {"globalaccelerator", "ListTagsForResource", `{"ResourceArn": %q}`}},
	"/listener/":    {{"globalaccelerator", "ListEndpointGroups", `{"ListenerArn": %q}`}},
}

// described is what the API tells of everything, by call. What one call names is asked about by others.
func (k *keeping) described() map[string]string {
	k.Helper()
	all := map[string]string{}
	names := map[string]bool{}
	var ask func(service, operation, input string)
	ask = func(service, operation, input string) {
		name := service + ":" + operation + " " + input
		output, err := k.carryOut(service, operation, []byte(input))
		if err != nil {
			all[name] = err.Error()
			return
		}
		text, err := json.MarshalIndent(output, "", " ")
		if err != nil {
			k.Fatal(err)
		}
		all[name] = string(text)
		for _, part := range strings.Split(string(text), `"`) {
			if names[part] || !strings.HasPrefix(part, "arn:") && !strings.HasPrefix(part, "/hostedzone/") {
				continue
			}
			names[part] = true
			for kind, more := range readsOf {
				for _, r := range more {
					if strings.Contains(part, kind) && (r.service == "globalaccelerator") == strings.Contains(part, ":globalaccelerator:") {
						ask(r.service, r.operation, fmt.Sprintf(r.input, part))
					}
				}
			}
		}
	}
	for _, r := range reads {
		ask(r.service, r.operation, r.input)
	}
	all["hosts"] = fmt.Sprintf("%+v", k.Hosts())
	all["balancers"] = fmt.Sprintf("%+v", k.LoadBalancers())
	return all
}

// kept is what the account has, as it is written down.
func (k *keeping) kept() map[string]string {
	k.Helper()
	_, services, err := k.export()
	if err != nil {
		k.Fatal(err)
	}
	all := map[string]string{}
	for name, text := range services {
		var indented bytes.Buffer
		if err := json.Indent(&indented, text, "", " "); err != nil {
			k.Fatal(err)
		}
		all[name] = indented.String()
	}
	return all
}

// fill makes one or more of everything.
func (k *keeping) fill() {
	vpc, group := k.EC2().VPC(), k.EC2().NodeSecurityGroup()
	var subnets []string
	for _, zone := range []string{"a", "b"} {
		id, err := k.subnetNamed("private." + zone)
		if err != nil {
			k.Fatal(err)
		}
		subnets = append(subnets, id)
	}
	if _, err := k.AddHost(Host{Name: "shop", Zone: "eu-west-1b", Ports: map[uint16]netip.AddrPort{8080: netip.MustParseAddrPort("127.0.0.1:3000")}}); err != nil {
		k.Fatal(err)
	}
	sg := k.do("ec2", "CreateSecurityGroup", `{"GroupName": "web", "Description": "d", "VpcId": %q}`, vpc)("GroupId")
	k.do("ec2", "AuthorizeSecurityGroupIngress", `{"GroupId": %q, "IpPermissions": [{"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "0.0.0.0/0", "Description": "all"}]}]}`, sg)
	k.do("ec2", "CreateTags", `{"Resources": [%q, %q], "Tags": [{"Key": "team", "Value": "shop"}]}`, vpc, sg)
	zone := k.do("route53", "CreateHostedZone", `{"Name": "example.com", "CallerReference": "x"}`)("HostedZone.Id")
	time.Sleep(time.Second) // of virtual time: the zone is no longer busy
	certificate := k.do("acm", "RequestCertificate", `{"DomainName": "www.example.com", "ValidationMethod": "DNS", "IdempotencyToken": "t", "Tags": [{"Key": "a", "Value": "b"}]}`)("CertificateArn")
	detail := k.do("acm", "DescribeCertificate", `{"CertificateArn": %q}`, certificate)
	const record = "Certificate.DomainValidationOptions[0].ResourceRecord."
	k.do("route53", "ChangeResourceRecordSets", `{"HostedZoneId": %q, "ChangeBatch": {"Changes": [{"Action": "CREATE", "ResourceRecordSet": {"Name": %q, "Type": "CNAME", "TTL": 60, "ResourceRecords": [{"Value": %q}]}}]}}`,
		zone, detail(record+"Name"), detail(record+"Value"))
	k.do("acm", "RequestCertificate", `{"DomainName": "pending.example.com", "ValidationMethod": "DNS"}`)
	time.Sleep(4 * time.Hour) // of virtual time: the certificate is issued, whatever the profile
	if status := k.do("acm", "DescribeCertificate", `{"CertificateArn": %q}`, certificate)("Certificate.Status"); status != "ISSUED" {
		k.Fatalf("the certificate is %s", status)
	}
	k.do("route53", "ChangeTagsForResource", `{"ResourceId": %q, "ResourceType": "hostedzone", "AddTags": [{"Key": "zone", "Value": "1"}]}`, strings.TrimPrefix(zone, "/hostedzone/"))
	blue := k.do("elasticloadbalancing", "CreateTargetGroup", `{"Name": "blue", "Protocol": "HTTP", "Port": 8080, "VpcId": %q, "TargetType": "ip", "Tags": [{"Key": "color", "Value": "blue"}]}`, vpc)("TargetGroups[0].TargetGroupArn")
	green := k.do("elasticloadbalancing", "CreateTargetGroup", `{"Name": "green", "Protocol": "HTTP", "Port": 8080, "VpcId": %q, "TargetType": "instance"}`, vpc)("TargetGroups[0].TargetGroupArn")
	k.do("elasticloadbalancing", "ModifyTargetGroupAttributes", `{"TargetGroupArn": %q, "Attributes": [{"Key": "deregistration_delay.timeout_seconds", "Value": "100"}]}`, blue)
	web := k.do("elasticloadbalancing", "CreateLoadBalancer", `{"Name": "web", "Subnets": [%q, %q], "SecurityGroups": [%q], "Tags": [{"Key": "lb", "Value": "1"}]}`, subnets[0], subnets[1], sg)("LoadBalancers[0].LoadBalancerArn")
	k.do("elasticloadbalancing", "CreateLoadBalancer", `{"Name": "net", "Type": "network", "Scheme": "internal", "Subnets": [%q]}`, subnets[1])
	gone := k.do("elasticloadbalancing", "CreateLoadBalancer", `{"Name": "gone", "Subnets": [%q, %q], "SecurityGroups": [%q]}`, subnets[0], subnets[1], group)("LoadBalancers[0].LoadBalancerArn")
	k.do("elasticloadbalancing", "ModifyLoadBalancerAttributes", `{"LoadBalancerArn": %q, "Attributes": [{"Key": "idle_timeout.timeout_seconds", "Value": "61"}]}`, web)
	oidc := `{"Type": "authenticate-oidc", "Order": 1, "AuthenticateOidcConfig": {"Issuer": "https://i.example.com", "AuthorizationEndpoint": "https://i.example.com/a", "TokenEndpoint": "https://i.example.com/t", "UserInfoEndpoint": "https://i.example.com/u", "ClientId": "shop", "ClientSecret": "very secret"}}`
	https := k.do("elasticloadbalancing", "CreateListener", `{"LoadBalancerArn": %q, "Protocol": "HTTPS", "Port": 443, "Certificates": [{"CertificateArn": %q}],
		"DefaultActions": [%s, {"Type": "forward", "Order": 2, "TargetGroupArn": %q}]}`, web, certificate, oidc, blue)("Listeners[0].ListenerArn")
	k.do("elasticloadbalancing", "CreateRule", `{"ListenerArn": %q, "Priority": 7, "Conditions": [{"Field": "path-pattern", "Values": ["/a*"]}], "Tags": [{"Key": "r", "Value": "7"}],
		"Actions": [{"Type": "forward", "ForwardConfig": {"TargetGroups": [{"TargetGroupArn": %q, "Weight": 90}, {"TargetGroupArn": %q, "Weight": 10}]}}]}`, https, blue, green)
	address := k.Hosts()[0].Address
	k.do("elasticloadbalancing", "RegisterTargets", `{"TargetGroupArn": %q, "Targets": [{"Id": %q, "Port": 8080}, {"Id": %q, "Port": 8081}]}`, blue, address, address)
	k.do("elasticloadbalancing", "RegisterTargets", `{"TargetGroupArn": %q, "Targets": [{"Id": %q}]}`, green, k.Hosts()[0].ID)
	acl := k.do("wafv2", "CreateWebACL", `{"Name": "acl", "Scope": "REGIONAL", "DefaultAction": {"Allow": {}}, "VisibilityConfig": {"CloudWatchMetricsEnabled": true, "MetricName": "m", "SampledRequestsEnabled": true}}`)("Summary.ARN")
	older := k.do("waf-regional", "CreateWebACL", `{"Name": "old", "MetricName": "m", "DefaultAction": {"Type": "ALLOW"}, "ChangeToken": %q}`,
		k.do("waf-regional", "GetChangeToken", "{}")("ChangeToken"))("WebACL.WebACLId")
	k.do("shield", "CreateSubscription", "{}")
	k.do("shield", "CreateProtection", `{"Name": "p", "ResourceArn": %q}`, web)
	accelerator := k.do("globalaccelerator", "CreateAccelerator", `{"Name": "ga", "IdempotencyToken": "t", "Tags": [{"Key": "ga", "Value": "1"}]}`)("Accelerator.AcceleratorArn")
	listener := k.do("globalaccelerator", "CreateListener", `{"AcceleratorArn": %q, "PortRanges": [{"FromPort": 80, "ToPort": 80}], "Protocol": "TCP", "IdempotencyToken": "l"}`, accelerator)("Listener.ListenerArn")
	k.do("globalaccelerator", "CreateEndpointGroup", `{"ListenerArn": %q, "EndpointGroupRegion": "eu-west-1", "IdempotencyToken": "g", "EndpointConfigurations": [{"EndpointId": %q, "Weight": 5}]}`, listener, web)
	time.Sleep(time.Hour) // of virtual time: load balancers are active, web ACLs usable
	k.do("wafv2", "AssociateWebACL", `{"WebACLArn": %q, "ResourceArn": %q}`, acl, web)
	k.do("waf-regional", "AssociateWebACL", `{"WebACLId": %q, "ResourceArn": %q}`, older, web)
	k.do("elasticloadbalancing", "DeleteLoadBalancer", `{"LoadBalancerArn": %q}`, gone)
	k.do("elasticloadbalancing", "DeregisterTargets", `{"TargetGroupArn": %q, "Targets": [{"Id": %q, "Port": 8081}]}`, blue, address)
	if len(k.refused) > 0 {
		k.Fatalf("refused: %v", k.refused)
	}
}

func same(t *testing.T, what string, want, got map[string]string) {
	t.Helper()
	for name := range want {
		if diff := cmp.Diff(want[name], got[name]); diff != "" {
			t.Errorf("%s, %s:\n%s", what, name, diff)
		}
	}
	for name := range got {
		if _, known := want[name]; !known {
			t.Errorf("%s, %s is new: %.300s", what, name, got[name])
		}
	}
}

func TestEveryServiceIsTheSameAfterAKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, profileName := range []string{"ideal", "typical"} {
		t.Run(profileName, func(t *testing.T) {
			dir := filepath.Join(dir, profileName)
			synctest.Test(t, func(t *testing.T) {
				first := openAccount(t, dir, profileName)
				defer first.Close()
				first.fill()
				first.killed()
				kept, described := first.kept(), first.described()
				again := openAccount(t, dir, profileName)
				defer again.Close()
				synctest.Wait()
				same(t, "kept", kept, again.kept())
				same(t, "described", described, again.described())
				if info, err := os.Stat(filepath.Join(dir, snapshot.File)); err != nil || info.Mode().Perm() != 0o600 {
					t.Errorf("the file is %v, %v", info.Mode(), err)
				}
				if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
					t.Errorf("the folder is %v, %v", info.Mode(), err)
				}
				// What was on its way arrives: interfaces are given back, the target leaves.
				for _, k := range []*keeping{first, again} {
					time.Sleep(time.Hour)
					synctest.Wait()
					if n := len(k.EC2().BalancerInterfaces()); n != 3 {
						t.Errorf("%d interfaces of load balancers are left, want 3: two of web, one of net", n)
					}
					if all := k.described(); strings.Contains(fmt.Sprint(all), "draining") {
						t.Errorf("a target still drains: %s", all)
					}
				}
				// New ids are others than old ones, also those that a crash has lost.
				one := first.do("route53", "CreateHostedZone", `{"Name": "new.example.com", "CallerReference": "n"}`)("HostedZone.Id")
				other := again.do("route53", "CreateHostedZone", `{"Name": "new.example.com", "CallerReference": "n"}`)("HostedZone.Id")
				if one == "" || one == other {
					t.Errorf("after a restart the same id is given out again: %q", one)
				}
			})
		})
	}
}

// A load balancer that is being provisioned at the moment of the crash becomes active when it would have.
func TestProvisioningGoesOnAfterAKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		first := openAccount(t, dir, "typical")
		defer first.Close()
		subnets := []string{must(first.subnetNamed("private.a"))(t), must(first.subnetNamed("private.b"))(t)}
		created := time.Now()
		first.do("elasticloadbalancing", "CreateLoadBalancer", `{"Name": "web", "Subnets": [%q, %q], "SecurityGroups": [%q]}`, subnets[0], subnets[1], first.EC2().NodeSecurityGroup())
		time.Sleep(50 * time.Second)
		again := openAccount(t, dir, "typical")
		defer again.Close()
		active := func(k *keeping) time.Duration {
			for !k.LoadBalancers()[0].Active {
				time.Sleep(time.Millisecond)
			}
			return time.Since(created)
		}
		if restarted, went := active(again), active(first); restarted.Round(time.Second) != went.Round(time.Second) || went < 90*time.Second {
			t.Errorf("active after %s, not %s", restarted, went)
		}
	})
}

func must[T any](value T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

// The size of the file is that of what there is, not of what has happened.
func TestTheSnapshotDoesNotGrowWithHistory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		k := openAccount(t, dir, "ideal")
		defer k.Close()
		size := func() int64 {
			k.killed()
			info, err := os.Stat(filepath.Join(dir, snapshot.File))
			if err != nil {
				t.Fatal(err)
			}
			return info.Size()
		}
		cycle := func() {
			k.do("ec2", "DeleteSecurityGroup", `{"GroupId": %q}`, k.do("ec2", "CreateSecurityGroup", `{"GroupName": "x", "Description": "d", "VpcId": %q}`, k.EC2().VPC())("GroupId"))
			arn := k.do("elasticloadbalancing", "CreateTargetGroup", `{"Name": "x", "Protocol": "HTTP", "Port": 80, "VpcId": %q, "TargetType": "ip", "Tags": [{"Key": "a", "Value": "b"}]}`, k.EC2().VPC())("TargetGroups[0].TargetGroupArn")
			k.do("elasticloadbalancing", "DeleteTargetGroup", `{"TargetGroupArn": %q}`, arn)
		}
		cycle()
		time.Sleep(3 * time.Hour)
		before := size()
		for range 200 {
			cycle()
		}
		time.Sleep(3 * time.Hour)
		k.do("tagging", "GetResources", "{}") // what is gone is forgotten when somebody looks
		k.keeper.Changed()
		if after := size(); after > before+200 {
			t.Errorf("%d bytes have become %d, though nothing is there that was not before", before, after)
		}
	})
}

// A broken write leaves the snapshot from before, and is swept away.
func TestATornWriteIsSurvived(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		k := openAccount(t, dir, "ideal")
		defer k.Close()
		k.do("ec2", "CreateSecurityGroup", `{"GroupName": "x", "Description": "d", "VpcId": %q}`, k.EC2().VPC())
		k.killed()
		torn := filepath.Join(dir, snapshot.File+".123.next")
		if err := os.WriteFile(torn, []byte(`{"version": 2, "serv`), 0o600); err != nil {
			t.Fatal(err)
		}
		again := openAccount(t, dir, "ideal")
		defer again.Close()
		same(t, "kept", k.kept(), again.kept())
		if _, err := os.Stat(torn); !os.IsNotExist(err) {
			t.Errorf("what was left of the broken write: %v", err)
		}
	})
	if files, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(files) != 1 {
		t.Errorf("the folder has %v, %v", files, err)
	}
}
