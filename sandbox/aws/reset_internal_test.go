package aws

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/lockstep-delivery/lockstep/sandbox/address"
)

// Each service has something that lists what it was given; after a reset it lists nothing of it.
func TestAResetReachesEveryService(t *testing.T) {
	t.Parallel()
	e, err := New(Config{VPC: address.Mapping{Octet: 77}, WithoutTraffic: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	call := func(service, operation, input string) string {
		t.Helper()
		output, err := e.carryOut(service, operation, []byte(input))
		if err != nil {
			t.Fatalf("%s %s: %v", service, operation, err)
		}
		text, err := json.Marshal(output)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	lists := map[string]struct{ make, input, list, query string }{
		"acm":                  {"RequestCertificate", `{"DomainName": "marked.example.com", "ValidationMethod": "DNS"}`, "ListCertificates", `{}`},
		"route53":              {"CreateHostedZone", `{"Name": "marked.example.com", "CallerReference": "1"}`, "ListHostedZones", `{}`},
		"elasticloadbalancing": {"CreateTargetGroup", `{"Name": "marked", "Protocol": "HTTP", "Port": 80, "VpcId": "` + e.ec2.VPC() + `"}`, "DescribeTargetGroups", `{}`},
		"ec2":                  {"CreateSecurityGroup", `{"GroupName": "marked", "Description": "x", "VpcId": "` + e.ec2.VPC() + `"}`, "DescribeSecurityGroups", `{}`},
		"wafv2":                {"CreateWebACL", `{"Name": "marked", "Scope": "REGIONAL", "DefaultAction": {"Allow": {}}, "VisibilityConfig": {"MetricName": "x"}}`, "ListWebACLs", `{"Scope": "REGIONAL"}`},
		"globalaccelerator":    {"CreateAccelerator", `{"Name": "marked", "IdempotencyToken": "1"}`, "ListAccelerators", `{}`},
		"monitoring":           {"PutMetricData", `{"Namespace": "marked", "MetricData": [{"MetricName": "m", "Value": 1}]}`, "ListMetrics", `{}`},
	}
	for service, l := range lists {
		call(service, l.make, l.input)
		if got := call(service, l.list, l.query); !strings.Contains(got, "marked") {
			t.Errorf("%s does not list what it was given: %s", service, got)
		}
	}
	call("shield", "CreateSubscription", `{}`)
	if err := e.Reset(nil); err != nil {
		t.Fatal(err)
	}
	for service, l := range lists {
		if got := call(service, l.list, l.query); strings.Contains(got, "marked") {
			t.Errorf("%s still lists %s", service, got)
		}
	}
	call("shield", "CreateSubscription", `{}`) // refused to who is subscribed
}
