package aws_test

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"

	"github.com/lockstep-delivery/lockstep/sandbox/aws"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/fault"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/journal"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
)

func (w *world) wantStatus(err error, status int) {
	w.Helper()
	var response *awshttp.ResponseError
	if !errors.As(err, &response) || response.HTTPStatusCode() != status {
		w.Fatalf("want HTTP status %d, got %v", status, err)
	}
}

func TestSignaturesAreChecked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	describe := func() (error, error) {
		_, a := w.elb.DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{})
		_, b := w.ec2.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{})
		return a, b
	}
	for _, tt := range []struct {
		why, key, secret string
		transport        http.RoundTripper
		code             string
		ec2Status        int
	}{
		{"right", aws.DefaultAccessKeyID, aws.DefaultSecretAccessKey, http.DefaultTransport, "", 0},
		{"wrong secret", aws.DefaultAccessKeyID, "guess", http.DefaultTransport, "SignatureDoesNotMatch", 401},
		{"unknown key", "AKIANOBODY", "guess", http.DefaultTransport, "InvalidClientTokenId", 401},
		{"changed on the way", aws.DefaultAccessKeyID, aws.DefaultSecretAccessKey, meddler{func(r *http.Request) {
			r.Header.Set("X-Amz-Date", time.Now().UTC().Add(time.Second).Format("20060102T150405Z"))
		}}, "SignatureDoesNotMatch", 401},
		{"an hour old", aws.DefaultAccessKeyID, aws.DefaultSecretAccessKey, meddler{func(r *http.Request) {
			old := time.Now().UTC().Add(-time.Hour)
			r.Header.Set("X-Amz-Date", old.Format("20060102T150405Z"))
			today := time.Now().UTC().Format("20060102")
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), today, old.Format("20060102"), 1))
		}}, "SignatureDoesNotMatch", 400},
		{"not at all", aws.DefaultAccessKeyID, aws.DefaultSecretAccessKey, meddler{func(r *http.Request) { r.Header.Del("Authorization") }}, "MissingAuthenticationToken", 401},
		{"cut off", aws.DefaultAccessKeyID, aws.DefaultSecretAccessKey, meddler{func(r *http.Request) {
			before, _, _ := strings.Cut(r.Header.Get("Authorization"), ", Signature=")
			r.Header.Set("Authorization", before)
		}}, "IncompleteSignature", 401},
	} {
		w.connect(tt.key, tt.secret, tt.transport)
		first, second := describe()
		if tt.code == "" {
			if first != nil || second != nil {
				t.Fatalf("%s: %v, %v", tt.why, first, second)
			}
			continue
		}
		t.Run(tt.why, func(t *testing.T) {
			checked := &world{T: t}
			checked.wantCode(first, tt.code)
			checked.wantStatus(first, 403)
			checked.wantStatus(second, tt.ec2Status)
		})
	}
	open := newWorld(t, func(c *aws.Config) { c.Anonymous = true })
	open.connect("anybody", "guess", http.DefaultTransport)
	must(open.elb.DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{}))(open)
}

// meddler changes requests after they have been signed.
type meddler struct{ meddle func(*http.Request) }

func (m meddler) RoundTrip(r *http.Request) (*http.Response, error) {
	m.meddle(r)
	return http.DefaultTransport.RoundTrip(r)
}

func TestCallsAreThrottledAsInTheTables(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *aws.Config) { c.Unthrottled = false })
	var err error
	mutations := 0
	for ; err == nil && mutations < 100; mutations++ {
		_, err = w.elb.DeleteTargetGroup(ctx, &elb.DeleteTargetGroupInput{TargetGroupArn: new("arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/a/1")})
	}
	w.wantCode(err, "Throttling")
	w.wantStatus(err, 400)
	if mutations < 21 || mutations > 30 {
		t.Errorf("the bucket of 20 mutations let %d calls through", mutations-1)
	}
	// The bucket that all calls share has still about 20 left.
	reads := 0
	for err = nil; err == nil && reads < 100; reads++ {
		_, err = w.elb.DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{})
	}
	w.wantCode(err, "Throttling")
	if reads < 20 || reads > 35 {
		t.Errorf("after %d mutations the account's bucket of 40 let %d reads through", mutations-1, reads-1)
	}
	for err = nil; err == nil; {
		_, err = w.ec2.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{})
	}
	w.wantCode(err, "RequestLimitExceeded")
	w.wantStatus(err, 503)
}

