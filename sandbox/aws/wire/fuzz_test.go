package wire_test

import (
	"errors"
	"net/http"
	"net/url"
	"reflect"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/acm"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

func FuzzForms(f *testing.F) {
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
		operation, err := wire.ELBv2.Read(&wire.Request{Method: http.MethodGet, URL: &url.URL{RawQuery: "Action=Operation"}})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			protocol *wire.Query
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
				if _, err := c.protocol.Answer(operation, "id", c.input); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

// readable reads a request into a fresh struct of input's type. It is false for a request that is refused, as one
// that cannot be read has to be.
func readable(t *testing.T, codec wire.Codec, r *wire.Request, input any) (wire.Message, any, bool) {
	message, err := codec.Read(r)
	into := reflect.New(reflect.TypeOf(input).Elem()).Interface()
	if err == nil {
		message.Parameters()
		_, err = message.Decode(into)
	}
	var refused *wire.Error
	if err != nil && !errors.As(err, &refused) {
		t.Fatalf("an error that AWS does not have: %v", err)
	}
	return message, into, err == nil
}

// What could be read is written as a document that reads the same.
func FuzzDocuments(f *testing.F) {
	f.Add([]byte(`{"MaxItems":3,"Includes":{"keyTypes":["RSA_2048"]}}`))
	f.Add([]byte("\xa2\x69StartTime\xc1\xfb\x41\xd9\x15\x04\x00\x00\x00\x00\x69MaxDatapoints\x0a"))
	f.Add([]byte("\xbf\x7f\x62Ne\x67xtToken\xff\xf6\xff"))
	f.Add([]byte("\xa1\x71MetricDataQueries\x81\xa2\x62Id\x61a\x66Period\x38\x3b"))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, c := range []struct {
			codec  wire.Codec
			path   string
			target string
			input  any
		}{
			{wire.ACM, "/", "CertificateManager.Operation", &acm.ImportCertificateInput{}},
			{wire.ACM, "/", "CertificateManager.Operation", &acm.ListCertificatesInput{}},
			{wire.CloudWatchJSON, "/", "GraniteServiceVersion20100801.Operation", &cloudwatch.GetMetricDataInput{}},
			{wire.CloudWatchRPC, "/service/GraniteServiceVersion20100801/operation/Operation", "", &cloudwatch.GetMetricDataInput{}},
			{wire.CloudWatchRPC, "/service/GraniteServiceVersion20100801/operation/Operation", "", &cloudwatch.PutMetricDataInput{}},
		} {
			r := &wire.Request{Method: http.MethodPost, URL: &url.URL{Path: c.path}, Header: http.Header{"X-Amz-Target": {c.target}}, Body: body}
			message, into, ok := readable(t, c.codec, r, c.input)
			if !ok {
				continue
			}
			response, err := c.codec.Answer(message, "id", into)
			if err != nil {
				t.Fatal(err)
			}
			r.Body = response.Body
			_, again, ok := readable(t, c.codec, r, c.input)
			if !ok {
				t.Fatalf("%q is written as %q, which cannot be read", body, response.Body)
			}
			if c.target != "" {
				continue // JSON replaces what is no text
			}
			if diff := cmp.Diff(into, again, sameAsSent, cmpopts.EquateEmpty(), cmpopts.EquateNaNs()); diff != "" {
				t.Fatalf("%q is written as %q, which is not the same:\n%s", body, response.Body, diff)
			}
		}
	})
}

func FuzzREST(f *testing.F) {
	f.Add("POST", "/2013-04-01/hostedzone/Z1/rrset", []byte("<a><ChangeBatch><Changes><Change><Action>CREATE</Action></Change></Changes></ChangeBatch></a>"))
	f.Add("GET", "/2013-04-01/hostedzone/Z1/rrset/?name=a&maxitems=2", []byte(""))
	f.Add("POST", "/2013-04-01/hostedzone", []byte("<a b='c'><VPC/><DelegationSetId>&lt;</DelegationSetId></a>"))
	f.Fuzz(func(t *testing.T, method, path string, body []byte) {
		address, err := url.Parse(path)
		if err != nil {
			t.Skip()
		}
		r := &wire.Request{Method: method, URL: address, Header: http.Header{}, Body: body}
		for _, input := range []any{&route53.ChangeResourceRecordSetsInput{}, &route53.CreateHostedZoneOutput{}, &route53.ListResourceRecordSetsInput{}} {
			if message, into, ok := readable(t, wire.Route53, r, input); ok && message.Operation() != "CreateHostedZone" {
				if _, err := wire.Route53.Answer(message, "id", into); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}
