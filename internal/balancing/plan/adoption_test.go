package plan_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-delivery/lockstep/internal/balancing/ingress"
	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/balancing/plan"
)

// foreign is what the other controller has made for the Ingress below, as AWS's Describe calls give it:
// its own names (the Services were made anew since, so that the formula gives other ones today), old tags,
// target groups in another order, a weight on a lone target group, two rules that it numbered likewise.
func foreign() (model.Observed, []plan.ObservedBinding) {
	seen := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	tags := func(resource string) map[string]string {
		return map[string]string{
			"elbv2.k8s.aws/cluster": "test", "ingress.k8s.aws/stack": "shop/web", "ingress.k8s.aws/resource": resource,
			"kubernetes.io/cluster/test": "owned", "kubernetes.io/namespace": "shop", "aws:cloudformation:stack-name": "x",
		}
	}
	arn := func(kind string) string {
		return "arn:aws:elasticloadbalancing:eu-west-1:123456789012:" + kind
	}
	group := func(service string) model.ObservedTargetGroup {
		return model.ObservedTargetGroup{
			TargetGroup: model.TargetGroup{
				ResourceID: "shop/web-" + service + ":80", Name: "k8s-shop-" + service + "-0123456789", TargetType: model.TargetIP, Port: 9999,
				Protocol: "HTTP", ProtocolVersion: "HTTP1", IPAddressType: "ipv4", Tags: tags("shop/web-" + service + ":80"),
				HealthCheck: model.HealthCheck{Protocol: "HTTP", Port: "traffic-port", Path: "/", Interval: 15 * time.Second, Timeout: 5 * time.Second, HealthyThreshold: 2, UnhealthyThreshold: 2, HTTPCodes: "200"},
				Attributes:  map[string]string{"deregistration_delay.timeout_seconds": "10", "slow_start.duration_seconds": "0"},
			},
			ARN: arn("targetgroup/k8s-shop-" + service + "-0123456789/" + service), SeenAt: seen,
		}
	}
	forward := func(groups ...model.WeightedTargetGroup) []model.Action {
		return []model.Action{{Type: model.ActionForward, Forward: &model.Forward{TargetGroups: groups}}}
	}
	stable, canary := group("stable"), group("canary")
	o := model.Observed{Complete: true, TargetGroups: []model.ObservedTargetGroup{canary, stable}}
	o.SecurityGroups = []model.ObservedSecurityGroup{{
		GroupID: "sg-managed",
		SecurityGroup: model.SecurityGroup{ResourceID: "ManagedLBSecurityGroup", Name: "k8s-shop-web-old", Tags: tags("ManagedLBSecurityGroup"),
			Ingress: []model.Permission{{Protocol: "tcp", FromPort: 80, ToPort: 80, CIDR: "0.0.0.0/0", Description: "by hand"}}},
	}}
	listener := model.ObservedListener{ARN: arn("listener/app/old/1/2"), SeenAt: seen}
	listener.Listener = model.Listener{Port: 80, Protocol: "HTTP", Tags: tags("80"), DefaultActions: []model.Action{{Type: model.ActionFixedResponse, FixedResponse: &model.FixedResponse{ContentType: "text/plain", StatusCode: "404"}}}}
	rule := func(priority int32, resource string, conditions []model.Condition, actions []model.Action) model.ObservedRule {
		return model.ObservedRule{ARN: arn("listener-rule/app/old/1/2/" + resource), Rule: model.Rule{Priority: priority, Conditions: conditions, Actions: actions, Tags: tags(resource)}}
	}
	listener.Rules = []model.ObservedRule{
		rule(1, "80:1", []model.Condition{{Field: "path-pattern", Values: []string{"/oldpath/*", "/oldpath"}}, {Field: "host-header", Values: []string{"a.example.com"}}},
			[]model.Action{{Type: model.ActionRedirect, Redirect: &model.Redirect{Host: "new.example.com", StatusCode: "HTTP_301"}}}),
		rule(2, "80:2", []model.Condition{{Field: "path-pattern", Values: []string{"/only", "/only/*"}}, {Field: "host-header", Values: []string{"a.example.com"}}}, forward(model.WeightedTargetGroup{ARN: stable.ARN, Weight: 100})),
		rule(3, "80:3", []model.Condition{{Field: "host-header", Values: []string{"a.example.com"}}, {Field: "path-pattern", Values: []string{"/*"}}},
			forward(model.WeightedTargetGroup{ARN: stable.ARN, Weight: 90}, model.WeightedTargetGroup{ARN: canary.ARN, Weight: 10})),
	}
	lb := model.ObservedLoadBalancer{ARN: arn("loadbalancer/app/old/1"), DNSName: "old.elb.amazonaws.com", State: "active", SecurityGroupIDs: []string{"sg-shared", "sg-managed"}, SeenAt: seen}
	lb.LoadBalancer = model.LoadBalancer{ResourceID: "LoadBalancer", Name: "old-name", Scheme: model.InternetFacing, IPAddressType: "ipv4", SubnetIDs: []string{"subnet-x", "subnet-y"}, Tags: tags("LoadBalancer"),
		Attributes: map[string]string{"idle_timeout.timeout_seconds": "60"}}
	lb.Listeners = []model.ObservedListener{listener}
	o.LoadBalancers = []model.ObservedLoadBalancer{lb}
	var bindings []plan.ObservedBinding
	for _, g := range o.TargetGroups {
		service := strings.TrimSuffix(strings.TrimPrefix(g.ResourceID, "shop/web-"), ":80")
		bindings = append(bindings, plan.ObservedBinding{TargetGroupARN: g.ARN, Binding: model.Binding{
			Namespace: "shop", Name: g.Name, Service: service, ServicePort: "80", Ingress: []model.BindingIngress{{Source: model.SecurityGroupRef{GroupID: "sg-shared"}, Port: "8080"}},
			Labels: map[string]string{"ingress.k8s.aws/stack-namespace": "shop", "ingress.k8s.aws/stack-name": "web"},
		}})
	}
	return o, bindings
}

