package cloud_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/lockstep-delivery/lockstep/internal/cloud"
)

const (
	lbARN       = "arn:aws:elasticloadbalancing:eu-west-1:1:loadbalancer/app/web/0123456789abcdef"
	listenerARN = "arn:aws:elasticloadbalancing:eu-west-1:1:listener/app/web/0123456789abcdef/aaaaaaaaaaaaaaaa"
	ruleARN     = "arn:aws:elasticloadbalancing:eu-west-1:1:listener-rule/app/web/0123456789abcdef/aaaaaaaaaaaaaaaa/bbbbbbbbbbbbbbbb"
	stableARN   = "arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/stable/0123456789abcdef"
	canaryARN   = "arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/canary/0123456789abcdef"
)

// fake is a few calls of ELBv2 and EC2 over an in-memory network: one load balancer with one listener,
// whose one rule forwards to a stable and a canary group. It is small on purpose: the emulator has the rest.
type fake struct {
	mu    sync.Mutex
	calls []string
	// weights are those of the rule; history holds the states before them.
	weights, before map[string]int
	targets         map[string]map[string]string // state by id, by group
	// staleReads is how many of the next DescribeRules show the state before the last write.
	staleReads int
	// failing answers an operation with a code while it is set.
	failing map[string]string
	// latency is how long an operation takes; its effect or its answer is taken at effectAfter.
	latency map[string]time.Duration
	lose    map[string]bool // does the work, then breaks the connection
	// late breaks the connection of an operation, and does the work only after a while.
	late      map[string]time.Duration
	userAgent string
	// others is how many load balancers there are besides, each with two target groups.
	others int
}

