package ingress

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
)

// routed is where a backend leads: actions, and why the live ones should be kept if they should.
type routed struct {
	actions []model.Action
	hold    string
}

// backend translates one backend of the Ingress; field names it for errors.
func (t *translation) backend(b networkingv1.IngressBackend, field string) (routed, error) {
	if b.Service == nil {
		return routed{}, &InvalidError{Object: t.given.object, Field: field, Problem: "it has no service; resource backends are not supported", Remedy: "set backend.service"}
	}
	name := b.Service.Name
	if b.Service.Port.Name == useAnnotation {
		return t.annotatedAction(name)
	}
	port := b.Service.Port.Name
	if port == "" {
		port = strconv.Itoa(int(b.Service.Port.Number))
	}
	actions, err := t.plainForward(name, port)
	return routed{actions: actions}, err
}

// plainForward forwards to one Service; a Service that does not exist answers 503 unless StrictServices.
func (t *translation) plainForward(service, port string) ([]model.Action, error) {
	id, err := t.targetGroup(service, port)
	if missing := (*missingServiceError)(nil); errors.As(err, &missing) && !t.settings.StrictServices {
		t.warn(ReasonBackendMissing, "%v: the rule answers 503", err)
		return []model.Action{fixedResponse("503", "Backend service does not exist")}, nil
	}
	if err != nil {
		return nil, err
	}
	return []model.Action{forward([]model.WeightedTargetGroup{{ResourceID: id, Weight: 1}}, 0)}, nil
}

// annotatedAction takes the action from the annotation actions.<name>. One that a rollout writes and that
// is missing, broken or no forward keeps what is live: the rollout will write it again, and until then no
// request should be lost. A missing one without an owner keeps what is live too, since whatever replaces
// an Ingress as a whole takes the owner's note away together with the action.
func (t *translation) annotatedAction(name string) (routed, error) {
	suffix := actionPrefix + name
	key := Prefix + suffix
	owner := managedBy(t.objects.Ingress.Annotations, key)
	text, found := t.given.get(suffix)
	var err error
	if found {
		var actions []model.Action
		actions, err = t.action(suffix, text, owner == "")
		if err == nil && owner != "" && actions[0].Forward == nil {
			err = fmt.Errorf("it forwards to no Service")
		}
		if err == nil {
			return routed{actions: actions}, nil
		}
	}
	fallback := []model.Action{fixedResponse("503", "Backend action does not exist")}
	if owner != "" {
		reason := fmt.Sprintf("annotation %s is missing, though rollout %s owns it", key, owner)
		if found {
			reason = fmt.Sprintf("annotation %s of rollout %s cannot be used: %v", key, owner, err)
		}
		t.warn(ReasonActionHeld, "%s: the live rule is kept", reason)
		return routed{actions: fallback, hold: reason}, nil
	}
	switch {
	case found:
		return routed{}, err
	case t.settings.StrictActions:
		return routed{}, &InvalidError{Object: t.given.object, Field: "annotation " + key, Problem: "it is missing, but a backend uses it", Remedy: "add it"}
	}
	t.warn(ReasonBackendMissing, "annotation %s is missing: a new rule answers 503, a live one is kept", key)
	return routed{actions: fallback, hold: fmt.Sprintf("annotation %s is missing", key)}, nil
}