func TestFaultsStrikeTheCallsTheyAreMeantFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	faults := w.emulator.Faults()
	describe := func() error {
		_, err := w.elb.DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{})
		return err
	}
	add := func(f fault.Fault) string {
		id, err := faults.Add(f)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	storm := add(fault.Fault{Kind: fault.Throttle, Operations: []string{"elasticloadbalancing:Modify*"}})
	if err := describe(); err != nil {
		t.Errorf("a fault of another operation strikes: %v", err)
	}
	_, err := w.elb.ModifyRule(ctx, &elb.ModifyRuleInput{RuleArn: new("x")})
	w.wantCode(err, "Throttling")
	if !faults.Remove(storm) {
		t.Error("the fault cannot be removed")
	}
	_, err = w.elb.ModifyRule(ctx, &elb.ModifyRuleInput{RuleArn: new("x")})
	w.wantCode(err, "ValidationError")

	add(fault.Fault{Kind: fault.Deny, Operations: []string{"*:Describe*"}})
	err = describe()
	w.wantCode(err, "AccessDenied")
	w.wantStatus(err, 403)
	if !strings.Contains(err.Error(), "is not authorized to perform: elasticloadbalancing:DescribeLoadBalancers") {
		t.Errorf("the action is not named: %v", err)
	}
	_, err = w.ec2.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{})
	w.wantCode(err, "UnauthorizedOperation")
	faults.Clear()

	add(fault.Fault{Kind: fault.Error, Status: 503, Code: "ServiceUnavailable", Until: time.Now().Add(time.Hour), Every: 2})
	if err := describe(); err != nil {
		t.Errorf("every second call was to fail, the first did: %v", err)
	}
	err = describe()
	w.wantCode(err, "ServiceUnavailable")
	w.wantStatus(err, 503)
	faults.Clear()

	add(fault.Fault{Kind: fault.Error, From: time.Now().Add(time.Hour)})
	add(fault.Fault{Kind: fault.Error, Until: time.Now().Add(-time.Second)})
	add(fault.Fault{Kind: fault.Error, Caller: "some-other-program"})
	add(fault.Fault{Kind: fault.Delay, Delay: 30 * time.Millisecond})
	began := time.Now()
	if err := describe(); err != nil || time.Since(began) < 30*time.Millisecond {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
	for _, f := range []fault.Fault{{Kind: "storm"}, {Kind: fault.Delay}, {Kind: fault.Deny, Operations: []string{"["}}} {
		if _, err := faults.Add(f); err == nil {
			t.Errorf("fault %+v was accepted", f)
		}
	}
}

// A stale read shows the state before a change; a new resource is missed; writes are answered with the
// truth.
func TestStaleReads(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	lb := *w.loadBalancer("web").LoadBalancerArn
	listener := w.listener(lb, 80, fixed("200"))
	rule := w.rule(listener, 1, fixed("200"))
	if _, err := w.emulator.Faults().Add(fault.Fault{Kind: fault.Stale, Delay: time.Hour, Operations: []string{"elasticloadbalancing:Describe*"}}); err != nil {
		t.Fatal(err)
	}
	_, err := w.elb.DescribeRules(ctx, &elb.DescribeRulesInput{RuleArns: []string{rule}})
	w.wantCode(err, "RuleNotFound")
	w.emulator.Faults().Clear()
	answered := must(w.elb.ModifyRule(ctx, &elb.ModifyRuleInput{RuleArn: &rule, Actions: fixed("201")}))(w).Rules[0]
	status := func() string {
		return *must(w.elb.DescribeRules(ctx, &elb.DescribeRulesInput{RuleArns: []string{rule}}))(w).Rules[0].Actions[0].FixedResponseConfig.StatusCode
	}
	if got := *answered.Actions[0].FixedResponseConfig.StatusCode; got != "201" || status() != "201" {
		t.Errorf("the write is answered with %s, read as %s", got, status())
	}
	if _, err := w.emulator.Faults().Add(fault.Fault{Kind: fault.Stale, Delay: time.Hour}); err != nil {
		t.Fatal(err)
	}
	if got := status(); got != "200" {
		t.Errorf("a stale read shows %s", got)
	}
}

