package witness

import (
	"reflect"
	"testing"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/google/go-cmp/cmp"
)

// A client that is refused in another way than the SDK is found out.
func TestRefusalsAreCompared(t *testing.T) {
	t.Parallel()
	want := Refusal{Operation: "CreateRule", Code: "TooManyRules", Message: "full", Class: "TooManyRulesException", Status: 400}
	const text = "An error occurred (TooManyRules) when calling the CreateRule operation: full"
	const again = "An error occurred (TooManyRules) when calling the CreateRule operation (reached max retries: 0): full"
	for name, tt := range map[string]struct {
		check func(Refusal, answer) error
		got   answer
		same  bool
	}{
		"exception":              {refusedByException, answer{Text: text, Status: 400, Class: want.Class, HasClass: true, RequestID: "1"}, true},
		"of an older release":    {refusedByException, answer{Text: text, Status: 400, Class: "ClientError", RequestID: "1"}, true},
		"after tries":            {refusedByException, answer{Text: again, Status: 400, Class: "ClientError", RequestID: "1"}, true},
		"of no class":            {refusedByException, answer{Text: text, Status: 400, Class: "ClientError", HasClass: true, RequestID: "1"}, false},
		"with another status":    {refusedByException, answer{Text: text, Status: 500, Class: want.Class, HasClass: true, RequestID: "1"}, false},
		"with another text":      {refusedByException, answer{Text: text + "!", Status: 400, Class: want.Class, HasClass: true, RequestID: "1"}, false},
		"without a request":      {refusedByException, answer{Text: text, Status: 400, Class: want.Class, HasClass: true}, false},
		"not at all":             {refusedByException, answer{}, false},
		"command":                {refusedWithStatus(254), answer{Text: text, Status: 254}, true},
		"command after tries":    {refusedWithStatus(254), answer{Text: again, Status: 254}, true},
		"command, other status":  {refusedWithStatus(254), answer{Text: text, Status: 255}, false},
		"command, other text":    {refusedWithStatus(254), answer{Text: "usage", Status: 254}, false},
		"command that succeeded": {refusedWithStatus(254), answer{Text: text}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if err := tt.check(want, tt.got); (err == nil) != tt.same {
				t.Errorf("%+v: %v", tt.got, err)
			}
		})
	}
}

// What a call says is what its caller has set, were it empty: a client is told that and no more.
func TestGivenIsWhatIsSet(t *testing.T) {
	t.Parallel()
	in := &elb.CreateLoadBalancerInput{
		Name: new(""), Type: types.LoadBalancerTypeEnumNetwork, Subnets: []string{}, SecurityGroups: []string{"sg-1"},
		Tags: []types.Tag{{Key: new("team"), Value: new("")}},
	}
	want := map[string]any{
		"Name": "", "Type": types.LoadBalancerTypeEnumNetwork, "Subnets": []any{}, "SecurityGroups": []any{"sg-1"},
		"Tags": []any{map[string]any{"Key": "team", "Value": ""}},
	}
	if diff := cmp.Diff(want, given(reflect.ValueOf(in))); diff != "" {
		t.Error(diff)
	}
}