// action translates one actions annotation; tolerant lets a forward to one missing Service answer 503.
func (t *translation) action(suffix, text string, tolerant bool) ([]model.Action, error) {
	in, err := parseAction(text)
	if err != nil {
		return nil, t.given.invalid(suffix, err.Error(), "correct the action")
	}
	switch {
	case in.fixed != nil:
		return []model.Action{{Type: model.ActionFixedResponse, FixedResponse: in.fixed}}, nil
	case in.redirect != nil:
		return []model.Action{{Type: model.ActionRedirect, Redirect: in.redirect}}, nil
	case tolerant && len(in.forward) == 1 && in.forward[0].service != "":
		return t.plainForward(in.forward[0].service, in.forward[0].port)
	}
	var groups []model.WeightedTargetGroup
	for _, m := range in.forward {
		g := model.WeightedTargetGroup{ARN: m.targetGroupARN, Weight: m.weight}
		switch {
		case m.service != "":
			if g.ResourceID, err = t.targetGroup(m.service, m.port); err != nil {
				return nil, err
			}
		case m.targetGroupName != "":
			if g.ARN = t.resolved.TargetGroups[m.targetGroupName]; g.ARN == "" {
				return nil, t.given.invalid(suffix, "no target group has the name "+m.targetGroupName, "correct the name or give its ARN")
			}
		}
		groups = append(groups, g)
	}
	return []model.Action{forward(groups, in.sticky)}, nil
}

func forward(groups []model.WeightedTargetGroup, sticky time.Duration) model.Action {
	return model.Action{Type: model.ActionForward, Forward: &model.Forward{TargetGroups: groups, Stickiness: sticky}}
}

// missingServiceError says that a Service, or a port of it, does not exist (yet).
type missingServiceError struct{ *InvalidError }

func (e *missingServiceError) Unwrap() error { return e.InvalidError }

// targetGroup translates the target group of a Service port and its binding, once, and returns its
// resource id. port is as written: a number or a name.
func (t *translation) targetGroup(service, port string) (string, error) {
	id := fmt.Sprintf("%s-%s:%s", t.stackID, service, port)
	if _, done := t.groups[id]; done {
		return id, nil
	}
	svc := t.service(service)
	if svc == nil {
		return "", &missingServiceError{&InvalidError{Object: t.given.object, Field: "the backend service", Value: service, Problem: "no such Service exists in namespace " + t.objects.Ingress.Namespace, Remedy: "create it or correct the name"}}
	}
	i := slices.IndexFunc(svc.Spec.Ports, func(p corev1.ServicePort) bool {
		return p.Name == port || strconv.Itoa(int(p.Port)) == port
	})
	if i < 0 {
		return "", &missingServiceError{&InvalidError{Object: t.given.object, Field: "the backend service's port", Value: service + ":" + port, Problem: "the Service has no such port", Remedy: "name one of its ports"}}
	}
	targetPort := svc.Spec.Ports[i].TargetPort
	if targetPort == (intstr.IntOrString{}) {
		targetPort = intstr.FromInt32(svc.Spec.Ports[i].Port) // the API server's default
	}
	given := t.given.over("Service "+svc.Namespace+"/"+svc.Name, svc.Annotations)
	group, err := t.groupSettings(given, id, targetPort)
	if err != nil {
		return "", err
	}
	if slices.Contains(svc.Spec.IPFamilies, corev1.IPv6Protocol) {
		if t.ipAddressType == "ipv4" {
			return "", &InvalidError{Object: "Service " + service, Field: "spec.ipFamilies", Value: "IPv6", Problem: "an IPv6 target group needs a dualstack load balancer", Remedy: "set annotation " + Prefix + "ip-address-type to dualstack"}
		}
		group.IPAddressType = "ipv6"
	}
	group.Name = targetGroupName(svc.Namespace, svc.Name, t.settings.Cluster, t.stackID, t.objects.Ingress.Namespace, t.objects.Ingress.Name,
		string(svc.UID), port, strconv.Itoa(int(group.Port)), string(group.TargetType), group.Protocol, group.ProtocolVersion)
	if t.groups == nil {
		t.groups, t.bindings = map[string]model.TargetGroup{}, map[string]model.Binding{}
	}
	t.groups[id] = group
	t.bindings[id] = t.binding(svc, port, targetPort, group)
	return id, nil
}

