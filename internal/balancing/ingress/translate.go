package ingress

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	elbv2 "github.com/lockstep-delivery/lockstep/api/elbv2/v1beta1"
	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
)

// Lookups names what only AWS can tell before an Ingress can be translated.
type Lookups struct {
	// Subnets asks for the subnets of the VPC.
	Subnets bool
	// SecurityGroupNames are Name tags or names of security groups.
	SecurityGroupNames []string
	// TargetGroupNames are the target groups that actions name.
	TargetGroupNames []string
}

// Resolved answers Lookups.
type Resolved struct {
	Subnets []Subnet
	// SecurityGroups maps names to ids, TargetGroups names to ARNs. A name that is absent does not exist.
	SecurityGroups map[string]string
	TargetGroups   map[string]string
	// Existing is the load balancer that the stack has already, or nil.
	Existing *model.ObservedLoadBalancer
}

// Event is something that the user should read on the Ingress.
type Event struct {
	Warning bool
	Reason  string
	Message string
}

// The reasons of the events that a translation gives.
const (
	ReasonUnsupportedAnnotation = "UnsupportedAnnotation"
	ReasonActionHeld            = "ActionHeld"
	ReasonBackendMissing        = "BackendNotFound"
)

// ServiceNames lists the Services that an Ingress refers to, in its rules and in its actions, sorted.
func ServiceNames(o Objects) []string {
	names := map[string]bool{}
	visitBackends(o, func(service, _ string) { names[service] = true })
	for key, value := range o.Ingress.Annotations {
		if !strings.HasPrefix(key, Prefix+actionPrefix) {
			continue
		}
		if in, err := parseAction(value); err == nil {
			for _, m := range in.forward {
				if m.service != "" {
					names[m.service] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

func visitBackends(o Objects, visit func(service, portName string)) {
	if b := o.Ingress.Spec.DefaultBackend; b != nil && b.Service != nil {
		visit(b.Service.Name, b.Service.Port.Name)
	}
	for _, r := range o.Ingress.Spec.Rules {
		if r.HTTP == nil {
			continue
		}
		for _, p := range r.HTTP.Paths {
			if p.Backend.Service != nil {
				visit(p.Backend.Service.Name, p.Backend.Service.Port.Name)
			}
		}
	}
}

// NeededLookups says what must be resolved before Translate. It asks for subnets only where they are not
// known from the existing load balancer, so that a quiet Ingress needs no read of AWS.
func NeededLookups(o Objects, existing *model.ObservedLoadBalancer) Lookups {
	a := ingressAnnotations(o)
	var needed Lookups
	_, explicit := a.get("subnets")
	needed.Subnets = explicit && !allHavePrefix(a.list("subnets"), "subnet-") || existing == nil
	for _, name := range a.list("security-groups") {
		if !strings.HasPrefix(name, "sg-") {
			needed.SecurityGroupNames = append(needed.SecurityGroupNames, name)
		}
	}
	names := map[string]bool{}
	for key, value := range o.Ingress.Annotations {
		if in, err := parseAction(value); strings.HasPrefix(key, Prefix+actionPrefix) && err == nil {
			for _, m := range in.forward {
				if m.targetGroupName != "" {
					names[m.targetGroupName] = true
				}
			}
		}
	}
	needed.TargetGroupNames = slices.Sorted(maps.Keys(names))
	return needed
}

func allHavePrefix(items []string, prefix string) bool {
	return !slices.ContainsFunc(items, func(s string) bool { return !strings.HasPrefix(s, prefix) })
}

func ingressAnnotations(o Objects) annotations {
	return annotations{object: objectName(o), own: o.Ingress.Annotations}
}

// StackID is the group's name in tags: an implicit group is its one Ingress.
func StackID(namespace, name string) string { return namespace + "/" + name }

// Translate says which load balancer the Ingress asks for. An Ingress that is leaving asks for nothing
// (a Stack without LoadBalancer). An error is an *InvalidError, and nothing may be changed then; the
// events are worth telling in any case.
func Translate(s Settings, o Objects, r Resolved) (model.Stack, []Event, error) {
	stack := model.Stack{ID: StackID(o.Ingress.Namespace, o.Ingress.Name)}
	claim, params, err := Claimed(s, o)
	if err != nil {
		return stack, nil, err
	}
	t := &translation{settings: s, objects: o, resolved: r, given: ingressAnnotations(o), stackID: stack.ID}
	switch claim {
	case Leaving:
		return stack, nil, t.mayLeave()
	case Foreign:
		return stack, nil, fmt.Errorf("%s is not of our class", objectName(o))
	}
	if params != nil {
		t.params = params.Spec
	}
	if err := t.refuse(); err != nil {
		return stack, nil, err
	}
	t.warnUnsupported(params)
	for _, step := range []func(*model.Stack) error{t.loadBalancer, t.listeners} {
		if err := step(&stack); err != nil {
			return stack, t.events, err
		}
	}
	stack.TargetGroups = sortedValues(t.groups)
	stack.Bindings = sortedValues(t.bindings)
	return stack, t.events, nil
}

// translation is the state of one call of Translate.
type translation struct {
	settings Settings
	objects  Objects
	resolved Resolved
	params   elbv2.IngressClassParamsSpec
	given    annotations
	stackID  string

	scheme, ipAddressType string
	// backendSource is where traffic to the targets comes from; zero when node rules are not managed.
	backendSource model.SecurityGroupRef
	groups        map[string]model.TargetGroup // by resource id
	bindings      map[string]model.Binding     // by resource id of the group
	events        []Event
}

func (t *translation) warn(reason, format string, args ...any) {
	e := Event{Warning: true, Reason: reason, Message: fmt.Sprintf(format, args...)}
	if !slices.Contains(t.events, e) {
		t.events = append(t.events, e)
	}
}

// refuse answers what cannot be served yet and must not be left out either.
func (t *translation) refuse() error {
	const problem = "it is not supported yet, and without it requests would be let in or sent on as you do not want"
	const remedy = "remove it if that is acceptable"
	if suffix, found := refusedIn(t.given.own); found {
		return t.given.invalid(suffix, problem, remedy)
	}
	for _, name := range ServiceNames(t.objects) {
		if svc := t.service(name); svc != nil {
			if suffix, found := refusedIn(svc.Annotations); found {
				return t.given.over("Service "+svc.Namespace+"/"+name, svc.Annotations).invalid(suffix, problem, remedy)
			}
		}
	}
	for _, field := range []struct {
		name string
		set  bool
	}{
		{"prefixListsIDs", len(t.params.PrefixListsIDs)+len(t.params.PrefixListsIDsLegacy) > 0}, {"wafv2AclArn", t.params.WAFv2ACLArn != ""},
		{"wafv2AclName", t.params.WAFv2ACLName != ""}, {"subnets.tags", t.params.Subnets != nil && len(t.params.Subnets.Tags) > 0},
		{"ipamConfiguration", t.params.IPAMConfiguration != nil},
	} {
		if field.set {
			return &InvalidError{Object: t.given.object, Field: "spec." + field.name + " of its IngressClassParams", Value: "set", Problem: problem, Remedy: remedy}
		}
	}
	return t.refuseGroup()
}

func (t *translation) refuseGroup() error {
	const remedy = "remove it: for now every Ingress has a load balancer of its own"
	if t.params.Group != nil {
		return &InvalidError{Object: t.given.object, Field: "group.name of its IngressClassParams", Value: t.params.Group.Name, Problem: "groups of several Ingresses are not supported yet", Remedy: remedy}
	}
	if _, ok := t.given.get("group.name"); ok {
		return t.given.invalid("group.name", "groups of several Ingresses are not supported yet", remedy)
	}
	for _, f := range t.objects.Ingress.Finalizers {
		if strings.HasPrefix(f, groupFinalizerPrefix) {
			return &InvalidError{Object: t.given.object, Field: "metadata.finalizers", Value: f, Problem: "it is still a member of a group, which is not supported yet", Remedy: "let it leave the group before handing it over"}
		}
	}
	return nil
}

// mayLeave refuses to delete a load balancer that the user protects.
func (t *translation) mayLeave() error {
	attributes, err := t.given.pairs("load-balancer-attributes")
	if err == nil && attributes["deletion_protection.enabled"] == "true" {
		return t.given.invalid("load-balancer-attributes", "deletion_protection.enabled=true protects the load balancer from being deleted", "set it to false to let the Ingress go")
	}
	return nil
}

func (t *translation) warnUnsupported(params *elbv2.IngressClassParams) {
	for _, key := range unsupported(t.objects.Ingress.Annotations, onIngress, onTargetGroup) {
		t.warn(ReasonUnsupportedAnnotation, "annotation %s is not supported yet and has no effect", key)
	}
	for _, name := range ServiceNames(t.objects) {
		if svc := t.objects.Services[name]; svc != nil {
			for _, key := range unsupported(svc.Annotations, onTargetGroup) {
				t.warn(ReasonUnsupportedAnnotation, "annotation %s of Service %s is not supported yet and has no effect", key, name)
			}
		}
	}
	if params == nil {
		return
	}
	p := params.Spec
	for field, set := range map[string]bool{
		"listeners": len(p.Listeners) > 0, "minimumLoadBalancerCapacity": p.MinimumLoadBalancerCapacity != nil,
	} {
		if set {
			t.warn(ReasonUnsupportedAnnotation, "spec.%s of IngressClassParams %s is not supported yet and has no effect", field, params.Name)
		}
	}
	slices.SortStableFunc(t.events, func(a, b Event) int { return strings.Compare(a.Message, b.Message) })
}

// tags are the tags of one resource: the user's, over them those of the class, over them (or below all) the
// controller's defaults, and above all the tracking tags.
func (t *translation) tags(given annotations, resourceID string) (map[string]string, error) {
	tags, err := given.pairs("tags")
	if err != nil {
		return nil, err
	}
	for _, key := range t.settings.ExternalTags {
		if _, ours := tags[key]; ours {
			return nil, given.invalid("tags", "the tag "+key+" is managed by somebody else (--external-managed-tags)", "leave it out")
		}
	}
	out := map[string]string{}
	if t.settings.DefaultTagsLowPriority {
		maps.Copy(out, t.settings.DefaultTags)
	}
	maps.Copy(out, tags)
	for _, tag := range t.params.Tags {
		if !slices.Contains(t.settings.ExternalTags, tag.Key) {
			out[tag.Key] = tag.Value
		}
	}
	if !t.settings.DefaultTagsLowPriority {
		maps.Copy(out, t.settings.DefaultTags)
	}
	maps.Copy(out, model.TrackingTags(t.settings.Cluster, t.stackID, resourceID))
	return out, nil
}

func (t *translation) service(name string) *corev1.Service { return t.objects.Services[name] }

func sortedValues[T any](m map[string]T) []T {
	var out []T
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[k])
	}
	return out
}
