package consistency_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/credentials"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/aws/smithy-go/middleware"

	"github.com/lockstep-delivery/lockstep/sandbox/address"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/consistency"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/elbv2"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/journal"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
)

// A run is an account in which several programs do random things at the same time.
type run struct {
	t        *testing.T
	emulator *aws.Emulator
	config   aws.Config
	client   *http.Client
	endpoint string

	mu       sync.Mutex
	answered map[string]consistency.Call // what callers saw, by request id
	contents int                         // numbers what is written, so that no two writes say the same
	requests []consistency.Request

	// What the programs work on.
	balancer, base   string
	groups           []string // both in use by the base listener, for ever
	listeners, rules map[string]bool
	looseGroups      map[string]bool
	ports, pods      int32
	// network: the load balancer is a Network Load Balancer, whose nodes would listen on real sockets, and is one without traffic.
	network bool

	// mine makes a target for a program, started is called when all programs have theirs.
	mine    func() string
	started func()
}

// wire carries requests to the emulator without a network.
type wire struct{ handler http.Handler }

func (w wire) RoundTrip(r *http.Request) (*http.Response, error) {
	sent := r.Clone(r.Context())
	sent.RequestURI = r.URL.RequestURI()
	sent.Host = r.URL.Host
	if sent.Body == nil {
		sent.Body = http.NoBody
	}
	answer := httptest.NewRecorder()
	w.handler.ServeHTTP(answer, sent)
	return answer.Result(), nil
}

// newRun makes an account with an active load balancer of a listener and two groups.
func newRun(t *testing.T, name string, change func(*aws.Config)) *run {
	t.Helper()
	p, err := profile.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	r := &run{
		t: t, answered: map[string]consistency.Call{}, listeners: map[string]bool{}, rules: map[string]bool{}, looseGroups: map[string]bool{},
		config: aws.Config{VPC: address.Mapping{Octet: 78}, Profile: p, Scale: 1, Seed: 1, Unthrottled: true, JournalSize: 200_000, Log: slog.New(slog.DiscardHandler)},
	}
	r.config.NewNode = func(c dataplane.Config) elbv2.Node { return r.observe(c, nothing{}) }
	r.mine, r.started = r.pod, func() {}
	if change != nil {
		change(&r.config)
	}
	r.network = r.config.WithoutTraffic
	if r.emulator, err = aws.New(r.config); err != nil {
		t.Fatal(err)
	}
	r.client, r.endpoint = &http.Client{Transport: wire{r.emulator}}, "http://aws"
	return r
}

// connect returns a program of its own name.
func (r *run) connect(name string) *elb.Client {
	return elb.NewFromConfig(sdk.Config{
		Region: "eu-west-1", BaseEndpoint: &r.endpoint, HTTPClient: r.client, AppID: name,
		Credentials: credentials.NewStaticCredentialsProvider(aws.DefaultAccessKeyID, aws.DefaultSecretAccessKey, ""),
		Retryer:     func() sdk.Retryer { return sdk.NopRetryer{} },
		APIOptions:  []func(*middleware.Stack) error{r.listen},
	})
}

// listen keeps what a program sent and was answered.
func (r *run) listen(stack *middleware.Stack) error {
	return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("Listen", func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
		out, metadata, err := next.HandleInitialize(ctx, in)
		call := consistency.Call{Input: in.Parameters}
		if err == nil {
			call.Output = out.Result
		}
		id, ok := awsmiddleware.GetRequestIDMetadata(metadata)
		if !ok {
			r.t.Errorf("an answer without request id: %v", err)
		}
		r.mu.Lock()
		r.answered[id] = call
		r.mu.Unlock()
		return out, metadata, err
	}), middleware.After)
}

// write is an action that no other write has, so that each state can be told from each other.
func (r *run) write(random *rand.Rand, groups bool) []types.Action {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.contents++
	n := r.contents
	if !groups && random.IntN(2) == 0 {
		return []types.Action{{Type: types.ActionTypeEnumFixedResponse, FixedResponseConfig: &types.FixedResponseActionConfig{StatusCode: new("200"), MessageBody: new(fmt.Sprint("state ", n))}}}
	}
	a, b := int32(n%999+1), int32(n/999+1)
	if groups && n%3 < 2 { // one of the weights is 0: then it shows who answers
		a, b = int32(n%999+1)*int32(n%3), int32(n%999+1)*int32(1-n%3)
	}
	return forward(r.groups, a, b)
}