// groupSettings reads the annotations of a target group, the Service's over the Ingress's.
func (t *translation) groupSettings(given annotations, id string, targetPort intstr.IntOrString) (model.TargetGroup, error) {
	g := model.TargetGroup{ResourceID: id, IPAddressType: "ipv4", Port: 1}
	targetType, err := given.oneOf("target-type", or(t.settings.DefaultTargetType, string(model.TargetInstance)), string(model.TargetInstance), string(model.TargetIP))
	if err != nil {
		return g, err
	}
	if g.TargetType = model.TargetType(or(string(t.params.TargetType), targetType)); g.TargetType == model.TargetInstance {
		return g, given.invalid("target-type", "instance targets (the default) are not supported yet", "set it to ip")
	}
	if targetPort.Type == intstr.Int {
		g.Port = targetPort.IntVal
	}
	if g.Protocol, err = given.oneOf("backend-protocol", "HTTP", "HTTP", "HTTPS"); err != nil {
		return g, err
	}
	if g.ProtocolVersion, err = given.oneOf("backend-protocol-version", "HTTP1", "HTTP1", "HTTP2", "GRPC"); err != nil {
		return g, err
	}
	if g.Attributes, err = given.pairs("target-group-attributes"); err != nil {
		return g, err
	}
	if g.Tags, err = t.tags(given, id); err != nil {
		return g, err
	}
	g.HealthCheck, err = healthCheck(given, g)
	return g, err
}

func healthCheck(given annotations, g model.TargetGroup) (model.HealthCheck, error) {
	grpc := g.ProtocolVersion == "GRPC"
	h := model.HealthCheck{Port: given.text("healthcheck-port", "traffic-port"), Path: given.text("healthcheck-path", "/")}
	if n, err := strconv.Atoi(h.Port); h.Port != "traffic-port" && (err != nil || n < 1 || n > 65535) {
		return h, given.invalid("healthcheck-port", "it is neither traffic-port nor a port number (named ports are not supported yet)", "use traffic-port or a number")
	}
	if _, ok := given.get("healthcheck-path"); grpc && !ok {
		h.Path = "/AWS.ALB/healthcheck"
	}
	var err error
	if h.Protocol, err = given.oneOf("healthcheck-protocol", g.Protocol, "HTTP", "HTTPS"); err != nil {
		return h, err
	}
	var interval, timeout int32
	for _, n := range []struct {
		suffix   string
		fallback int32
		into     *int32
	}{
		{"healthcheck-interval-seconds", 15, &interval}, {"healthcheck-timeout-seconds", 5, &timeout},
		{"healthy-threshold-count", 2, &h.HealthyThreshold}, {"unhealthy-threshold-count", 2, &h.UnhealthyThreshold},
	} {
		if *n.into, err = given.number(n.suffix, n.fallback); err != nil {
			return h, err
		}
	}
	h.Interval, h.Timeout = time.Duration(interval)*time.Second, time.Duration(timeout)*time.Second
	if grpc {
		h.GRPCCodes = given.text("success-codes", "12")
	} else {
		h.HTTPCodes = given.text("success-codes", "200")
	}
	return h, nil
}

func (t *translation) binding(svc *corev1.Service, port string, targetPort intstr.IntOrString, g model.TargetGroup) model.Binding {
	b := model.Binding{
		Namespace: svc.Namespace, Name: g.Name, TargetGroup: g.ResourceID, Service: svc.Name, ServicePort: port,
		TargetType: g.TargetType, Protocol: g.Protocol, IPAddressType: g.IPAddressType,
		Labels: map[string]string{LabelStackNamespace: t.objects.Ingress.Namespace, LabelStackName: t.objects.Ingress.Name},
	}
	if t.backendSource == (model.SecurityGroupRef{}) {
		return b
	}
	b.Ingress = []model.BindingIngress{{Source: t.backendSource, Port: targetPort.String()}}
	if p := g.HealthCheck.Port; p != "traffic-port" && p != targetPort.String() {
		b.Ingress = append(b.Ingress, model.BindingIngress{Source: t.backendSource, Port: p})
	}
	return b
}

// The labels by which the bindings of an Ingress are found.
const (
	LabelStackNamespace = "ingress.k8s.aws/stack-namespace"
	LabelStackName      = "ingress.k8s.aws/stack-name"
)
