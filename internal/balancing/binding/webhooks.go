package binding

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	registration "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	elbv2 "github.com/lockstep-delivery/lockstep/api/elbv2/v1beta1"
	rollouts "github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/internal/kube"
)

// Webhooks are the admission webhooks of pods, TargetGroupBindings and IngressClassParams. The controller
// must have been set up.
func (c *Controller) Webhooks(scheme *runtime.Scheme) []kube.Webhook {
	decoder := admission.NewDecoder(scheme)
	rules := func(group, version, resource string, scope registration.ScopeType, operations ...registration.OperationType) []registration.RuleWithOperations {
		return []registration.RuleWithOperations{{Operations: operations, Rule: registration.Rule{
			APIGroups: []string{group}, APIVersions: []string{version}, Resources: []string{resource}, Scope: &scope}}}
	}
	bindings := rules("elbv2.k8s.aws", "v1beta1", "targetgroupbindings", registration.NamespacedScope, registration.Create, registration.Update)
	params := rules("elbv2.k8s.aws", "v1beta1", "ingressclassparams", registration.ClusterScope, registration.Create, registration.Update)
	return []kube.Webhook{{
		Name: "mpod.elbv2.k8s.aws", Path: "/mutate-v1-pod", Mutating: true, FailurePolicy: registration.Ignore,
		Rules:             rules("", "v1", "pods", registration.NamespacedScope, registration.Create),
		NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{elbv2.LabelReadinessGateInject: "enabled"}},
		Handler:           admission.HandlerFunc(func(ctx context.Context, r admission.Request) admission.Response { return c.admitPod(ctx, decoder, r) }),
	}, {
		Name: "mtargetgroupbinding.elbv2.k8s.aws", Path: "/mutate-elbv2-k8s-aws-v1beta1-targetgroupbinding", Mutating: true,
		FailurePolicy: registration.Fail, Rules: bindings,
		Handler: admission.HandlerFunc(func(ctx context.Context, r admission.Request) admission.Response {
			return c.defaultBinding(ctx, decoder, r)
		}),
	}, {
		Name: "vtargetgroupbinding.elbv2.k8s.aws", Path: "/validate-elbv2-k8s-aws-v1beta1-targetgroupbinding",
		FailurePolicy: registration.Fail, Rules: bindings,
		Handler: admission.HandlerFunc(func(ctx context.Context, r admission.Request) admission.Response {
			return c.admitBinding(ctx, decoder, r)
		}),
	}, {
		Name: "vingressclassparams.elbv2.k8s.aws", Path: "/validate-elbv2-k8s-aws-v1beta1-ingressclassparams",
		FailurePolicy: registration.Fail, Rules: params,
		Handler: admission.HandlerFunc(func(_ context.Context, r admission.Request) admission.Response { return admitParams(decoder, r) }),
	}}
}

// readWithin bounds the reads of an admission: the API server waits 10 s for the answer, and then makes the pod
// without any gate.
const readWithin = 5 * time.Second