func forward(groups []string, weights ...int32) []types.Action {
	c := &types.ForwardActionConfig{}
	for i, w := range weights {
		c.TargetGroups = append(c.TargetGroups, types.TargetGroupTuple{TargetGroupArn: &groups[i], Weight: &w})
	}
	return []types.Action{{Type: types.ActionTypeEnumForward, ForwardConfig: c}}
}

var everything = []types.RuleCondition{{Field: new("path-pattern"), Values: []string{"*"}}}

// until repeats a call while stale reads refuse it.
func until[O any](r *run, call func() (O, error)) O {
	r.t.Helper()
	for range 10_000 {
		out, err := call()
		if err == nil {
			return out
		}
		time.Sleep(50 * time.Millisecond)
	}
	r.t.Fatal("a call is refused for ever")
	panic("not reached")
}

// furnish makes what all programs use.
func (r *run) furnish() {
	r.t.Helper()
	ctx := r.t.Context()
	api := r.connect("furnisher")
	in := &elb.CreateLoadBalancerInput{Name: new("web"), Scheme: types.LoadBalancerSchemeEnumInternal}
	if r.network {
		in.Type = types.LoadBalancerTypeEnumNetwork
	}
	for _, zone := range []string{"eu-west-1a", "eu-west-1b", "eu-west-1c"} {
		machine, err := r.emulator.EC2().AddInstance(zone, "node-"+zone)
		if err != nil {
			r.t.Fatal(err)
		}
		in.Subnets = append(in.Subnets, machine.Subnet)
	}
	r.balancer = *until(r, func() (*elb.CreateLoadBalancerOutput, error) { return api.CreateLoadBalancer(ctx, in) }).LoadBalancers[0].LoadBalancerArn
	for _, name := range []string{"stable", "canary"} {
		group := *until(r, func() (*elb.CreateTargetGroupOutput, error) { return api.CreateTargetGroup(ctx, r.newGroup(name, 5)) }).TargetGroups[0].TargetGroupArn
		r.groups = append(r.groups, group)
	}
	r.base = *until(r, func() (*elb.CreateListenerOutput, error) {
		return api.CreateListener(ctx, &elb.CreateListenerInput{LoadBalancerArn: &r.balancer, Port: new(int32(80)), Protocol: r.protocol(), DefaultActions: forward(r.groups, 1, 1)})
	}).Listeners[0].ListenerArn
}

func (r *run) protocol() types.ProtocolEnum {
	if r.network {
		return types.ProtocolEnumTcp
	}
	return types.ProtocolEnumHttp
}

func (r *run) newGroup(name string, interval int32) *elb.CreateTargetGroupInput {
	return &elb.CreateTargetGroupInput{
		Name: &name, Protocol: r.protocol(), Port: new(int32(8080)), VpcId: new(r.emulator.EC2().VPC()), TargetType: types.TargetTypeEnumIp,
		HealthCheckIntervalSeconds: &interval, HealthCheckTimeoutSeconds: new(int32(2)), HealthyThresholdCount: new(int32(2)),
	}
}

// active waits until the load balancer serves.
func (r *run) active() {
	r.t.Helper()
	api := r.connect("waiter")
	for range 10_000 {
		out, err := api.DescribeLoadBalancers(r.t.Context(), &elb.DescribeLoadBalancersInput{LoadBalancerArns: []string{r.balancer}})
		if err == nil && out.LoadBalancers[0].State.Code == types.LoadBalancerStateEnumActive {
			return
		}
		time.Sleep(max(100*time.Millisecond, time.Duration(float64(5*time.Second)*r.config.Scale)))
	}
	r.t.Fatal("the load balancer does not become active")
}

// one picks a name from a set of them, or one that is not there.
func (r *run) one(random *rand.Rand, set map[string]bool, absent string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	names := append(slices.Sorted(maps.Keys(set)), absent)
	return names[random.IntN(len(names))]
}

func (r *run) keep(set map[string]bool, name string, there bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if there {
		set[name] = true
	} else {
		delete(set, name)
	}
}

// program is one of several that work at the same time.
type program struct {
	*run
	api    *elb.Client
	random *rand.Rand
	// mine are the targets that nobody else registers.
	mine   []string
	number int
}

