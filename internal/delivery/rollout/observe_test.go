package rollout

import "testing"

func TestErrorsOfAWSReadTheSameEachTime(t *testing.T) {
	const text = "operation error ELBv2: DescribeRules, https response error StatusCode: 400, RequestID: 0a-1b, api error Throttling: Rate exceeded"
	want := "operation error ELBv2: DescribeRules, https response error StatusCode: 400, api error Throttling: Rate exceeded"
	if got := requestID.ReplaceAllString(text, ""); got != want {
		t.Error(got)
	}
}