// admitPod gives a new pod a readiness gate for each ip binding whose Service selects it now. Gates of
// version 1 controllers are taken away: nobody answers them.
//
// When the bindings or Services cannot be read at all, the pod is refused. A pod gets its gates now or never, and
// one without them counts as available before its target is healthy: whoever replaces pods by that takes the old
// ones away too soon, and requests are lost. A refused pod is made again by its ReplicaSet or other controller,
// within a second at first. Both reads are of the cache, which fails only while the process ends: the next try
// finds another replica, or none, and then the failure policy has the pod made. No pod is refused for long.
func (c *Controller) admitPod(ctx context.Context, decoder admission.Decoder, r admission.Request) admission.Response {
	pod := &corev1.Pod{}
	if err := decoder.Decode(r, pod); err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	ctx, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	var list elbv2.TargetGroupBindingList
	if err := c.Client.List(ctx, &list, client.InNamespace(r.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return admission.Errored(http.StatusInternalServerError, fmt.Errorf("cannot list the bindings of namespace %s: %w", r.Namespace, err))
	}
	gates := slices.DeleteFunc(slices.Clone(pod.Spec.ReadinessGates), func(g corev1.PodReadinessGate) bool {
		return strings.HasPrefix(string(g.ConditionType), elbv2.LegacyReadinessGatePrefix)
	})
	for i := range list.Items {
		b := &list.Items[i]
		if b.Spec.TargetType == nil || *b.Spec.TargetType != elbv2.TargetTypeIP || b.DeletionTimestamp != nil {
			continue
		}
		selected, err := c.selectsNow(ctx, types.NamespacedName{Namespace: r.Namespace, Name: b.Spec.ServiceRef.Name}, pod)
		if err != nil {
			return admission.Errored(http.StatusInternalServerError, err)
		}
		gate := corev1.PodReadinessGate{ConditionType: elbv2.ReadinessGate(b.Name)}
		if selected && !slices.Contains(gates, gate) {
			gates = append(gates, gate)
		}
	}
	if slices.Equal(gates, pod.Spec.ReadinessGates) {
		return admission.Allowed("")
	}
	pod.Spec.ReadinessGates = gates
	return patched(r, pod)
}

// selectsNow says whether a Service selects a pod. Where that hangs on the version, which a rollout changes
// just before it creates pods, the Service is read from the API server; when that fails, it may select the pod: a
// gate too many is answered with NotNeeded, one too few can never be added.
func (c *Controller) selectsNow(ctx context.Context, key types.NamespacedName, pod *corev1.Pod) (bool, error) {
	service := &corev1.Service{}
	err := c.Client.Get(ctx, key, service)
	if err == nil && selects(service, pod, true) && service.Spec.Selector[rollouts.HashLabel] != "" {
		service = &corev1.Service{}
		if err = c.Live.Get(ctx, key, service); client.IgnoreNotFound(err) != nil {
			c.Logger.Warn("a pod gets a readiness gate that it may not need, since its Service cannot be read", "service", key.String(), "pod", cmp.Or(pod.Name, pod.GenerateName), "error", err)
			return true, nil
		}
	}
	if client.IgnoreNotFound(err) != nil {
		return false, fmt.Errorf("cannot read Service %s: %w", key, err)
	}
	return selects(service, pod, false), nil
}

// patched answers with the difference between the object as it came and as it should be.
func patched(r admission.Request, object any) admission.Response {
	content, err := json.Marshal(object)
	if err != nil {
		return admission.Errored(http.StatusInternalServerError, err)
	}
	return admission.PatchResponseFromRaw(r.Object.Raw, content)
}

// defaultBinding fills in what AWS knows of the target group.
func (c *Controller) defaultBinding(ctx context.Context, decoder admission.Decoder, r admission.Request) admission.Response {
	b := &elbv2.TargetGroupBinding{}
	if err := decoder.Decode(r, b); err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	// A binding that is being deleted is only written to let it go, also when its target group is gone.
	if b.DeletionTimestamp != nil {
		return admission.Allowed("")
	}
	spec := &b.Spec
	complete := spec.TargetGroupARN != "" && spec.TargetType != nil && spec.IPAddressType != nil && spec.VpcID != "" && spec.TargetGroupProtocol != nil
	if complete || spec.IamRoleArnToAssume != "" {
		return admission.Allowed("")
	}
	if spec.TargetGroupARN == "" && spec.TargetGroupName == "" {
		return admission.Denied("spec.targetGroupARN and spec.targetGroupName are both empty: set one of them")
	}
	group, err := c.Cloud.TargetGroup(ctx, spec.TargetGroupARN)
	if spec.TargetGroupARN == "" {
		group, err = c.Cloud.TargetGroupByName(ctx, spec.TargetGroupName)
	}
	if err != nil {
		return admission.Denied(fmt.Sprintf("cannot look up target group %s: %v", cmp.Or(spec.TargetGroupARN, spec.TargetGroupName), err))
	}
	spec.TargetGroupARN = group.ARN
	if spec.TargetType == nil {
		t := elbv2.TargetType(group.TargetType)
		if t != elbv2.TargetTypeIP && t != elbv2.TargetTypeInstance {
			return admission.Denied(fmt.Sprintf("target group %s has targets of type %s: only instance and ip can be bound", group.ARN, t))
		}
		spec.TargetType = &t
	}
	if spec.IPAddressType == nil {
		spec.IPAddressType = new(elbv2.TargetGroupIPAddressType(cmp.Or(group.IPAddressType, string(elbv2.TargetGroupIPAddressTypeIPv4))))
	}
	if spec.VpcID == "" {
		spec.VpcID = group.VPCID
	}
	if spec.TargetGroupProtocol == nil {
		spec.TargetGroupProtocol = new(elbv2.Protocol(group.Protocol))
	}
	return patched(r, b)
}

// admitBinding refuses bindings that could never work, naming field, value and remedy.
func (c *Controller) admitBinding(ctx context.Context, decoder admission.Decoder, r admission.Request) admission.Response {
	b, old := &elbv2.TargetGroupBinding{}, &elbv2.TargetGroupBinding{}
	if err := decoder.Decode(r, b); err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	if b.DeletionTimestamp != nil {
		return admission.Allowed("")
	}
	if r.Operation == admissionv1.Update {
		if err := decoder.DecodeRaw(r.OldObject, old); err != nil {
			return admission.Errored(http.StatusBadRequest, err)
		}
		if why := changedForbidden(old.Spec, b.Spec); why != "" {
			return admission.Denied(why)
		}
	}
	if why := invalidBinding(b.Spec); why != "" {
		return admission.Denied(why)
	}
	if r.Operation == admissionv1.Create {
		if why := c.mismatched(ctx, b.Spec); why != "" {
			return admission.Denied(why)
		}
	}
	var list elbv2.TargetGroupBindingList
	if err := c.Client.List(ctx, &list, client.MatchingFields{indexARN: b.Spec.TargetGroupARN}); err != nil {
		return admission.Errored(http.StatusInternalServerError, fmt.Errorf("cannot list the bindings of %s: %w", b.Spec.TargetGroupARN, err))
	}
	for _, other := range list.Items {
		same := other.Namespace == r.Namespace && other.Name == r.Name
		if !same && !(other.Spec.MultiClusterTargetGroup && b.Spec.MultiClusterTargetGroup) {
			return admission.Denied(fmt.Sprintf("target group %s is bound by TargetGroupBinding %s/%s already: delete that first, or set spec.multiClusterTargetGroup on both",
				b.Spec.TargetGroupARN, other.Namespace, other.Name))
		}
	}
	return admission.Allowed("")
}

// changedForbidden names an immutable field that has changed.
func changedForbidden(old, spec elbv2.TargetGroupBindingSpec) string {
	fixed := func(field string, before, after string) string {
		if before == "" || before == after {
			return ""
		}
		return fmt.Sprintf("spec.%s cannot be changed from %q to %q: create another TargetGroupBinding", field, before, after)
	}
	for _, why := range []string{
		fixed("targetGroupARN", old.TargetGroupARN, spec.TargetGroupARN),
		fixed("targetType", string(value(old.TargetType)), string(value(spec.TargetType))),
		fixed("ipAddressType", string(value(old.IPAddressType)), string(value(spec.IPAddressType))),
		fixed("vpcID", old.VpcID, spec.VpcID),
	} {
		if why != "" {
			return why
		}
	}
	return ""
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// invalidBinding judges a spec by itself.
func invalidBinding(spec elbv2.TargetGroupBindingSpec) string {
	instance := value(spec.TargetType) == elbv2.TargetTypeInstance
	switch {
	case spec.TargetGroupARN == "":
		return "spec.targetGroupARN is empty: set it, or spec.targetGroupName"
	case spec.TargetType == nil:
		return "spec.targetType is empty: set it to ip or instance"
	case spec.NodeSelector != nil && !instance:
		return "spec.nodeSelector is set, but spec.targetType is ip: nodes are only chosen for instance targets; remove spec.nodeSelector"
	case spec.IamRoleArnToAssume != "" && instance:
		return "spec.iamRoleArnToAssume is set, but spec.targetType is instance: only ip targets can be in another account"
	case spec.VpcID != "" && !validVPC(spec.VpcID):
		return fmt.Sprintf("spec.vpcID %q is not a VPC's id: it is vpc- and 8, 17 or 32 hexadecimal digits", spec.VpcID)
	}
	return ""
}

func validVPC(id string) bool {
	digits, ok := strings.CutPrefix(id, "vpc-")
	return ok && slices.Contains([]int{8, 17, 32}, len(digits)) && strings.Trim(digits, "0123456789abcdef") == ""
}

// mismatched names a field that contradicts what AWS says of the target group. A target group that cannot
// be looked up is not held against the user.
func (c *Controller) mismatched(ctx context.Context, spec elbv2.TargetGroupBindingSpec) string {
	if spec.IamRoleArnToAssume != "" {
		return ""
	}
	group, err := c.Cloud.TargetGroup(ctx, spec.TargetGroupARN)
	if err != nil {
		return ""
	}
	differs := func(field, is, want string) string {
		if is == "" || want == "" || is == want {
			return ""
		}
		return fmt.Sprintf("spec.%s is %q, but target group %s has %q: correct it or leave it out", field, is, spec.TargetGroupARN, want)
	}
	for _, why := range []string{
		differs("ipAddressType", string(value(spec.IPAddressType)), group.IPAddressType),
		differs("vpcID", spec.VpcID, group.VPCID),
		differs("targetGroupProtocol", string(value(spec.TargetGroupProtocol)), group.Protocol),
	} {
		if why != "" {
			return why
		}
	}
	if strings.Contains(group.Protocol, "QUIC") && value(spec.TargetType) == elbv2.TargetTypeInstance {
		return fmt.Sprintf("target group %s has protocol %s, which needs spec.targetType ip", spec.TargetGroupARN, group.Protocol)
	}
	return ""
}

// admitParams refuses IngressClassParams that no Ingress could use.
func admitParams(decoder admission.Decoder, r admission.Request) admission.Response {
	p := &elbv2.IngressClassParams{}
	if err := decoder.Decode(r, p); err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	if why := invalidParams(p.Spec); why != "" {
		return admission.Denied(why)
	}
	return admission.Allowed("")
}

func invalidParams(spec elbv2.IngressClassParamsSpec) string {
	for i, cidr := range spec.InboundCIDRs {
		prefix, err := netip.ParsePrefix(cidr)
		if err != nil {
			return fmt.Sprintf("spec.inboundCIDRs[%d] %q is not a CIDR, such as 10.0.0.0/8", i, cidr)
		}
		if prefix != prefix.Masked() {
			return fmt.Sprintf("spec.inboundCIDRs[%d] %q has host bits set: write %s", i, cidr, prefix.Masked())
		}
	}
	s := spec.Subnets
	if s == nil {
		return ""
	}
	switch {
	case len(s.IDs) > 0 && s.Tags != nil:
		return "spec.subnets has both ids and tags: remove one of them"
	case len(s.IDs) == 0 && s.Tags == nil:
		return "spec.subnets has neither ids nor tags: set one of them"
	case s.Tags != nil && len(s.Tags) == 0:
		return "spec.subnets.tags is empty: name at least one tag"
	}
	if id, twice := repeated(s.IDs); twice {
		return fmt.Sprintf("spec.subnets.ids has %s twice", id)
	}
	for key, values := range s.Tags {
		if v, twice := repeated(values); twice {
			return fmt.Sprintf("spec.subnets.tags[%s] has %s twice", key, v)
		}
	}
	return ""
}

func repeated[T ~string](list []T) (T, bool) {
	seen := map[T]bool{}
	for _, v := range list {
		if seen[v] {
			return v, true
		}
		seen[v] = true
	}
	return "", false
}
