package ingress

import (
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	elbv2 "github.com/lockstep-delivery/lockstep/api/elbv2/v1beta1"
)

func TestParsePairs(t *testing.T) {
	for text, want := range map[string]map[string]string{
		"a=1":             {"a": "1"},
		"a=1,b=2":         {"a": "1", "b": "2"},
		" a = 1 , b = 2 ": {"a": "1", "b": "2"},
		"a=x=y,b=":        {"a": "x=y", "b": ""},
		`a=1\,2,b=3`:      {"a": "1,2", "b": "3"},
		"a=1,":            {"a": "1,"},
		"":                {},
	} {
		got, err := parsePairs(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: -want +got\n%s", text, diff)
		}
	}
	for _, text := range []string{"a", "a=1,b", "=1"} {
		if got, err := parsePairs(text); err == nil {
			t.Errorf("%q is read as %v", text, got)
		}
	}
}

func TestWhoseIngress(t *testing.T) {
	class := func(name, controller string, isDefault bool, params string) networkingv1.IngressClass {
		c := networkingv1.IngressClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: networkingv1.IngressClassSpec{Controller: controller}}
		if isDefault {
			c.Annotations = map[string]string{annotationDefaultClass: "true"}
		}
		if params != "" {
			c.Spec.Parameters = &networkingv1.IngressClassParametersReference{APIGroup: new("elbv2.k8s.aws"), Kind: "IngressClassParams", Name: params}
		}
		return c
	}
	alb, nginx := class("alb", ClassController, false, ""), class("nginx", "k8s.io/ingress-nginx", false, "")
	for _, c := range []struct {
		name       string
		settings   Settings
		annotation string
		class      string
		classes    []networkingv1.IngressClass
		finalizer  bool
		deleting   bool
		want       Claim
		err        string
	}{
		{name: "our class", class: "alb", classes: []networkingv1.IngressClass{alb, nginx}, want: Member},
		{name: "another class", class: "nginx", classes: []networkingv1.IngressClass{alb, nginx}, want: Foreign},
		{name: "a class that does not exist", class: "alb", want: Foreign},
		{name: "the annotation comes first", annotation: "alb", class: "nginx", classes: []networkingv1.IngressClass{nginx}, want: Member},
		{name: "an annotation of somebody else", annotation: "nginx", class: "alb", classes: []networkingv1.IngressClass{alb}, want: Foreign},
		{name: "no class", classes: []networkingv1.IngressClass{alb}, want: Foreign},
		{name: "no class, when those are served", settings: Settings{IngressClass: NoClass}, want: Member},
		{name: "the default class", classes: []networkingv1.IngressClass{class("d", ClassController, true, "")}, want: Member},
		{name: "two default classes", classes: []networkingv1.IngressClass{class("d", ClassController, true, ""), class("e", "other", true, "")}, want: Foreign, err: "several default"},
		{name: "a class without its parameters", class: "alb", classes: []networkingv1.IngressClass{class("alb", ClassController, false, "gone")}, want: Foreign, err: "no such IngressClassParams"},
		{name: "being deleted", class: "alb", classes: []networkingv1.IngressClass{alb}, finalizer: true, deleting: true, want: Leaving},
		{name: "being deleted, and nothing is left", class: "alb", classes: []networkingv1.IngressClass{alb}, deleting: true, want: Foreign},
		{name: "gone to another class", class: "nginx", classes: []networkingv1.IngressClass{alb, nginx}, finalizer: true, want: Leaving},
		{name: "a class that was deleted keeps what is there", class: "alb", finalizer: true, want: Member, err: "no such IngressClass"},
		{name: "a class that broke keeps what is there", class: "alb", classes: []networkingv1.IngressClass{class("alb", ClassController, false, "gone")}, finalizer: true, want: Member, err: "no such IngressClassParams"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := Objects{Ingress: &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}}, Classes: c.classes, Params: map[string]*elbv2.IngressClassParams{}}
			if c.annotation != "" {
				o.Ingress.Annotations = map[string]string{annotationClass: c.annotation}
			}
			if c.class != "" {
				o.Ingress.Spec.IngressClassName = &c.class
			}
			if c.finalizer {
				o.Ingress.Finalizers = []string{Finalizer}
			}
			if c.deleting {
				o.Ingress.DeletionTimestamp = new(metav1.Now())
			}
			got, _, err := Claimed(c.settings, o)
			if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("got %s, %v; want %s, %q", got, err, c.want, c.err)
			}
		})
	}
}

