package aws_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/acm"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	ga "github.com/aws/aws-sdk-go-v2/service/globalaccelerator"
	rgt "github.com/aws/aws-sdk-go-v2/service/resourcegroupstaggingapi"
	"github.com/aws/aws-sdk-go-v2/service/shield"
	"github.com/aws/aws-sdk-go-v2/service/wafregional"
	"github.com/aws/aws-sdk-go-v2/service/wafv2"
)

// hollow is a document for a type in which structures are there but empty below a depth, lists have one element, and
// texts and numbers are the given ones.
func hollow(t reflect.Type, depth int, text string) any {
	switch t.Kind() {
	case reflect.Pointer:
		return hollow(t.Elem(), depth, text)
	case reflect.Struct:
		members := map[string]any{}
		for i := range t.NumField() {
			if f := t.Field(i); f.PkgPath == "" && depth > 0 && f.Type.String() != "*time.Time" && f.Type.String() != "time.Time" {
				if v := hollow(f.Type, depth-1, text); v != nil {
					members[f.Name] = v
				}
			}
		}
		return members
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return ""
		}
		return []any{hollow(t.Elem(), depth, text)}
	case reflect.String:
		return text
	case reflect.Bool:
		return true
	case reflect.Int32, reflect.Int64, reflect.Float32, reflect.Float64:
		return 1
	}
	return nil
}

// As TestNoOperationBreaksOnWhatIsMissing, for the services that speak JSON.
func TestNoDocumentBreaksAnOperation(t *testing.T) {
	t.Parallel()
	emulator, ids := furnished(t)
	for service, api := range map[string]struct {
		target string
		client reflect.Type
	}{
		"acm":               {"CertificateManager", reflect.TypeFor[*acm.Client]()},
		"wafv2":             {"AWSWAF_20190729", reflect.TypeFor[*wafv2.Client]()},
		"waf-regional":      {"AWSWAF_Regional_20161128", reflect.TypeFor[*wafregional.Client]()},
		"shield":            {"AWSShield_20160616", reflect.TypeFor[*shield.Client]()},
		"tagging":           {"ResourceGroupsTaggingAPI_20170126", reflect.TypeFor[*rgt.Client]()},
		"monitoring":        {"GraniteServiceVersion20100801", reflect.TypeFor[*cloudwatch.Client]()},
		"globalaccelerator": {"GlobalAccelerator_V20180706", reflect.TypeFor[*ga.Client]()},
	} {
		count := 0
		for i := range api.client.NumMethod() {
			method := api.client.Method(i)
			if method.Type.NumIn() < 3 || !emulator.Models(service, method.Name) {
				continue
			}
			count++
			for _, document := range []any{
				map[string]any{}, hollow(method.Type.In(2), 1, ""), hollow(method.Type.In(2), 2, ""), hollow(method.Type.In(2), 4, ids["LoadBalancerArn"]),
			} {
				body, err := json.Marshal(document)
				if err != nil {
					t.Fatal(err)
				}
				request := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(string(body)))
				request.Header.Set("X-Amz-Target", api.target+"."+method.Name)
				answer := httptest.NewRecorder()
				emulator.ServeHTTP(answer, request)
				if answer.Code >= 500 {
					t.Errorf("%s:%s answers %s with %d %s", service, method.Name, body, answer.Code, answer.Body)
				}
			}
		}
		if count == 0 {
			t.Errorf("no operation of %s was tried", service)
		}
	}
}

// The same for documents of Route 53.
func TestNoChangeBatchBreaksRoute53(t *testing.T) {
	t.Parallel()
	emulator, _ := furnished(t)
	send := func(path, body string) (int, string) {
		answer := httptest.NewRecorder()
		emulator.ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "/2013-04-01/"+path, strings.NewReader(body)))
		return answer.Code, answer.Body.String()
	}
	_, made := send("hostedzone", "<a><Name>a.test</Name><CallerReference>1</CallerReference></a>")
	_, rest, _ := strings.Cut(made, "<Id>/hostedzone/")
	zone, _, ok := strings.Cut(rest, "</Id>")
	if !ok {
		t.Fatal(made)
	}
	set := func(members string) string {
		return "<a><ChangeBatch><Changes><Change><Action>CREATE</Action><ResourceRecordSet><Name>b.a.test</Name>" + members + "</ResourceRecordSet></Change></Changes></ChangeBatch></a>"
	}
	for _, body := range []string{
		"", "<a/>", "<a><ChangeBatch/></a>", "<a><ChangeBatch><Changes/></ChangeBatch></a>", "<a><ChangeBatch><Changes><Change/></Changes></ChangeBatch></a>",
		set(""), set("<Type>A</Type>"), set("<Type>A</Type><AliasTarget/>"), set("<Type>MX</Type><TTL>1</TTL><ResourceRecords><ResourceRecord/></ResourceRecords>"),
		set("<Type>MX</Type><TTL>x</TTL>"), set("<Type>A</Type><Weight>1</Weight><TTL>1</TTL>"),
	} {
		if status, answer := send("hostedzone/"+zone+"/rrset", body); status < 400 || status >= 500 {
			t.Errorf("%s: %d %s", body, status, answer)
		}
	}
	emulator.Route53().Lookup("b.a.test", "MX", func(int) int { return 0 })
}