func newFake() *fake {
	return &fake{
		weights: map[string]int{stableARN: 100, canaryARN: 0}, before: map[string]int{stableARN: 100, canaryARN: 0},
		targets: map[string]map[string]string{stableARN: {"10.0.0.1": "healthy"}, canaryARN: {"10.0.0.2": "healthy"}},
		failing: map[string]string{}, latency: map[string]time.Duration{}, lose: map[string]bool{}, late: map[string]time.Duration{},
	}
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	action := r.Form.Get("Action")
	f.mu.Lock()
	f.calls = append(f.calls, action)
	f.userAgent = r.UserAgent()
	latency, code, late := f.latency[action], f.failing[action], f.late[action]
	body := ""
	if late > 0 {
		time.AfterFunc(late, func() { f.set(func(f *fake) { f.answer(action, r) }) })
	} else if code == "" {
		body = f.answer(action, r) // reads show the state at their arrival, however long the answer takes
	}
	lose := f.lose[action]
	f.mu.Unlock()
	time.Sleep(latency)
	switch {
	case lose, late > 0:
		panic(http.ErrAbortHandler)
	case code != "":
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>told to</Message></Error></ErrorResponse>`, code)
	case body == "":
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `<ErrorResponse><Error><Type>Sender</Type><Code>InvalidAction</Code><Message>%s</Message></Error></ErrorResponse>`, action)
	default:
		fmt.Fprintf(w, `<%sResponse><%sResult>%s</%sResult></%sResponse>`, action, action, body, action, action)
	}
}

func (f *fake) answer(action string, r *http.Request) string {
	switch action {
	case "DescribeLoadBalancers":
		return `<LoadBalancers><member><LoadBalancerArn>` + lbARN + `</LoadBalancerArn><LoadBalancerName>web</LoadBalancerName><DNSName>web.elb</DNSName>
			<VpcId>vpc-1</VpcId><State><Code>active</Code></State><Type>application</Type></member>` + f.page(r, 1, func(i int) string {
			return fmt.Sprintf(`<member><LoadBalancerArn>%sloadbalancer/app/other/%d</LoadBalancerArn><VpcId>vpc-1</VpcId><State><Code>active</Code></State></member>`, arnPrefix, i)
		}, "LoadBalancers")
	case "DescribeTargetGroups":
		return `<TargetGroups>` + f.group(stableARN) + f.group(canaryARN) + f.page(r, 2, func(i int) string {
			return fmt.Sprintf(`<member><TargetGroupArn>%stargetgroup/other/%d</TargetGroupArn><VpcId>vpc-1</VpcId></member>`, arnPrefix, i)
		}, "TargetGroups")
	case "DescribeTags":
		out := ""
		for i := 1; ; i++ {
			arn := r.Form.Get(fmt.Sprintf("ResourceArns.member.%d", i))
			if arn == "" {
				return `<TagDescriptions>` + out + `</TagDescriptions>`
			}
			if strings.Contains(arn, "/other/") {
				out += `<member><ResourceArn>` + arn + `</ResourceArn><Tags>` + tag("elbv2.k8s.aws/cluster", "test") + tag("ingress.k8s.aws/stack", "other/"+arn) + `</Tags></member>`
				continue
			}
			resource := map[string]string{lbARN: "LoadBalancer", stableARN: "shop/web-stable:80", canaryARN: "shop/web-canary:80"}[arn]
			out += `<member><ResourceArn>` + arn + `</ResourceArn><Tags>` + tag("elbv2.k8s.aws/cluster", "test") + tag("ingress.k8s.aws/stack", "shop/web") +
				tag("ingress.k8s.aws/resource", resource) + `</Tags></member>`
		}
	case "DescribeListeners":
		return `<Listeners><member><ListenerArn>` + listenerARN + `</ListenerArn><Port>80</Port><Protocol>HTTP</Protocol><DefaultActions>` + notFoundAction + `</DefaultActions></member></Listeners>`
	case "DescribeRules":
		weights := f.weights
		if f.staleReads > 0 {
			f.staleReads--
			weights = f.before
		}
		return `<Rules><member><RuleArn>` + ruleARN + `</RuleArn><Priority>1</Priority><IsDefault>false</IsDefault><Conditions><member><Field>path-pattern</Field>
			<PathPatternConfig><Values><member>/*</member></Values></PathPatternConfig></member></Conditions><Actions>` + forward(weights) + `</Actions></member>
			<member><RuleArn>` + ruleARN + `d</RuleArn><Priority>default</Priority><IsDefault>true</IsDefault><Actions>` + notFoundAction + `</Actions></member></Rules>`
	case "ModifyRule":
		f.before = f.weights
		f.weights = map[string]int{}
		for i := 1; i <= 2; i++ {
			group := fmt.Sprintf("Actions.member.1.ForwardConfig.TargetGroups.member.%d.", i)
			var n int
			_, _ = fmt.Sscan(r.Form.Get(group+"Weight"), &n)
			f.weights[r.Form.Get(group+"TargetGroupArn")] = n
		}
		return `<Rules/>`
	case "DescribeTargetHealth":
		out := ""
		states := f.targets[r.Form.Get("TargetGroupArn")]
		for _, id := range sorted(states) {
			out += `<member><Target><Id>` + id + `</Id><Port>8080</Port></Target><TargetHealth><State>` + states[id] + `</State></TargetHealth></member>`
		}
		return `<TargetHealthDescriptions>` + out + `</TargetHealthDescriptions>`
	case "RegisterTargets":
		for i := 1; ; i++ {
			id := r.Form.Get(fmt.Sprintf("Targets.member.%d.Id", i))
			if id == "" {
				return `<x/>`
			}
			f.targets[r.Form.Get("TargetGroupArn")][id] = "initial"
		}
	case "DescribeVpcs":
		return `</DescribeVpcsResult><vpcSet><item><vpcId>vpc-1</vpcId><cidrBlock>10.0.0.0/16</cidrBlock></item></vpcSet><DescribeVpcsResult>`
	case "DescribeSecurityGroups":
		return `</DescribeSecurityGroupsResult><securityGroupInfo/><DescribeSecurityGroupsResult>`
	}
	return ""
}

const arnPrefix = "arn:aws:elasticloadbalancing:eu-west-1:1:"

// page gives 400 of the other resources, and the marker of the next page.
func (f *fake) page(r *http.Request, each int, member func(i int) string, list string) string {
	var from int
	_, _ = fmt.Sscan(r.Form.Get("Marker"), &from)
	out := ""
	to := min(from+400, f.others*each)
	for i := from; i < to; i++ {
		out += member(i)
	}
	out += `</` + list + `>`
	if to < f.others*each {
		out += fmt.Sprintf(`<NextMarker>%d</NextMarker>`, to)
	}
	return out
}

const notFoundAction = `<member><Type>fixed-response</Type><FixedResponseConfig><StatusCode>404</StatusCode><ContentType>text/plain</ContentType></FixedResponseConfig></member>`

func (f *fake) group(arn string) string {
	return `<member><TargetGroupArn>` + arn + `</TargetGroupArn><VpcId>vpc-1</VpcId><TargetType>ip</TargetType><LoadBalancerArns><member>` + lbARN + `</member></LoadBalancerArns></member>`
}

func tag(key, value string) string {
	return `<member><Key>` + key + `</Key><Value>` + value + `</Value></member>`
}

func forward(weights map[string]int) string {
	out := ""
	for _, arn := range sorted(weights) {
		out += fmt.Sprintf(`<member><TargetGroupArn>%s</TargetGroupArn><Weight>%d</Weight></member>`, arn, weights[arn])
	}
	return `<member><Type>forward</Type><ForwardConfig><TargetGroups>` + out + `</TargetGroups></ForwardConfig></member>`
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// set changes the fake's state.
func (f *fake) set(change func(*fake)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

// made counts the calls of an operation so far, of all operations with a prefix.
func (f *fake) made(prefix string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, call := range f.calls {
		if strings.HasPrefix(call, prefix) {
			n++
		}
	}
	return n
}

func (f *fake) forgetCalls() { f.set(func(f *fake) { f.calls = nil }) }

// connect starts the fake on an in-memory network and a cloud on it. Both end with the test.
func (f *fake) connect(t testing.TB, settings cloud.Settings) *cloud.Cloud {
	t.Helper()
	return f.connectAs(t, cloud.Config{ClusterName: "test", Settings: settings})
}

// connectAs is connect for a cluster of any name.
func (f *fake) connectAs(t testing.TB, config cloud.Config) *cloud.Cloud {
	t.Helper()
	network := &memoryListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	server := &http.Server{Handler: f, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(network) })
	transport := &http.Transport{DialContext: network.dial, MaxIdleConnsPerHost: 100}
	config.VPCID, config.Region, config.Version, config.Logger = "vpc-1", "eu-west-1", "v1", slog.New(slog.DiscardHandler)
	config.Endpoints = map[string]string{"Elastic Load Balancing v2": "http://aws", "EC2": "http://aws"}
	config.Credentials, config.HTTPClient = credentials.NewStaticCredentialsProvider("key", "secret", ""), &http.Client{Transport: transport}
	c, err := cloud.New(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		transport.CloseIdleConnections()
		_ = server.Close()
		serving.Wait()
	})
	return c
}

type memoryListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *memoryListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, errors.New("the network is closed")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, io.EOF
	}
}

func (l *memoryListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *memoryListener) Addr() net.Addr { return &net.UnixAddr{Name: "aws", Net: "memory"} }