func TestPessimisticReadsAreStaleNowAndThen(t *testing.T) {
	t.Parallel()
	p, err := profile.Load("pessimistic")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(c *aws.Config) { c.Profile = p })
	missed, seen := 0, 0
	for i := range 60 {
		arn := w.targetGroup(fmt.Sprint("group-", i))
		if _, err := w.elb.DescribeTargetGroups(ctx, &elb.DescribeTargetGroupsInput{TargetGroupArns: []string{arn}}); err != nil {
			w.wantCode(err, "TargetGroupNotFound")
			missed++
		} else {
			seen++
		}
	}
	if missed == 0 || seen < 30 {
		t.Errorf("%d of 60 new groups were missed", missed)
	}
}

func TestJournalKeepsEveryCall(t *testing.T) {
	t.Parallel()
	var file strings.Builder
	w := newWorld(t, func(c *aws.Config) { c.JournalLines = &file })
	stream, err := http.Get(w.endpoint + "/_lockstep/journal?follow=1")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	lines := bufio.NewScanner(stream.Body)

	arn := w.targetGroup("web") // two calls: DescribeVpcs, CreateTargetGroup
	_, err = w.elb.DescribeTargetHealth(ctx, &elb.DescribeTargetHealthInput{TargetGroupArn: new(arn + "0")})
	w.wantCode(err, "TargetGroupNotFound")

	var got []journal.Record
	for len(got) < 3 && lines.Scan() {
		var r journal.Record
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		got = append(got, r)
	}
	if len(got) != 3 || got[1].Operation != "CreateTargetGroup" || got[1].Service != "elasticloadbalancing" || got[1].Parameters["Name"] != "web" ||
		got[1].Status != 200 || got[1].Region != "eu-west-1" || !strings.Contains(got[1].UserAgent, "aws-sdk-go-v2") || got[1].Duration <= 0 {
		t.Fatalf("journal: %+v", got)
	}
	if last := got[2]; last.Code != "TargetGroupNotFound" || last.Status != 400 || last.Sequence != 3 {
		t.Errorf("refused call: %+v", last)
	}
	if strings.Count(file.String(), "\n") != 3 {
		t.Errorf("lines: %s", file.String())
	}
	counts := w.emulator.Journal().Counts()
	if c := counts["elasticloadbalancing:DescribeTargetHealth"]; c.Calls != 1 || c.Errors["TargetGroupNotFound"] != 1 {
		t.Errorf("counts: %+v", counts)
	}
}

func TestAdminAPI(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	lb := *w.loadBalancer("web").LoadBalancerArn
	w.listener(lb, 80, fixed("200"))
	var endpoints []aws.Endpoint
	w.admin("GET", "loadbalancers", "", 200, &endpoints)
	if len(endpoints) != 1 || endpoints[0].Nodes[0].Real[80].String() != strings.Replace(endpoints[0].Nodes[0].Address.String(), "10.", "127.", 1)+":80" {
		t.Errorf("endpoints: %+v", endpoints)
	}
	var added map[string]string
	w.admin("POST", "faults", `{"kind":"throttle","operations":["elasticloadbalancing:*"]}`, 200, &added)
	_, err := w.elb.DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{})
	w.wantCode(err, "Throttling")
	w.admin("POST", "faults", `{"kind":"storm"}`, 400, nil)
	w.admin("POST", "faults", `{"kind":"deny","colour":"red"}`, 400, nil)
	w.admin("DELETE", "faults/nothing", "", 404, nil)
	w.admin("DELETE", "faults/"+added["id"], "", 204, nil)
	must(w.elb.DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{}))(w)
	w.eventually("all nodes have taken the listener", func() bool {
		taken := 0
		for _, n := range w.emulator.Applied() {
			taken += len(n.Listeners)
		}
		return taken == 3
	})
	for _, path := range []string{"counts", "applied", "stats", "faults"} {
		var whatever any
		w.admin("GET", path, "", 200, &whatever)
	}
}

