package wire_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// peer is the other end of an SDK client: it decodes the request into input and answers output.
type peer struct {
	protocol *wire.Protocol
	input    any
	output   any
	failure  *wire.Error
	unknown  []string
}

func (p *peer) RoundTrip(r *http.Request) (*http.Response, error) {
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(text))
	if err != nil {
		return nil, err
	}
	if p.unknown, err = p.protocol.Decode(form, p.input); err != nil {
		return nil, err
	}
	status, body := http.StatusOK, []byte(nil)
	if p.failure != nil {
		status, body = p.failure.HTTPStatus(), p.protocol.Failure("id-1", p.failure)
	} else if body, err = p.protocol.Answer(form.Get("Action"), "id-1", p.output); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"text/xml"}}, Body: io.NopCloser(bytes.NewReader(body))}, nil
}

func (p *peer) config() aws.Config {
	return aws.Config{
		Region: "eu-west-1", BaseEndpoint: new("http://aws.test"), HTTPClient: &http.Client{Transport: p},
		Credentials: credentials.NewStaticCredentialsProvider("id", "secret", ""), Retryer: func() aws.Retryer { return aws.NopRetryer{} },
	}
}

// fill gives every field of an SDK struct a value that differs from its neighbours', lists two elements.
func fill(v reflect.Value, number *int64, depth int) {
	*number++
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), number, depth)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(1_700_000_000+*number, 0).UTC()))
			return
		}
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if f.PkgPath == "" && f.Name != "ResultMetadata" && depth < 8 {
				fill(v.Field(i), number, depth+1)
			}
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			fill(v.Index(i), number, depth+1)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("key"), reflect.ValueOf("value <&>"))
	case reflect.String:
		v.SetString("text <&> " + time.Duration(*number).String())
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int32, reflect.Int64:
		v.SetInt(*number)
	case reflect.Float32, reflect.Float64:
		v.SetFloat(float64(*number) / 2)
	}
}

var sameAsSent = cmp.FilterPath(func(p cmp.Path) bool {
	field, ok := p.Last().(cmp.StructField)
	return ok && (field.Name() == "noSmithyDocumentSerde" || field.Name() == "ResultMetadata")
}, cmp.Ignore())

// Every name on the wire, both ways, against the SDK's own serializers: each operation is called with
// every field set and must arrive, and its answer must come back, as it was.
func TestEveryFieldOfEveryOperationSurvivesBothWays(t *testing.T) {
	t.Parallel()
	services := []struct {
		protocol   *wire.Protocol
		client     func(aws.Config) any
		operations string
	}{
		{wire.ELBv2, func(c aws.Config) any { return elb.NewFromConfig(c) }, `AddListenerCertificates AddTags CreateListener
			CreateLoadBalancer CreateRule CreateTargetGroup DeleteListener DeleteLoadBalancer DeleteRule DeleteTargetGroup
			DeregisterTargets DescribeAccountLimits DescribeCapacityReservation DescribeListenerAttributes
			DescribeListenerCertificates DescribeListeners DescribeLoadBalancerAttributes DescribeLoadBalancers DescribeRules
			DescribeSSLPolicies DescribeTags DescribeTargetGroupAttributes DescribeTargetGroups DescribeTargetHealth
			DescribeTrustStores ModifyCapacityReservation ModifyIpPools ModifyListener ModifyListenerAttributes
			ModifyLoadBalancerAttributes ModifyRule ModifyTargetGroup ModifyTargetGroupAttributes RegisterTargets
			RemoveListenerCertificates RemoveTags SetIpAddressType SetRulePriorities SetSecurityGroups SetSubnets`},
		{wire.STS, func(c aws.Config) any { return sts.NewFromConfig(c) }, `AssumeRole GetCallerIdentity`},
		{wire.EC2, func(c aws.Config) any { return ec2.NewFromConfig(c) }, `AllocateAddress AssignPrivateIpAddresses
			AssociateRouteTable AttachInternetGateway AttachNetworkInterface AuthorizeSecurityGroupEgress
			AuthorizeSecurityGroupIngress CreateInternetGateway CreateManagedPrefixList CreateNetworkInterface CreateRoute
			CreateRouteTable CreateSecurityGroup CreateSubnet CreateTags CreateVpc DeleteInternetGateway
			DeleteNetworkInterface DeleteRouteTable DeleteSecurityGroup DeleteSubnet DeleteTags DeleteVpc
			DescribeAccountAttributes DescribeAddresses DescribeAvailabilityZones DescribeInstances DescribeInternetGateways
			DescribeManagedPrefixLists DescribeNetworkInterfaces DescribeRegions DescribeRouteTables
			DescribeSecurityGroupRules DescribeSecurityGroups DescribeSubnets DescribeTags DescribeVpcs
			DetachNetworkInterface ModifyNetworkInterfaceAttribute ModifySecurityGroupRules ReleaseAddress
			RevokeSecurityGroupEgress RevokeSecurityGroupIngress StartInstances StopInstances TerminateInstances
			UpdateSecurityGroupRuleDescriptionsEgress UpdateSecurityGroupRuleDescriptionsIngress`},
	}
	for _, service := range services {
		for _, operation := range strings.Fields(service.operations) {
			p := &peer{protocol: service.protocol}
			method := reflect.ValueOf(service.client(p.config())).MethodByName(operation)
			sent := reflect.New(method.Type().In(1).Elem())
			answered := reflect.New(method.Type().Out(0).Elem())
			var number int64
			fill(sent.Elem(), &number, 0)
			fill(answered.Elem(), &number, 0)
			p.input, p.output = reflect.New(sent.Type().Elem()).Interface(), answered.Interface()
			results := method.Call([]reflect.Value{reflect.ValueOf(context.Background()), sent})
			if err, _ := results[1].Interface().(error); err != nil {
				t.Errorf("%s: %v", operation, err)
				continue
			}
			if len(p.unknown) > 0 {
				t.Errorf("%s: parameters that were not understood: %v", operation, p.unknown)
			}
			if diff := cmp.Diff(sent.Interface(), p.input, sameAsSent); diff != "" {
				t.Errorf("%s: request (-sent +arrived):\n%s", operation, diff)
			}
			if diff := cmp.Diff(p.output, results[0].Interface(), sameAsSent); diff != "" {
				t.Errorf("%s: answer (-sent +arrived):\n%s", operation, diff)
			}
		}
	}
}

