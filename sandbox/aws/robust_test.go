package aws_test

import (
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"

	"github.com/lockstep-delivery/lockstep/sandbox/address"
)

// reader calls operations as a program in the same process.
var reader = eventual.Reader{Caller: "test"}

// furnished is an emulator with one of each kind of resource, and their ids by kind.
func furnished(t testing.TB) (*aws.Emulator, map[string]string) {
	t.Helper()
	emulator, err := aws.New(aws.Config{VPC: address.Mapping{Octet: 79}, WithoutTraffic: true, Unthrottled: true, Anonymous: true, JournalSize: 10})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := emulator.Close(); err != nil {
			t.Error(err)
		}
	})
	network, balancing := emulator.EC2(), emulator.ELBv2()
	machine, err := network.AddInstance("eu-west-1a", "node")
	if err != nil {
		t.Fatal(err)
	}
	second, err := network.AddInstance("eu-west-1b", "node-b")
	if err != nil {
		t.Fatal(err)
	}
	lb, err := balancing.CreateLoadBalancer(reader, &elb.CreateLoadBalancerInput{Name: new("web"), Subnets: []string{machine.Subnet, second.Subnet}})
	if err != nil {
		t.Fatal(err)
	}
	group, err := balancing.CreateTargetGroup(reader, &elb.CreateTargetGroupInput{
		Name: new("group"), Protocol: types.ProtocolEnumHttp, Port: new(int32(80)), VpcId: new(network.VPC()), TargetType: types.TargetTypeEnumIp,
	})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := balancing.CreateListener(reader, &elb.CreateListenerInput{
		LoadBalancerArn: lb.LoadBalancers[0].LoadBalancerArn, Port: new(int32(80)), Protocol: types.ProtocolEnumHttp, DefaultActions: fixed("200"),
	})
	if err != nil {
		t.Fatal(err)
	}
	rule, err := balancing.CreateRule(reader, &elb.CreateRuleInput{
		ListenerArn: listener.Listeners[0].ListenerArn, Priority: new(int32(1)), Conditions: path("/x"), Actions: fixed("200"),
	})
	if err != nil {
		t.Fatal(err)
	}
	return emulator, map[string]string{
		"LoadBalancerArn": *lb.LoadBalancers[0].LoadBalancerArn, "TargetGroupArn": *group.TargetGroups[0].TargetGroupArn,
		"ListenerArn": *listener.Listeners[0].ListenerArn, "RuleArn": *rule.Rules[0].RuleArn,
		"VpcId": network.VPC(), "GroupId": network.NodeSecurityGroup(), "SubnetId": machine.Subnet, "InstanceId": machine.ID,
	}
}

var versions = map[string]string{"elasticloadbalancing": "2015-12-01", "ec2": "2016-11-15"}

// call sends a form to the emulator's handler and returns the status and the answer.
func call(emulator *aws.Emulator, service string, form url.Values) (int, string) {
	form.Set("Version", versions[service])
	request := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(form.Encode()))
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer := httptest.NewRecorder()
	emulator.ServeHTTP(answer, request)
	text, _ := io.ReadAll(answer.Body)
	return answer.Code, string(text)
}

// SDKs check that what is required is there; other programs do not. No operation may break on a
// request in which anything is missing: nothing but ids, nothing but empty elements, nothing at all.
func TestNoOperationBreaksOnWhatIsMissing(t *testing.T) {
	t.Parallel()
	models, _ := furnished(t)
	for service, input := range map[string]reflect.Type{"elasticloadbalancing": reflect.TypeFor[*elb.Client](), "ec2": reflect.TypeFor[*ec2.Client]()} {
		count := 0
		for i := range input.NumMethod() {
			method := input.Method(i)
			if method.Type.NumIn() < 3 || !models.Models(service, method.Name) {
				continue
			}
			count++
			emulator, ids := furnished(t) // the operation before may have deleted something
			for _, form := range incomplete(method.Type.In(2).Elem(), ids) {
				form.Set("Action", method.Name)
				if status, text := call(emulator, service, form); status >= 500 {
					t.Errorf("%v is answered with %d %s", form, status, text)
				}
			}
		}
		if count < 19 {
			t.Errorf("only %d operations of %s were tried", count, service)
		}
	}
}