// step makes one random call. What is refused is part of the run.
func (p *program) step(ctx context.Context) {
	listener := p.one(p.random, p.listeners, p.base)
	rule := p.one(p.random, p.rules, p.base[:len(p.base)-1]+"f/0123456789abcdef")
	rule = asRule(rule)
	loose := p.one(p.random, p.looseGroups, p.groups[0])
	switch p.random.IntN(20) {
	case 0:
		p.mu.Lock()
		p.ports++
		port := 1000 + p.ports%7
		p.mu.Unlock()
		if out, err := p.api.CreateListener(ctx, &elb.CreateListenerInput{LoadBalancerArn: &p.balancer, Port: &port, Protocol: p.protocol(), DefaultActions: p.write(p.random, p.network)}); err == nil {
			p.keep(p.listeners, *out.Listeners[0].ListenerArn, true)
		}
	case 1:
		_, _ = p.api.ModifyListener(ctx, &elb.ModifyListenerInput{ListenerArn: &listener, DefaultActions: p.write(p.random, p.network || listener == p.base)})
	case 2:
		if listener != p.base && p.random.IntN(3) == 0 {
			if _, err := p.api.DeleteListener(ctx, &elb.DeleteListenerInput{ListenerArn: &listener}); err == nil {
				p.keep(p.listeners, listener, false)
			}
		}
	case 3, 4:
		if out, err := p.api.CreateRule(ctx, &elb.CreateRuleInput{ListenerArn: &listener, Priority: new(1 + p.random.Int32N(12)), Conditions: everything, Actions: p.write(p.random, p.random.IntN(2) == 0)}); err == nil {
			p.keep(p.rules, *out.Rules[0].RuleArn, true)
		}
	case 5, 6:
		_, _ = p.api.ModifyRule(ctx, &elb.ModifyRuleInput{RuleArn: &rule, Actions: p.write(p.random, p.random.IntN(2) == 0)})
	case 7:
		if _, err := p.api.DeleteRule(ctx, &elb.DeleteRuleInput{RuleArn: &rule}); err == nil {
			p.keep(p.rules, rule, false)
		}
	case 8, 9:
		p.permute(ctx, listener)
	case 10, 11, 12:
		_, _ = p.api.DescribeRules(ctx, &elb.DescribeRulesInput{ListenerArn: &listener})
	case 13:
		_, _ = p.api.DescribeRules(ctx, &elb.DescribeRulesInput{RuleArns: []string{rule}})
	case 14:
		_, _ = p.api.DescribeListeners(ctx, &elb.DescribeListenersInput{ListenerArns: []string{listener}})
	case 15:
		_, _ = p.api.ModifyTargetGroup(ctx, &elb.ModifyTargetGroupInput{TargetGroupArn: &loose, HealthCheckIntervalSeconds: new(5 + p.random.Int32N(295))})
	case 16:
		_, _ = p.api.DescribeTargetGroups(ctx, &elb.DescribeTargetGroupsInput{TargetGroupArns: []string{loose}})
	case 17:
		p.group(ctx, loose)
	default:
		p.register(ctx)
	}
}

func asRule(arn string) string {
	if i := len("arn:aws:elasticloadbalancing:eu-west-1:123456789012:listener"); arn[i] == '/' {
		return arn[:i] + "-rule" + arn[i:]
	}
	return arn
}

// permute lets two rules of a listener change places, as far as this program knows their places.
func (p *program) permute(ctx context.Context, listener string) {
	out, err := p.api.DescribeRules(ctx, &elb.DescribeRulesInput{ListenerArn: &listener})
	if err != nil || len(out.Rules) < 3 {
		return
	}
	rules := out.Rules[:len(out.Rules)-1]
	i := p.random.IntN(len(rules) - 1)
	a, b := rules[i], rules[i+1]
	_, _ = p.api.SetRulePriorities(ctx, &elb.SetRulePrioritiesInput{RulePriorities: []types.RulePriorityPair{
		{RuleArn: a.RuleArn, Priority: number(b.Priority)}, {RuleArn: b.RuleArn, Priority: number(a.Priority)},
	}})
}

func number(text *string) *int32 {
	var n int32
	_, _ = fmt.Sscan(*text, &n)
	return &n
}

// group makes or deletes a group that nothing refers to.
func (p *program) group(ctx context.Context, loose string) {
	if p.random.IntN(2) == 0 || loose == p.groups[0] {
		p.number++
		if out, err := p.api.CreateTargetGroup(ctx, p.newGroup(fmt.Sprintf("loose-%d-%d", p.random.IntN(1000), p.number), 5+p.random.Int32N(295))); err == nil {
			p.keep(p.looseGroups, *out.TargetGroups[0].TargetGroupArn, true)
		}
		return
	}
	if _, err := p.api.DeleteTargetGroup(ctx, &elb.DeleteTargetGroupInput{TargetGroupArn: &loose}); err == nil {
		p.keep(p.looseGroups, loose, false)
	}
}

