package ingress

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	elbv2 "github.com/lockstep-delivery/lockstep/api/elbv2/v1beta1"
)

// The names by which Ingresses, their classes and earlier controllers find each other.
const (
	// Finalizer keeps an Ingress until its AWS resources are gone (implicit groups).
	Finalizer = "ingress.k8s.aws/resources"
	// ClassController is spec.controller of the IngressClasses that are served.
	ClassController = "ingress.k8s.aws/alb"

	annotationClass        = "kubernetes.io/ingress.class"
	annotationDefaultClass = "ingressclass.kubernetes.io/is-default-class"
	defaultClassName       = "alb"
	groupFinalizerPrefix   = "group.ingress.k8s.aws/"
)

// Settings are the controller's own options; the comments name the flags of the same meaning.
type Settings struct {
	// Cluster names the cluster in tags and names (--cluster-name). Required.
	Cluster string
	// IngressClass is the value of the class annotation that is served (--ingress-class, default alb). With
	// the value NoClass, Ingresses without any class are served as well.
	IngressClass string
	// DefaultTargetType is used where nothing else says (--default-target-type); empty means instance.
	DefaultTargetType string
	// DefaultScheme is used where nothing else says (--default-load-balancer-scheme); empty means internal.
	DefaultScheme string
	// DefaultSSLPolicy of HTTPS listeners (--default-ssl-policy).
	DefaultSSLPolicy string
	// DefaultTags are put on everything and win over the user's tags (--default-tags).
	DefaultTags map[string]string
	// DefaultTagsLowPriority lets the user's tags win over DefaultTags (feature gate EnableDefaultTagsLowPriority).
	DefaultTagsLowPriority bool
	// ExternalTags are keys that somebody else manages on our resources (--external-managed-tags): users cannot set
	// them here, and whoever applies the model neither changes nor removes them.
	ExternalTags []string
	// BackendSecurityGroup is used as the shared group of the cluster's load balancers instead of one of our own
	// (--backend-security-group).
	BackendSecurityGroup string
	// NoBackendSecurityGroup makes the managed groups the sources of traffic to the targets
	// (--enable-backend-security-group=false).
	NoBackendSecurityGroup bool
	// ManageBackendRules opens the targets also to load balancers with security groups of the user's choice, where
	// the Ingress does not say (--enable-manage-backend-security-group-rules).
	ManageBackendRules bool
	// StrictServices and StrictActions make a missing Service, or a missing action of a rule, an error, where
	// otherwise the rule answers 503 (--tolerate-non-existent-backend-service and -action set to false).
	StrictServices bool
	StrictActions  bool
}

// NoClass is the value of Settings.IngressClass that stands for --ingress-class="".
const NoClass = "-"

// Objects are the Kubernetes objects that decide over one Ingress.
type Objects struct {
	Ingress *networkingv1.Ingress
	// Classes are all IngressClasses of the cluster.
	Classes []networkingv1.IngressClass
	// Params are the IngressClassParams that the classes name, by name.
	Params map[string]*elbv2.IngressClassParams
	// Namespace is the Ingress's; it is only looked at when the class has a namespace selector.
	Namespace *corev1.Namespace
	// Services of the Ingress's namespace, by name; at least those of ServiceNames.
	Services map[string]*corev1.Service
}

// Claim says whose an Ingress is.
type Claim int

// The claims on an Ingress.
const (
	// Foreign: not ours, and nothing of ours hangs on it.
	Foreign Claim = iota
	// Member: a load balancer is wanted.
	Member
	// Leaving: being deleted, or no longer of our class, and what it has in AWS must go.
	Leaving
)

func (c Claim) String() string {
	return [...]string{"foreign", "member", "leaving"}[c]
}

// Claimed says whether the Ingress is ours and with which parameters of its class. An error means that the
// class cannot be used: the Ingress is left alone as it is.
func Claimed(s Settings, o Objects) (Claim, *elbv2.IngressClassParams, error) {
	held := hasFinalizer(o.Ingress)
	if o.Ingress.DeletionTimestamp != nil {
		if held {
			return Leaving, nil, nil
		}
		return Foreign, nil, nil
	}
	ours, params, err := ofOurClass(s, o)
	switch {
	case err != nil && held:
		return Member, nil, err
	case err != nil:
		return Foreign, nil, err
	case ours:
		return Member, params, nil
	case held:
		return Leaving, nil, nil
	}
	return Foreign, nil, nil
}

