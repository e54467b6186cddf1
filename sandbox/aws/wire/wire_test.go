package wire_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/acm"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/globalaccelerator"
	"github.com/aws/aws-sdk-go-v2/service/resourcegroupstaggingapi"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/shield"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/wafregional"
	"github.com/aws/aws-sdk-go-v2/service/wafv2"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// peer is the other end of an SDK client: it decodes the request into input and answers output.
type peer struct {
	protocol wire.Codec
	input    any
	output   any
	failure  *wire.Error
	unknown  []string
}

func (p *peer) RoundTrip(r *http.Request) (*http.Response, error) {
	request := &wire.Request{Method: r.Method, URL: r.URL, Header: r.Header}
	var err error
	if r.Body != nil {
		if request.Body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	if !p.protocol.Speaks(request) || !p.protocol.Addressed(request) {
		return nil, fmt.Errorf("%s %s is not taken for a request of the service", r.Method, r.URL)
	}
	message, err := p.protocol.Read(request)
	if err != nil {
		return nil, err
	}
	if p.unknown, err = message.Decode(p.input); err != nil {
		return nil, err
	}
	var response *wire.Response
	if p.failure != nil {
		response = p.protocol.Failure("id-1", p.failure)
	} else if response, err = p.protocol.Answer(message, "id-1", p.output); err != nil {
		return nil, err
	}
	header := http.Header{}
	for name, value := range response.Header {
		header.Set(name, value)
	}
	return &http.Response{StatusCode: response.Status, Header: header, Body: io.NopCloser(bytes.NewReader(response.Body)), Request: r}, nil
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
			v.SetBytes([]byte("bytes"))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			fill(v.Index(i), number, depth+1)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		value := reflect.New(v.Type().Elem()).Elem()
		fill(value, number, depth+1)
		v.SetMapIndex(reflect.ValueOf("key").Convert(v.Type().Key()), value)
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
		protocol   wire.Codec
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
		{wire.STS, func(c aws.Config) any { return sts.NewFromConfig(c) }, `AssumeRole AssumeRoleWithWebIdentity GetCallerIdentity`},
		{wire.ACM, func(c aws.Config) any { return acm.NewFromConfig(c) }, `AddTagsToCertificate DeleteCertificate
			DescribeCertificate GetCertificate ImportCertificate ListCertificates ListTagsForCertificate RemoveTagsFromCertificate
			RequestCertificate`},
		{wire.WAFv2, func(c aws.Config) any { return wafv2.NewFromConfig(c) }, `AssociateWebACL DisassociateWebACL
			GetWebACLForResource ListResourcesForWebACL ListWebACLs`},
		{wire.WAFRegional, func(c aws.Config) any { return wafregional.NewFromConfig(c) }, `AssociateWebACL DisassociateWebACL
			GetWebACLForResource ListResourcesForWebACL ListWebACLs`},
		{wire.Shield, func(c aws.Config) any { return shield.NewFromConfig(c) }, `CreateProtection DeleteProtection
			DescribeProtection GetSubscriptionState ListProtections`},
		{wire.Tagging, func(c aws.Config) any { return resourcegroupstaggingapi.NewFromConfig(c) }, `GetResources GetTagKeys GetTagValues
			TagResources UntagResources`},
		{wire.GlobalAccelerator, func(c aws.Config) any { return globalaccelerator.NewFromConfig(c) }, `AddEndpoints CreateAccelerator
			CreateEndpointGroup CreateListener DeleteAccelerator DescribeAccelerator DescribeEndpointGroup ListAccelerators
			ListEndpointGroups ListListeners RemoveEndpoints TagResource UntagResource UpdateEndpointGroup UpdateListener`},
		{wire.CloudWatchRPC, func(c aws.Config) any { return cloudwatch.NewFromConfig(c) }, `GetMetricData GetMetricStatistics
			ListMetrics PutMetricData`},
		{wire.Route53, func(c aws.Config) any { return route53.NewFromConfig(c) }, `ChangeResourceRecordSets ChangeTagsForResource
			CreateHostedZone DeleteHostedZone GetChange GetHostedZone GetHostedZoneCount ListHostedZones ListHostedZonesByName
			ListResourceRecordSets ListTagsForResource ListTagsForResources UpdateHostedZoneComment`},
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
	for _, tt := range []struct {
		name     string
		codec    wire.Codec
		code     string
		input    any
		describe func(aws.Config) error
	}{
		{"query", wire.ELBv2, "PriorityInUse", &elb.DescribeAccountLimitsInput{}, func(c aws.Config) error {
			_, err := elb.NewFromConfig(c).DescribeAccountLimits(context.Background(), &elb.DescribeAccountLimitsInput{})
			return err
		}},
		{"EC2", wire.EC2, "InvalidVpcID.NotFound", &ec2.DescribeVpcsInput{}, func(c aws.Config) error {
			_, err := ec2.NewFromConfig(c).DescribeVpcs(context.Background(), &ec2.DescribeVpcsInput{})
			return err
		}},
		{"JSON", wire.ACM, "InvalidArnException", &acm.ListCertificatesInput{}, func(c aws.Config) error {
			_, err := acm.NewFromConfig(c).ListCertificates(context.Background(), &acm.ListCertificatesInput{})
			return err
		}},
		{"RPC, a code of old", wire.CloudWatchRPC, "InvalidParameterValue", &cloudwatch.ListMetricsInput{}, func(c aws.Config) error {
			_, err := cloudwatch.NewFromConfig(c).ListMetrics(context.Background(), &cloudwatch.ListMetricsInput{})
			return err
		}},
		{"RPC", wire.CloudWatchRPC, "Throttling", &cloudwatch.ListMetricsInput{}, func(c aws.Config) error {
			_, err := cloudwatch.NewFromConfig(c).ListMetrics(context.Background(), &cloudwatch.ListMetricsInput{})
			return err
		}},
		{"REST", wire.Route53, "NoSuchHostedZone", &route53.ListHostedZonesInput{}, func(c aws.Config) error {
			_, err := route53.NewFromConfig(c).ListHostedZones(context.Background(), &route53.ListHostedZonesInput{})
			return err
		}},
	} {
		p := &peer{protocol: tt.codec, input: tt.input, failure: wire.Errorf(tt.code, "number <1> & others")}
		err := tt.describe(p.config())
		var got smithy.APIError
		if !errors.As(err, &got) || got.ErrorCode() != tt.code || got.ErrorMessage() != p.failure.Message {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// What is no document of its protocol is refused, and an operation that nobody has keeps its name.
func TestMalformedDocuments(t *testing.T) {
	t.Parallel()
	header := func(name, value string) http.Header { return http.Header{name: {value}} }
	for _, tt := range []struct {
		why    string
		codec  wire.Codec
		method string
		path   string
		header http.Header
		body   string
		into   any
		code   string
	}{
		{"cut off", wire.ACM, "POST", "/", header("X-Amz-Target", "CertificateManager.ListCertificates"), `{"MaxItems":`, nil, "SerializationException"},
		{"two documents", wire.ACM, "POST", "/", header("X-Amz-Target", "CertificateManager.ListCertificates"), `{}{}`, nil, "SerializationException"},
		{"a list for a structure", wire.ACM, "POST", "/", header("X-Amz-Target", "CertificateManager.ListCertificates"), `[]`, &acm.ListCertificatesInput{}, "SerializationException"},
		{"text for a number", wire.ACM, "POST", "/", header("X-Amz-Target", "CertificateManager.ListCertificates"), `{"MaxItems":"1"}`, &acm.ListCertificatesInput{}, "SerializationException"},
		{"out of range", wire.ACM, "POST", "/", header("X-Amz-Target", "CertificateManager.ListCertificates"), `{"MaxItems":4294967296}`, &acm.ListCertificatesInput{}, "SerializationException"},
		{"no gzip", wire.ACM, "POST", "/", http.Header{"X-Amz-Target": {"CertificateManager.ListCertificates"}, "Content-Encoding": {"gzip"}}, `{}`, nil, "SerializationException"},
		{"no operation", wire.ACM, "POST", "/", nil, `{}`, nil, "MissingAction"},
		{"cut off", wire.CloudWatchRPC, "POST", "/service/GraniteServiceVersion20100801/operation/ListMetrics", nil, "\xa1\x61", nil, "SerializationException"},
		{"a map with a number for a key", wire.CloudWatchRPC, "POST", "/service/GraniteServiceVersion20100801/operation/ListMetrics", nil, "\xa1\x01\x01", nil, "SerializationException"},
		{"a length beyond the end", wire.CloudWatchRPC, "POST", "/service/GraniteServiceVersion20100801/operation/ListMetrics", nil, "\x9b\xff\xff\xff\xff\xff\xff\xff\xff", nil, "SerializationException"},
		{"too deep", wire.CloudWatchRPC, "POST", "/service/GraniteServiceVersion20100801/operation/ListMetrics", nil, strings.Repeat("\x81", 1000) + "\x01", nil, "SerializationException"},
		{"cut off", wire.Route53, "POST", "/2013-04-01/hostedzone", nil, "<CreateHostedZoneRequest>", nil, "MalformedInput"},
		{"text for a number", wire.Route53, "GET", "/2013-04-01/hostedzone?maxitems=many", nil, "", &route53.ListHostedZonesInput{}, "InvalidInput"},
	} {
		address, err := url.Parse("http://aws.test" + tt.path)
		if err != nil {
			t.Fatal(err)
		}
		message, err := tt.codec.Read(&wire.Request{Method: tt.method, URL: address, Header: tt.header, Body: []byte(tt.body)})
		if err == nil && tt.into != nil {
			_, err = message.Decode(tt.into)
		}
		var refused *wire.Error
		if !errors.As(err, &refused) || refused.Code != tt.code {
			t.Errorf("%T, %s: want %s, got %v", tt.codec, tt.why, tt.code, err)
		}
	}
}

// Clients of other languages take the lists of an answer for granted, also empty ones.
func TestEmptyListsAreAnswered(t *testing.T) {
	for _, tt := range []struct {
		protocol *wire.Query
		output   any
		want     string
	}{
		{wire.EC2, &ec2.DescribeSubnetsOutput{}, "<subnetSet></subnetSet>"},
		{wire.ELBv2, &elb.DescribeRulesOutput{}, "<Rules></Rules>"},
		{wire.CloudWatchQuery, &cloudwatch.ListMetricsOutput{}, "<Metrics></Metrics>"},
	} {
		message, err := tt.protocol.Read(&wire.Request{Method: http.MethodGet, URL: &url.URL{RawQuery: "Action=Describe"}})
		if err != nil {
			t.Fatal(err)
		}
		answer, err := tt.protocol.Answer(message, "id", tt.output)
		if err != nil || !bytes.Contains(answer.Body, []byte(tt.want)) {
			t.Errorf("%T: %s %v, want %s", tt.output, answer.Body, err, tt.want)
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
