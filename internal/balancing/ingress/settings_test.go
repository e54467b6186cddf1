package ingress

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
)

// plain is an Ingress with one path, its class and, unless it is taken away, its Service.
const plain = `
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: shop, annotations: {alb.ingress.kubernetes.io/target-type: ip}}
spec:
  ingressClassName: alb
  rules: [{http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: alb}
spec: {controller: ingress.k8s.aws/alb}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {ports: [{port: 80, targetPort: 8080}]}
`

func translated(t *testing.T, s Settings, change func(Objects)) (model.Stack, error) {
	t.Helper()
	s.Cluster = "test"
	o := objectsOf(t, []byte(plain))
	if change != nil {
		change(o)
	}
	stack, _, err := Translate(s, o, Resolved{Subnets: subnets()})
	return stack, err
}

// annotated sets annotations of the Ingress.
func annotated(pairs ...string) func(Objects) {
	return func(o Objects) {
		for i := 0; i < len(pairs); i += 2 {
			o.Ingress.Annotations[Prefix+pairs[i]] = pairs[i+1]
		}
	}
}

// Which groups a load balancer has, and from which its targets are reached.
func TestBackendSecurityGroupSettings(t *testing.T) {
	managed, shared := model.SecurityGroupRef{ResourceID: resourceSecurityGroup}, model.SecurityGroupRef{Backend: true}
	theirs, custom := model.SecurityGroupRef{GroupID: "sg-theirs"}, model.SecurityGroupRef{GroupID: "sg-1"}
	for name, row := range map[string]struct {
		settings Settings
		custom   bool
		groups   []model.SecurityGroupRef
		source   model.SecurityGroupRef
		made     bool
	}{
		"by default the shared group":     {Settings{}, false, []model.SecurityGroupRef{managed, shared}, shared, true},
		"a fixed group is used as it is":  {Settings{BackendSecurityGroup: "sg-theirs"}, false, []model.SecurityGroupRef{managed, theirs}, theirs, false},
		"turned off, the managed group":   {Settings{NoBackendSecurityGroup: true}, false, []model.SecurityGroupRef{managed}, managed, false},
		"custom groups alone":             {Settings{}, true, []model.SecurityGroupRef{custom}, model.SecurityGroupRef{}, false},
		"custom groups and managed rules": {Settings{ManageBackendRules: true}, true, []model.SecurityGroupRef{custom, shared}, shared, true},
	} {
		t.Run(name, func(t *testing.T) {
			var change func(Objects)
			if row.custom {
				change = annotated("security-groups", "sg-1")
			}
			stack, err := translated(t, row.settings, change)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(row.groups, stack.LoadBalancer.SecurityGroups); diff != "" {
				t.Errorf("groups of the load balancer:\n%s", diff)
			}
			var source model.SecurityGroupRef
			if in := stack.Bindings[0].Ingress; len(in) > 0 {
				source = in[0].Source
			}
			if source != row.source || (stack.BackendGroup != nil) != row.made {
				t.Errorf("the source is %+v, want %+v; a shared group is wanted: %t, want %t", source, row.source, stack.BackendGroup != nil, row.made)
			}
		})
	}
	_, err := translated(t, Settings{NoBackendSecurityGroup: true}, annotated("security-groups", "sg-1", "manage-backend-security-group-rules", "true"))
	if invalid, ok := errors.AsType[*InvalidError](err); !ok || !strings.Contains(invalid.Error(), "--enable-backend-security-group") {
		t.Errorf("managed rules without a source: %v", err)
	}
}

func TestWhoseTagsWin(t *testing.T) {
	stack, err := translated(t, Settings{DefaultTags: map[string]string{"team": "infra"}}, annotated("tags", "team=shop"))
	if err != nil || stack.LoadBalancer.Tags["team"] != "infra" {
		t.Errorf("by default the controller's tags win: %v, %v", stack.LoadBalancer, err)
	}
	stack, err = translated(t, Settings{DefaultTags: map[string]string{"team": "infra"}, DefaultTagsLowPriority: true}, annotated("tags", "team=shop"))
	if err != nil || stack.LoadBalancer.Tags["team"] != "shop" {
		t.Errorf("with low priority the user's tags win: %v, %v", stack.LoadBalancer, err)
	}
	_, err = translated(t, Settings{ExternalTags: []string{"cost"}}, annotated("tags", "cost=1"))
	if invalid, ok := errors.AsType[*InvalidError](err); !ok || !strings.Contains(invalid.Error(), "cost") {
		t.Errorf("a tag that is managed elsewhere: %v", err)
	}
}

// What is missing is tolerated separately.
func TestStrictness(t *testing.T) {
	withoutService := func(o Objects) { delete(o.Services, "web") }
	withoutAction := func(o Objects) {
		port := &o.Ingress.Spec.Rules[0].HTTP.Paths[0].Backend.Service.Port
		port.Name, port.Number = useAnnotation, 0
	}
	for _, row := range []struct {
		name     string
		settings Settings
		change   func(Objects)
		refused  bool
	}{
		{"a missing Service answers 503", Settings{StrictActions: true}, withoutService, false},
		{"a missing Service is refused", Settings{StrictServices: true}, withoutService, true},
		{"a missing action answers 503", Settings{StrictServices: true}, withoutAction, false},
		{"a missing action is refused", Settings{StrictActions: true}, withoutAction, true},
	} {
		if _, err := translated(t, row.settings, row.change); (err != nil) != row.refused {
			t.Errorf("%s: %v", row.name, err)
		}
	}
}