func hasFinalizer(ingress *networkingv1.Ingress) bool {
	for _, f := range ingress.Finalizers {
		if f == Finalizer {
			return true
		}
	}
	return false
}

func ofOurClass(s Settings, o Objects) (bool, *elbv2.IngressClassParams, error) {
	wanted := s.IngressClass
	if wanted == "" || wanted == NoClass {
		wanted = defaultClassName
	}
	if class, ok := o.Ingress.Annotations[annotationClass]; ok {
		return class == wanted, nil, nil
	}
	if name := o.Ingress.Spec.IngressClassName; name != nil {
		for i := range o.Classes {
			if o.Classes[i].Name == *name {
				return classServed(o, &o.Classes[i])
			}
		}
		if !hasFinalizer(o.Ingress) {
			return false, nil, nil // a class that does not exist is nobody's
		}
		// Whoever installs a class anew deletes it first: that must not cost the load balancers.
		return false, nil, &InvalidError{Object: objectName(o), Field: "spec.ingressClassName", Value: *name, Problem: "no such IngressClass exists, so it is not known whether the load balancer is still wanted",
			Remedy: "create it, name another, or delete the Ingress"}
	}
	var defaults []*networkingv1.IngressClass
	for i := range o.Classes {
		if o.Classes[i].Annotations[annotationDefaultClass] == "true" {
			defaults = append(defaults, &o.Classes[i])
		}
	}
	switch {
	case len(defaults) > 1:
		return false, nil, &InvalidError{Object: objectName(o), Field: "spec.ingressClassName", Problem: "it is not set and the cluster has several default IngressClasses",
			Remedy: fmt.Sprintf("set it, or leave only one IngressClass with annotation %s", annotationDefaultClass)}
	case len(defaults) == 1:
		return classServed(o, defaults[0])
	}
	return s.IngressClass == NoClass, nil, nil
}

func classServed(o Objects, class *networkingv1.IngressClass) (bool, *elbv2.IngressClassParams, error) {
	if class.Spec.Controller != ClassController {
		return false, nil, nil
	}
	ref := class.Spec.Parameters
	if ref == nil {
		return true, nil, nil
	}
	object := "IngressClass " + class.Name
	if ref.APIGroup == nil || *ref.APIGroup != elbv2.GroupVersion.Group || ref.Kind != "IngressClassParams" {
		return false, nil, &InvalidError{Object: object, Field: "spec.parameters", Value: ref.Kind, Problem: "it is not an IngressClassParams of group " + elbv2.GroupVersion.Group,
			Remedy: "set apiGroup and kind accordingly or remove spec.parameters"}
	}
	params := o.Params[ref.Name]
	if params == nil {
		return false, nil, &InvalidError{Object: object, Field: "spec.parameters.name", Value: ref.Name, Problem: "no such IngressClassParams exists", Remedy: "create it or correct the name"}
	}
	if params.Spec.NamespaceSelector == nil {
		return true, params, nil
	}
	selector, err := metav1.LabelSelectorAsSelector(params.Spec.NamespaceSelector)
	if err != nil {
		return false, nil, &InvalidError{Object: "IngressClassParams " + params.Name, Field: "spec.namespaceSelector", Problem: err.Error(), Remedy: "correct the selector"}
	}
	if o.Namespace == nil || !selector.Matches(labels.Set(o.Namespace.Labels)) {
		return false, nil, &InvalidError{Object: objectName(o), Field: "metadata.namespace", Value: o.Ingress.Namespace,
			Problem: "the class's IngressClassParams " + params.Name + " does not select this namespace", Remedy: "label the namespace or use another class"}
	}
	return true, params, nil
}

func objectName(o Objects) string { return "Ingress " + o.Ingress.Namespace + "/" + o.Ingress.Name }
