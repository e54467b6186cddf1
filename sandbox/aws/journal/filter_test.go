package journal_test

import (
	"net/url"
	"reflect"
	"testing"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/journal"
)

func TestFiltersTakeWhatTheySay(t *testing.T) {
	t.Parallel()
	call := journal.Record{
		Service: "ec2", Operation: "DescribeVpcs", UserAgent: "aws-cli/2", AccessKey: "AKIA1", Code: "Throttling",
		Parameters: map[string]string{"VpcId.1": "vpc-12"},
	}
	event := journal.Record{Event: "NodeApplied"}
	for query, want := range map[string][2]bool{ // call, event
		"":                                    {true, true},
		"operation=ec2:*":                     {true, false},
		"operation=acm:*":                     {false, false},
		"operation=acm:*&operation=*:*Vpcs":   {true, false},
		"event=Node*":                         {false, true},
		"event=Target*":                       {false, false},
		"event=Node*&operation=ec2:Describe*": {true, true},
		"caller=aws-cli":                      {true, false},
		"caller=AKIA1":                        {true, false},
		"caller=AKIA":                         {false, false},
		"resource=vpc-1":                      {true, false},
		"resource=vpc-2":                      {false, false},
		"failed=1":                            {true, false},
		"failed=1&operation=ec2:Create*":      {false, false},
	} {
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		f, err := journal.FilterOf(values)
		if err != nil {
			t.Fatal(err)
		}
		if got := [2]bool{f.Takes(call), f.Takes(event)}; got != want {
			t.Errorf("%q takes call and event: %v, want %v", query, got, want)
		}
		if again, err := journal.FilterOf(f.Query()); err != nil || !reflect.DeepEqual(again, f) {
			t.Errorf("%q written and read again: %+v, %v", query, again, err)
		}
	}
	if _, err := journal.FilterOf(url.Values{"operation": {"["}}); err == nil {
		t.Error("a broken pattern was accepted")
	}
}