const adopted = `
kind: Ingress
apiVersion: networking.k8s.io/v1
metadata:
  name: web
  namespace: shop
  annotations:
    alb.ingress.kubernetes.io/scheme: internet-facing
    alb.ingress.kubernetes.io/target-type: ip
    alb.ingress.kubernetes.io/target-group-attributes: deregistration_delay.timeout_seconds=10
    alb.ingress.kubernetes.io/actions.old: '{"type":"redirect","redirectConfig":{"host":"new.example.com","statusCode":"HTTP_301"}}'
    alb.ingress.kubernetes.io/actions.root: '{"Type":"forward","ForwardConfig":{"TargetGroups":[{"ServiceName":"canary","ServicePort":"80","Weight":10},{"ServiceName":"stable","ServicePort":"80","Weight":90}]}}'
spec:
  ingressClassName: alb
  rules:
  - host: a.example.com
    http:
      paths:
      - {path: /only, pathType: Prefix, backend: {service: {name: stable, port: {number: 80}}}}
      - {path: /oldpath, pathType: Prefix, backend: {service: {name: old, port: {name: use-annotation}}}}
      - {path: /, pathType: Prefix, backend: {service: {name: root, port: {name: use-annotation}}}}
---
kind: Service
apiVersion: v1
metadata: {name: stable, namespace: shop}
spec: {ports: [{port: 80, targetPort: 8080}]}
---
kind: Service
apiVersion: v1
metadata: {name: canary, namespace: shop}
spec: {ports: [{port: 80, targetPort: 8080}]}
`

// Taking over what the other controller has made changes nothing, neither in AWS nor in Kubernetes.
func TestTakingOverChangesNothing(t *testing.T) {
	observed, bindings := foreign()
	stack, _, err := ingress.Translate(ingress.Settings{Cluster: "test"}, objectsOf(t, []byte(adopted)), ingress.Resolved{Existing: &observed.LoadBalancers[0]})
	if err != nil {
		t.Fatal(err)
	}
	state := plan.State{Now: time.Date(2026, 1, 1, 0, 1, 0, 0, time.UTC), Cluster: "test", Bindings: bindings, BackendGroupID: "sg-shared", HealthAge: time.Minute}
	if got := plan.Make(stack, observed, state).String(); got != "nothing to do\n" {
		t.Errorf("taking over changes something:\n%s", got)
	}

	// The same without what is only read later: attributes, and the tags of listeners and rules.
	lb := &observed.LoadBalancers[0]
	lb.Attributes, lb.Listeners[0].Tags = nil, nil
	for i := range lb.Listeners[0].Rules {
		lb.Listeners[0].Rules[i].Tags = nil
	}
	for i := range observed.TargetGroups {
		observed.TargetGroups[i].Attributes = nil
	}
	if got := plan.Make(stack, observed, state).String(); got != "nothing to do\n" {
		t.Errorf("what has not been read is changed:\n%s", got)
	}

	// It can fail: one thing that is different is found.
	lb.Listeners[0].Rules[2].Actions[0].Forward.TargetGroups[0].Weight = 91
	state.Health = map[string]plan.Health{observed.TargetGroups[0].ARN: {Healthy: 1, Total: 1, SeenAt: state.Now}}
	if got := plan.Make(stack, observed, state); len(got.Operations) != 1 {
		t.Errorf("a different weight gives\n%s", got)
	}
}

// Nothing is touched where it is not clear whose it is, or where not everything has been seen.
func TestHandsOff(t *testing.T) {
	objects := objectsOf(t, []byte(adopted))
	for name, change := range map[string]struct {
		with func(o *model.Observed)
		want string
	}{
		"another cluster's tag":           {func(o *model.Observed) { o.LoadBalancers[0].Tags["elbv2.k8s.aws/cluster"] = "other" }, "cluster other owns it"},
		"two load balancers of one stack": {func(o *model.Observed) { o.LoadBalancers = append(o.LoadBalancers, o.LoadBalancers[0]) }, "same ownership tags"},
		"no resource tag":                 {func(o *model.Observed) { o.TargetGroups[0].ResourceID = "" }, "no tag ingress.k8s.aws/resource"},
		"an incomplete observation":       {func(o *model.Observed) { o.Complete, o.Missing, o.TargetGroups = false, "the target groups", nil }, "the target groups"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, deleting := range []bool{false, true} {
				observed, bindings := foreign()
				change.with(&observed)
				stack, _, err := ingress.Translate(ingress.Settings{Cluster: "test"}, objects, ingress.Resolved{Existing: &observed.LoadBalancers[0]})
				if err != nil {
					t.Fatal(err)
				}
				if deleting {
					stack = model.Stack{ID: stack.ID}
				}
				p := plan.Make(stack, observed, plan.State{Cluster: "test", Bindings: bindings})
				if deleting && name == "two load balancers of one stack" {
					continue // both are the stack's, and both may go
				}
				if deletes := slices.ContainsFunc(p.Operations, func(op plan.Operation) bool { return !strings.HasPrefix(op.String(), "modify rule") }); deletes || p.Gone {
					t.Errorf("deleting %t: %s", deleting, p)
				}
				if !strings.Contains(p.String(), change.want) {
					t.Errorf("the plan does not say %q:\n%s", change.want, p)
				}
			}
		})
	}
}