func TestErrorsReachTheSDK(t *testing.T) {
	t.Parallel()
	failure := wire.Errorf("PriorityInUse", "priority <1> is in use")
	for name, call := range map[string]func(p *peer) error{
		"query": func(p *peer) error {
			p.protocol, p.input = wire.ELBv2, &elb.DescribeAccountLimitsInput{}
			_, err := elb.NewFromConfig(p.config()).DescribeAccountLimits(context.Background(), &elb.DescribeAccountLimitsInput{})
			return err
		},
		"ec2": func(p *peer) error {
			p.protocol, p.input = wire.EC2, &ec2.DescribeVpcsInput{}
			_, err := ec2.NewFromConfig(p.config()).DescribeVpcs(context.Background(), &ec2.DescribeVpcsInput{})
			return err
		},
	} {
		err := call(&peer{failure: failure})
		var got smithy.APIError
		if !errors.As(err, &got) || got.ErrorCode() != failure.Code || got.ErrorMessage() != failure.Message {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestListsInRequests(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		form string
		want []string
	}{
		"an empty list is not an absent one": {"Names=", []string{}},
		"absent":                             {"", nil},
		"numeric order, not that of text":    {"Names.member.10=c&Names.member.2=b&Names.member.1=a", []string{"a", "b", "c"}},
	} {
		form, err := url.ParseQuery(tt.form)
		if err != nil {
			t.Fatal(err)
		}
		var in elb.DescribeLoadBalancersInput
		if _, err := wire.ELBv2.Decode(form, &in); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(tt.want, in.Names); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestMalformedRequests(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"PageSize=many", "PageSize=99999999999", "Names.member.x=a", "Names.member.-1=a", "Names.member.01=a",
		"Names.member.1.2.3.4.5.6.7.8.9.10.11.12.13.14.15.16.17=a",
	} {
		form, err := url.ParseQuery(text)
		if err != nil {
			t.Fatal(err)
		}
		_, err = wire.ELBv2.Decode(form, &elb.DescribeLoadBalancersInput{})
		var refused *wire.Error
		if !errors.As(err, &refused) || refused.Code != "MalformedInput" {
			t.Errorf("%s: %v", text, err)
		}
	}
	form := url.Values{"Colour": {"blue"}, "VpcId.1": {"vpc-1"}, "Filter.1.Shape": {"round"}}
	unknown, err := wire.EC2.Decode(form, &ec2.DescribeVpcsInput{})
	if err != nil || !cmp.Equal(unknown, []string{"Colour", "Filter.1.Shape"}) {
		t.Errorf("unknown parameters %v, %v", unknown, err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("Names.member.1=a&PageSize=3")
	f.Add("Filter.1.Name=vpc-id&Filter.1.Value.1=vpc-1")
	f.Add("Actions.member.1.ForwardConfig.TargetGroups.member.2.Weight=7&Actions.member.1.Order=1")
	f.Add("Actions=&Conditions.member.=&Priority=-0")
	f.Add("Actions.member.1.AuthenticateOidcConfig.AuthenticationRequestExtraParams.entry.1.key=a")
	f.Fuzz(func(t *testing.T, query string) {
		form, err := url.ParseQuery(query)
		if err != nil {
			t.Skip()
		}
		for _, c := range []struct {
			protocol *wire.Protocol
			input    any
		}{
			{wire.ELBv2, &elb.CreateRuleInput{}}, {wire.ELBv2, &elb.CreateListenerInput{}}, {wire.EC2, &ec2.DescribeSecurityGroupsInput{}},
			{wire.EC2, &ec2.AuthorizeSecurityGroupIngressInput{}},
		} {
			_, err := c.protocol.Decode(form, c.input)
			var refused *wire.Error
			if err != nil && !errors.As(err, &refused) {
				t.Fatalf("an error that AWS does not have: %v", err)
			}
			if err == nil {
				// What could be read can be written.
				if _, err := c.protocol.Answer("Operation", "id", c.input); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}
