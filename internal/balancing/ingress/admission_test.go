package ingress

import (
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestWhatMayBeWritten(t *testing.T) {
	byAnnotation := func(o Objects) {
		o.Ingress.Spec.IngressClassName = nil
		o.Ingress.Annotations[annotationClass] = "alb"
	}
	noParams := func(o Objects) {
		o.Classes[0].Spec.Parameters = &networkingv1.IngressClassParametersReference{APIGroup: new("elbv2.k8s.aws"), Kind: "IngressClassParams", Name: "missing"}
	}
	broken := annotated(conditionPrefix+"web", `[{"field":"host-header"}]`)
	strict := Admission{NoClassAnnotation: true, NoGroupAnnotation: true}
	for name, row := range map[string]struct {
		admission Admission
		before    func(Objects) // nil for a new Ingress
		now       func(Objects)
		refused   string
	}{
		"a plain Ingress":                              {strict, nil, func(Objects) {}, ""},
		"the class annotation":                         {Admission{}, nil, byAnnotation, ""},
		"the class annotation where it is forbidden":   {strict, nil, byAnnotation, "--disable-ingress-class-annotation"},
		"the class annotation that it had":             {strict, byAnnotation, byAnnotation, ""},
		"a group where it is forbidden":                {strict, nil, annotated("group.name", "g"), "--disable-ingress-group-name-annotation"},
		"another group where it is forbidden":          {strict, annotated("group.name", "f"), annotated("group.name", "g"), "--disable-ingress-group-name-annotation"},
		"the group that it had":                        {strict, annotated("group.name", "g"), annotated("group.name", "g"), ""},
		"parameters that do not exist":                 {Admission{}, nil, noParams, "IngressClassParams"},
		"parameters that have been deleted since":      {Admission{}, func(Objects) {}, noParams, ""},
		"malformed conditions":                         {Admission{}, nil, broken, conditionPrefix + "web"},
		"malformed conditions that it had":             {Admission{}, broken, broken, ""},
		"malformed conditions of a Service not in use": {Admission{}, nil, annotated(conditionPrefix+"other", "["), ""},
		"somebody else's":                              {strict, nil, func(o Objects) { byAnnotation(o); broken(o); o.Ingress.Annotations[annotationClass] = "nginx" }, ""},
		"one that is leaving":                          {strict, nil, func(o Objects) { byAnnotation(o); o.Ingress.DeletionTimestamp = new(metav1.Now()) }, ""},
		"a backend that is no Service": {strict, nil, func(o Objects) {
			o.Ingress.Spec.Rules[0].HTTP.Paths[0].Backend = networkingv1.IngressBackend{}
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			o := objectsOf(t, []byte(plain))
			row.now(o)
			var before *networkingv1.Ingress
			if row.before != nil {
				was := objectsOf(t, []byte(plain))
				row.before(was)
				before = was.Ingress
			}
			switch err := Refused(Settings{Cluster: "test"}, row.admission, o, before); {
			case row.refused == "" && err != nil:
				t.Errorf("refused: %v", err)
			case row.refused != "" && (err == nil || !strings.Contains(err.Error(), row.refused)):
				t.Errorf("%v does not name %s", err, row.refused)
			}
		})
	}
}
