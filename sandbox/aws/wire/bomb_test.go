package wire_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/acm"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/route53"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

const megabyte = 1 << 20

// megabyteOf repeats a text to a megabyte.
func megabyteOf(format string, args ...any) string {
	var out strings.Builder
	for i := 0; out.Len() < megabyte-len(format)-20; i++ {
		fmt.Fprintf(&out, format, append([]any{i}, args...)...)
	}
	return out.String()
}

func zipped(text string) string {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write([]byte(text))
	_ = w.Close()
	return out.String()
}

// cborText is a text of any length.
func cborText(text string) string {
	n := len(text)
	return string([]byte{0x7a, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}) + text
}

// A request of a megabyte, however it is made, takes time and memory in proportion to its size, and is read or refused as AWS
// refuses.
func TestBombsAreDefused(t *testing.T) {
	long := strings.Repeat("n", megabyte/2)
	acmTarget := http.Header{"X-Amz-Target": {"CertificateManager.Operation"}}
	packed := http.Header{"X-Amz-Target": {"CertificateManager.Operation"}, "Content-Encoding": {"gzip"}}
	cbor := http.Header{"Smithy-Protocol": {"rpc-v2-cbor"}}
	const rpc = "/service/GraniteServiceVersion20100801/operation/Operation"
	const zones = "/2013-04-01/hostedzone/Z1/rrset"
	for name, bomb := range map[string]struct {
		codec  wire.Codec
		path   string
		header http.Header
		body   string
		input  any
	}{
		"form with far indices":        {wire.ELBv2, "/", nil, "Action=O&" + megabyteOf("Actions.member.99999%d.Type=a&"), &elb.CreateRuleInput{}},
		"form with gaps":               {wire.ELBv2, "/", nil, "Action=O&Actions.member.999999999.Type=a&Actions.member.0.Order=1", &elb.CreateRuleInput{}},
		"form with nested lists":       {wire.ELBv2, "/", nil, "Action=O&" + megabyteOf("Actions.member.%d.ForwardConfig.TargetGroups.member.1.Weight=7&"), &elb.CreateRuleInput{}},
		"form of dots":                 {wire.ELBv2, "/", nil, "Action=O&" + strings.Repeat(".", megabyte), &elb.CreateRuleInput{}},
		"form of one name":             {wire.ELBv2, "/", nil, "Action=O&" + strings.Repeat("a=1&", megabyte/4), &elb.CreateRuleInput{}},
		"form of separators":           {wire.EC2, "/", nil, "Action=O&" + strings.Repeat("&", megabyte), &ec2.DescribeSecurityGroupsInput{}},
		"form of escapes":              {wire.EC2, "/", nil, "Action=O&Filter.1.Name=" + strings.Repeat("%41", megabyte/3), &ec2.DescribeSecurityGroupsInput{}},
		"form with a long index":       {wire.EC2, "/", nil, "Action=O&Filter." + strings.Repeat("9", megabyte) + ".Name=a", &ec2.DescribeSecurityGroupsInput{}},
		"form with a long map":         {wire.ELBv2, "/", nil, "Action=O&" + megabyteOf("Actions.member.1.AuthenticateOidcConfig.AuthenticationRequestExtraParams.entry.%d.key=a&"), &elb.CreateRuleInput{}},
		"deep JSON":                    {wire.ACM, "/", acmTarget, strings.Repeat(`{"a":1,"b":`, megabyte/11), &acm.ListCertificatesInput{}},
		"deep JSON lists":              {wire.ACM, "/", acmTarget, strings.Repeat(`[`, megabyte), &acm.ListCertificatesInput{}},
		"JSON with a long name":        {wire.ACM, "/", acmTarget, `{"` + long + `":[` + strings.Repeat("1,", megabyte/4) + `1]}`, &acm.ListCertificatesInput{}},
		"JSON with long names inside":  {wire.ACM, "/", acmTarget, strings.Repeat(`{"`+long[:megabyte/100]+`":`, 50) + `[` + strings.Repeat("1,", megabyte/4) + `1]` + strings.Repeat("}", 50), &acm.ListCertificatesInput{}},
		"JSON of one name":             {wire.ACM, "/", acmTarget, `{"MaxItems":1` + strings.Repeat(`,"MaxItems":1`, megabyte/13) + `}`, &acm.ListCertificatesInput{}},
		"JSON that unpacks":            {wire.ACM, "/", packed, zipped(`{"a":[` + strings.Repeat("[],", 2*megabyte) + `[]]}`), &acm.ListCertificatesInput{}},
		"JSON that unpacks for ever":   {wire.ACM, "/", packed, zipped(strings.Repeat(" ", 64*megabyte)), &acm.ListCertificatesInput{}},
		"deep CBOR":                    {wire.CloudWatchRPC, rpc, cbor, strings.Repeat("\x81", megabyte), &cloudwatch.GetMetricDataInput{}},
		"deep CBOR without lengths":    {wire.CloudWatchRPC, rpc, cbor, strings.Repeat("\x9f", megabyte), &cloudwatch.GetMetricDataInput{}},
		"deep CBOR tags":               {wire.CloudWatchRPC, rpc, cbor, strings.Repeat("\xc2", megabyte), &cloudwatch.GetMetricDataInput{}},
		"CBOR of a huge length":        {wire.CloudWatchRPC, rpc, cbor, "\x9b\x7f\xff\xff\xff\xff\xff\xff\xff", &cloudwatch.GetMetricDataInput{}},
		"CBOR text of a huge length":   {wire.CloudWatchRPC, rpc, cbor, "\x7b\x7f\xff\xff\xff\xff\xff\xff\xff", &cloudwatch.GetMetricDataInput{}},
		"CBOR with a long name":        {wire.CloudWatchRPC, rpc, cbor, "\xa1" + cborText(long) + "\x9f" + strings.Repeat("\x01", megabyte/2) + "\xff", &cloudwatch.GetMetricDataInput{}},
		"CBOR of empty lists":          {wire.CloudWatchRPC, rpc, cbor, "\x9f" + strings.Repeat("\x80", megabyte) + "\xff", &cloudwatch.GetMetricDataInput{}},
		"CBOR text in pieces":          {wire.CloudWatchRPC, rpc, cbor, "\xa1\x7f" + strings.Repeat("\x61a", megabyte/2) + "\xff\x01", &cloudwatch.GetMetricDataInput{}},
		"deep XML":                     {wire.Route53, zones, nil, strings.Repeat("<a>", megabyte/3), &route53.ChangeResourceRecordSetsInput{}},
		"XML with a long name":         {wire.Route53, zones, nil, "<r><" + long + ">" + strings.Repeat("<a/>", megabyte/8) + "</" + long + "></r>", &route53.ChangeResourceRecordSetsInput{}},
		"XML text in pieces":           {wire.Route53, zones, nil, "<r>" + strings.Repeat("a<!---->", megabyte/8) + "</r>", &route53.ChangeResourceRecordSetsInput{}},
		"XML with entities":            {wire.Route53, zones, nil, `<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><r>&b;</r>`, &route53.ChangeResourceRecordSetsInput{}},
		"XML with an entity of a file": {wire.Route53, zones, nil, `<!DOCTYPE r [<!ENTITY a SYSTEM "file:///etc/passwd">]><r>&a;</r>`, &route53.ChangeResourceRecordSetsInput{}},
		"XML with attributes":          {wire.Route53, zones, nil, "<r " + megabyteOf("a%d='1' ") + "/>", &route53.ChangeResourceRecordSetsInput{}},
		"XML of elements":              {wire.Route53, zones, nil, "<r><ChangeBatch><Changes>" + strings.Repeat("<Change/>", megabyte/9) + "</Changes></ChangeBatch></r>", &route53.ChangeResourceRecordSetsInput{}},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			header := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
			for key, values := range bomb.header {
				header[key] = values
			}
			request := &wire.Request{Method: http.MethodPost, URL: &url.URL{Path: bomb.path}, Header: header, Body: []byte(bomb.body)}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			message, err := bomb.codec.Read(request)
			if message != nil {
				message.Parameters()
			}
			if err == nil {
				_, err = message.Decode(reflect.New(reflect.TypeOf(bomb.input).Elem()).Interface())
			}
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			var refused *wire.Error
			if err != nil && !errors.As(err, &refused) {
				t.Errorf("an error that AWS does not have: %v", err)
			}
			if refused != nil && len(refused.Message) > 2000 {
				t.Errorf("the answer has %d characters", len(refused.Message))
			}
			if taken := (after.TotalAlloc - before.TotalAlloc) / megabyte; taken > 200 {
				t.Errorf("%d MB were needed", taken)
			}
			if took > 5*time.Second {
				t.Errorf("it took %s", took)
			}
			t.Logf("%s, %d MB, %.100v", took, (after.TotalAlloc-before.TotalAlloc)/megabyte, err)
		})
	}
}