// register registers or deregisters one of this program's own targets.
func (p *program) register(ctx context.Context) {
	if len(p.mine) == 0 {
		return
	}
	// Each target is of one group for ever: its answer tells who was chosen.
	i := p.random.IntN(len(p.mine))
	target, group := []types.TargetDescription{{Id: &p.mine[i]}}, p.groups[i%2]
	if p.random.IntN(2) == 0 {
		_, _ = p.api.RegisterTargets(ctx, &elb.RegisterTargetsInput{TargetGroupArn: &group, Targets: target})
		return
	}
	_, _ = p.api.DeregisterTargets(ctx, &elb.DeregisterTargetsInput{TargetGroupArn: &group, Targets: target})
}

// history is the run as the journal and the callers have it. Every call that the journal has must have had a caller, and the other way
// round.
func (r *run) history() *consistency.History {
	r.t.Helper()
	h := &consistency.History{Requests: r.requests, Profile: r.config.Profile, Scale: r.config.Scale, Unthrottled: r.config.Unthrottled, End: time.Now()}
	r.mu.Lock()
	defer r.mu.Unlock()
	matched := 0
	for _, record := range r.emulator.Journal().Since(0) {
		switch detail := record.Detail.(type) {
		case consistency.Told:
			h.Told = append(h.Told, detail)
		case elbv2.Acceptance:
			h.Accepted = append(h.Accepted, detail)
		case elbv2.Application:
			h.Applied = append(h.Applied, detail)
		case consistency.ToldTargets:
			h.Targets = append(h.Targets, detail)
		}
		if record.Operation == "" {
			continue
		}
		call, ok := r.answered[record.RequestID]
		if !ok || (record.Code == "") != (call.Output != nil) {
			r.t.Fatalf("the journal and the callers disagree about %s of %s: %q, %v", record.Operation, record.UserAgent, record.Code, call.Output)
		}
		matched++
		call.Record = record
		h.Calls = append(h.Calls, call)
	}
	if matched != len(r.answered) {
		r.t.Fatalf("%d calls were answered, the journal has %d", len(r.answered), matched)
	}
	return h
}

// observe makes a node tell the journal what it is given.
func (r *run) observe(c dataplane.Config, inner elbv2.Node) elbv2.Node {
	return &observed{Node: inner, run: r, config: c}
}

type observed struct {
	elbv2.Node
	run    *run
	config dataplane.Config
}

func (o *observed) tell(event string, detail any) {
	o.run.emulator.Journal().Add(journal.Record{Received: time.Now(), Event: event, Detail: detail})
}

func (o *observed) Apply(c dataplane.NodeConfig) error {
	told := consistency.Told{LoadBalancer: o.config.LoadBalancer, Zone: o.config.Zone, At: time.Now(), Listeners: map[string]map[string]consistency.Content{}}
	for _, l := range c.Listeners {
		rules := map[string]consistency.Content{l.ARN: {Action: consistency.ActionOn(l.Default)}}
		for _, one := range l.Rules {
			rules[one.ARN] = consistency.Content{Priority: fmt.Sprint(one.Priority), Action: consistency.ActionOn(one.Action)}
		}
		told.Listeners[l.ARN] = rules
	}
	err := o.Node.Apply(c)
	told.Done = time.Now()
	o.tell("NodeTold", told)
	return err
}

func (o *observed) ApplyTargets(group string, set dataplane.TargetSet) {
	told := consistency.ToldTargets{LoadBalancer: o.config.LoadBalancer, Zone: o.config.Zone, At: time.Now(), Group: group}
	for _, t := range set.Targets {
		if t.State == dataplane.Registered {
			told.Targets = append(told.Targets, t.ID)
		}
	}
	o.Node.ApplyTargets(group, set)
	told.Done = time.Now()
	o.tell("NodeToldTargets", told)
}

func (o *observed) RemoveGroup(group string) {
	told := consistency.ToldTargets{LoadBalancer: o.config.LoadBalancer, Zone: o.config.Zone, At: time.Now(), Group: group}
	o.Node.RemoveGroup(group)
	told.Done = time.Now()
	o.tell("NodeToldTargets", told)
}

func (o *observed) Close() {
	o.tell("NodeTold", consistency.Told{LoadBalancer: o.config.LoadBalancer, Zone: o.config.Zone, At: time.Now(), Done: time.Now(), Closed: true})
	o.Node.Close()
}

// nothing is a node that carries nothing.
type nothing struct{}

func (nothing) Apply(dataplane.NodeConfig) error         { return nil }
func (nothing) ApplyGroup(dataplane.Group)               {}
func (nothing) ApplyTargets(string, dataplane.TargetSet) {}
func (nothing) RemoveGroup(string)                       {}
func (nothing) Stats() dataplane.Stats                   { return dataplane.Stats{} }
func (nothing) Close()                                   {}