// incomplete makes requests of which each has only a part: for every field by itself an id, an empty value, an
// empty element, and the same with the ids of all resources around it.
func incomplete(input reflect.Type, ids map[string]string) []url.Values {
	forms := []url.Values{{}}
	for i := range input.NumField() {
		name := input.Field(i).Name
		for _, suffix := range []string{"", ".member.1", ".member.1.Key", ".member.1.Type", ".member.1.Field", ".member.1.ForwardConfig", ".1", ".1.Name", ".1.Key", ".1.IpProtocol"} {
			alone, among := url.Values{name + suffix: {""}}, url.Values{name + suffix: {""}}
			for key, id := range ids {
				among.Set(key, id)
				if strings.HasPrefix(name, strings.TrimSuffix(key, "Arn")) || strings.HasPrefix(name, strings.TrimSuffix(key, "Id")) {
					alone.Set(name+suffix, id)
				}
			}
			forms = append(forms, alone, among)
		}
	}
	return forms
}

func FuzzRequests(f *testing.F) {
	_, ids := furnished(f)
	for _, seed := range []string{
		"Action=CreateRule&ListenerArn=" + ids["ListenerArn"] + "&Priority=2&Conditions.member.1.Field=path-pattern&Conditions.member.1.Values.member.1=/a&Actions.member.1.Type=forward&Actions.member.1.TargetGroupArn=" + ids["TargetGroupArn"],
		"Action=ModifyRule&RuleArn=" + ids["RuleArn"] + "&Actions.member.1.Type=redirect&Actions.member.1.RedirectConfig.StatusCode=HTTP_301",
		"Action=SetRulePriorities&RulePriorities.member.1.RuleArn=" + ids["RuleArn"] + "&RulePriorities.member.1.Priority=9",
		"Action=RegisterTargets&TargetGroupArn=" + ids["TargetGroupArn"] + "&Targets.member.1.Id=10.79.0.9&Targets.member.1.Port=80",
		"Action=AuthorizeSecurityGroupIngress&GroupId=" + ids["GroupId"] + "&IpPermissions.1.IpProtocol=tcp&IpPermissions.1.FromPort=1&IpPermissions.1.ToPort=2&IpPermissions.1.IpRanges.1.CidrIp=10.0.0.0/8",
		"Action=DescribeSecurityGroups&Filter.1.Name=tag:a&Filter.1.Value.1=*",
	} {
		f.Add(seed)
	}
	f.Add("Action=DeleteRule&RuleArn=" + ids["RuleArn"] + "\nAction=CreateRule&ListenerArn=" + ids["ListenerArn"] + "&Priority=1&Conditions.member.999999999.Field=path-pattern&Conditions.member.999999999.Values.member.1=*&Actions.member.1.Type=forward")
	// The account has timers and goroutines, so that no two executions cover quite the same. The fuzzer takes that for news, and would by
	// default try for a minute each to find a smaller input with the same effect: it did hardly anything else.
	if err := flag.Set("test.fuzzminimizetime", "10x"); err != nil {
		f.Fatal(err)
	}
	// Each execution has an account of its own, so that what an input does does not depend on those before it.
	f.Fuzz(func(t *testing.T, queries string) {
		if len(queries) > 100_000 {
			t.Skip("parsers are given large requests by the targets of package wire")
		}
		emulator, _ := furnished(t)
		for query := range strings.SplitSeq(queries, "\n") {
			form, err := url.ParseQuery(query)
			if err != nil {
				t.Skip()
			}
			for _, service := range []string{"ec2", "elasticloadbalancing"} {
				if status, text := call(emulator, service, form); status >= 500 && status != http.StatusNotImplemented {
					t.Errorf("%s is answered with %d %s", query, status, text)
				}
			}
		}
	})
}