func TestSubnetsAreChosenByRoleZoneAndCluster(t *testing.T) {
	role := map[string]string{"kubernetes.io/role/internal-elb": "1"}
	with := func(more map[string]string) map[string]string {
		m := maps.Clone(role)
		maps.Copy(m, more)
		return m
	}
	for _, c := range []struct {
		name    string
		subnets []Subnet
		want    []string
		err     string
	}{
		{name: "the lowest id of a zone", subnets: []Subnet{{"s2", "a", 99, role, false}, {"s1", "a", 99, role, false}, {"s3", "b", 99, role, false}}, want: []string{"s1", "s3"}},
		{name: "the own cluster's tag is preferred", subnets: []Subnet{{"s1", "a", 99, role, false}, {"s2", "a", 99, with(map[string]string{"kubernetes.io/cluster/test": "shared"}), false}, {"s3", "b", 99, role, false}}, want: []string{"s2", "s3"}},
		{name: "another cluster's are left out", subnets: []Subnet{{"s1", "a", 99, with(map[string]string{"kubernetes.io/cluster/other": "owned"}), false}, {"s3", "b", 99, role, false}}, err: "1 of these are not another cluster's"},
		{name: "full ones are left out", subnets: []Subnet{{"s1", "a", 7, role, false}, {"s3", "b", 99, role, false}}, err: "1 of these have 8 free addresses"},
		{name: "without roles, by reachability", subnets: []Subnet{{"s1", "a", 99, nil, false}, {"s2", "b", 99, nil, false}, {"s3", "b", 99, nil, true}}, want: []string{"s1", "s2"}},
		{name: "one zone is not enough", subnets: []Subnet{{"s1", "a", 99, role, false}, {"s2", "a", 99, role, false}}, err: "in 1 zones where 2 are needed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := discoverSubnets(c.subnets, "test", "internal")
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Fatalf("error %v, want %q", err, c.err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Whatever the annotations say, the readers give a value or an error that can be told.
func FuzzAnnotations(f *testing.F) {
	for _, seed := range []string{
		`a=1,b=2`, `[{"HTTP":80}]`, `{"type":"forward","forwardConfig":{"targetGroups":[{"targetGroupARN":"arn","weight":1},{"serviceName":"a","servicePort":80,"weight":2}]}}`,
		`{"type":"redirect","redirectConfig":{"statusCode":"HTTP_301"}}`, `[{"field":"query-string","queryStringConfig":{"values":[{"key":"a","value":"b"}]}}]`,
		`{"web":["alb.ingress.kubernetes.io/actions.root"]}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		o := objectsOf(t, []byte(fuzzed))
		for _, suffix := range append(append([]string{"actions.root", "conditions.root"}, onIngress...), onTargetGroup...) {
			o.Ingress.Annotations = map[string]string{Prefix + "target-type": "ip", Prefix + suffix: text}
			stack, _, err := Translate(settings(), o, Resolved{Subnets: subnets()})
			if err != nil {
				if !strings.Contains(err.Error(), "; ") {
					t.Fatalf("%s %q: the error names no remedy: %v", suffix, text, err)
				}
				continue
			}
			for _, l := range stack.Listeners {
				for _, r := range l.Rules {
					for _, a := range r.Actions {
						if a.Forward != nil && len(a.Forward.TargetGroups) == 0 {
							t.Fatalf("%s %q: a forward to nothing", suffix, text)
						}
					}
				}
			}
		}
		_ = managedBy(map[string]string{AnnotationManaged: text}, "x")
	})
}

const fuzzed = `
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: shop}
spec:
  ingressClassName: alb
  rules:
  - http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: root, port: {name: use-annotation}}}}
      - {path: /a, pathType: Prefix, backend: {service: {name: a, port: {number: 80}}}}
---
apiVersion: v1
kind: Service
metadata: {name: a, namespace: shop}
spec: {ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: alb}
spec: {controller: ingress.k8s.aws/alb}
`
