package aws_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/lockstep-delivery/lockstep/sandbox/address"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
)

// Nobody comes in without the secret, whatever stands in the header or, for presigned requests, in the query string; and nothing that stands
// there breaks the emulator.
func FuzzSignatures(f *testing.F) {
	const scope = aws.DefaultAccessKeyID + "/20000101/eu-west-1/elasticloadbalancing/aws4_request"
	f.Add("AWS4-HMAC-SHA256 Credential="+scope+", SignedHeaders=host;x-amz-date, Signature=00", "20000101T000000Z", "")
	f.Add("AWS4-HMAC-SHA256 Credential=,,,=;Signature=,SignedHeaders=", "", "")
	f.Add("Basic YTpi", "x", "")
	f.Add("", "", "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential="+url.QueryEscape(scope)+"&X-Amz-Date=20000101T000000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=00")
	f.Add("", "", "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires=99999999999999999999&X-Amz-Credential=a%2Fb%2Fc%2Fd%2Fe&X-Amz-Credential=2")
	emulator, err := aws.New(aws.Config{VPC: address.Mapping{Octet: 79}, WithoutTraffic: true, Unthrottled: true, JournalSize: 10})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = emulator.Close() })
	f.Fuzz(func(t *testing.T, authorization, date, query string) {
		if strings.Contains(query, "WebIdentity") {
			t.Skip("the token stands for the signature there")
		}
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			request := httptest.NewRequest(method, "/", strings.NewReader("Action=DescribeTargetGroups&Version=2015-12-01"))
			request.URL.RawQuery = query
			request.Header = http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Authorization": {authorization}, "X-Amz-Date": {date}}
			if authorization == "" {
				request.Header.Del("Authorization")
			}
			answer := httptest.NewRecorder()
			emulator.ServeHTTP(answer, request)
			if answer.Code < 400 || answer.Code >= 500 && answer.Code != http.StatusNotImplemented {
				t.Errorf("%s %q %q %q is answered with %d %s", method, authorization, date, query, answer.Code, answer.Body)
			}
		}
	})
}