func (w *world) admin(method, path, body string, status int, into any) {
	w.Helper()
	request, err := http.NewRequest(method, w.endpoint+"/_lockstep/"+path, strings.NewReader(body))
	if err != nil {
		w.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		w.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != status {
		w.Fatalf("%s %s: %s: %s %v", method, path, response.Status, text, err)
	}
	if into != nil {
		if err := json.Unmarshal(text, into); err != nil {
			w.Fatalf("%s %s: %v in %s", method, path, err, text)
		}
	}
}

// What is no AWS request is answered like one that AWS cannot read.
func TestBadRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *aws.Config) { c.Anonymous = true })
	for _, tt := range []struct {
		why, method, kind, body string
		status                  int
		code                    string
	}{
		{"no action", "POST", "application/x-www-form-urlencoded", "Version=2015-12-01", 400, "MissingAction"},
		{"unknown action", "POST", "application/x-www-form-urlencoded", "Action=Fly&Version=2015-12-01", 400, "InvalidAction"},
		{"unknown service", "POST", "application/x-www-form-urlencoded", "Action=Fly&Version=1999-01-01", 501, "InvalidAction"},
		{"the API of Classic Load Balancers", "POST", "application/x-www-form-urlencoded", "Action=DescribeLoadBalancers&Version=2012-06-01", 501, "NotImplemented"},
		{"bad escape", "POST", "application/x-www-form-urlencoded", "Action=%zz", 404, "MalformedQueryString"},
		{"a megabyte", "POST", "application/x-www-form-urlencoded", strings.Repeat("a=b&", 300_000), 413, "RequestEntityTooLarge"},
		{"unknown parameter of EC2", "POST", "application/x-www-form-urlencoded", "Action=DescribeVpcs&Version=2016-11-15&Colour=red", 400, "UnknownParameter"},
		{"text instead of a number", "POST", "application/x-www-form-urlencoded", "Action=DescribeLoadBalancers&Version=2015-12-01&PageSize=x", 400, "MalformedInput"},
		{"JSON", "POST", "application/x-amz-json-1.1", "{}", 501, "InvalidAction"},
	} {
		request, err := http.NewRequest(tt.method, w.endpoint, strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", tt.kind)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if response.StatusCode != tt.status || !strings.Contains(string(text), "<Code>"+tt.code+"</Code>") {
			t.Errorf("%s: %s %s", tt.why, response.Status, text)
		}
	}
	response, err := http.Get(w.endpoint + "/?Action=DescribeAccountLimits&Version=2015-12-01")
	if err != nil || response.StatusCode != 200 || response.Header.Get("x-amzn-RequestId") == "" {
		t.Errorf("a GET with a query string: %v %v", response, err)
	}
	response.Body.Close()
}

// A service that is not there answers in no protocol of its own, so that its code is in a header.
func TestServicesThatAreNotModelled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for service, path := range map[string]string{"lambda": "/2015-03-31/functions/", "s3": "/"} {
		request := httptest.NewRequest(http.MethodGet, "http://127.0.0.1"+path, nil)
		sum := sha256.Sum256(nil)
		key := sdk.Credentials{AccessKeyID: aws.DefaultAccessKeyID, SecretAccessKey: aws.DefaultSecretAccessKey}
		if err := v4.NewSigner().SignHTTP(ctx, key, request, hex.EncodeToString(sum[:]), service, "eu-west-1", time.Now()); err != nil {
			t.Fatal(err)
		}
		answer := httptest.NewRecorder()
		w.emulator.ServeHTTP(answer, request)
		if answer.Code != http.StatusNotImplemented || answer.Header().Get("X-Amzn-Errortype") != "NotImplemented" || !strings.Contains(answer.Body.String(), service) {
			t.Errorf("%s: %d %v %s", service, answer.Code, answer.Header(), answer.Body)
		}
		if w.emulator.NotModelled()[service+":GET /"+strings.Split(path, "/")[1]] != 1 {
			t.Errorf("%v", w.emulator.NotModelled())
		}
	}
}
