package ingress

import (
	networkingv1 "k8s.io/api/networking/v1"
)

// Admission says which Ingresses may be written at all.
type Admission struct {
	// NoClassAnnotation refuses new uses of the class annotation (--disable-ingress-class-annotation).
	NoClassAnnotation bool
	// NoGroupAnnotation refuses new uses of annotation group.name (--disable-ingress-group-name-annotation).
	NoGroupAnnotation bool
}

// Refused says why an Ingress of ours must not be written as it is, and nil when it may. before is what it was,
// nil for a new one: what it had already is not held against it, since then nobody could change anything else of
// it, not even its weights.
func Refused(s Settings, a Admission, o Objects, before *networkingv1.Ingress) error {
	if o.Ingress.DeletionTimestamp != nil {
		return nil
	}
	if before == nil {
		before = &networkingv1.Ingress{}
	}
	ours, _, err := ofOurClass(s, o)
	if err != nil {
		if sameClass(before, o.Ingress) || o.Ingress.Spec.IngressClassName == nil {
			return nil
		}
		return err
	}
	if !ours {
		return nil
	}
	given := ingressAnnotations(o)
	if class, used := o.Ingress.Annotations[annotationClass]; a.NoClassAnnotation && used && !has(before, annotationClass, class) {
		return &InvalidError{Object: given.object, Field: "annotation " + annotationClass, Value: class, Problem: "new Ingresses must not use it in this cluster (--disable-ingress-class-annotation)",
			Remedy: "set spec.ingressClassName instead"}
	}
	if group, used := given.get("group.name"); a.NoGroupAnnotation && used && !has(before, Prefix+"group.name", group) {
		return given.invalid("group.name", "new Ingresses must not use it in this cluster (--disable-ingress-group-name-annotation)", "leave it out; the IngressClassParams of a class can name a group")
	}
	visitBackends(o, func(service, _ string) {
		suffix := conditionPrefix + service
		text, found := given.get(suffix)
		if err != nil || !found || has(before, Prefix+suffix, text) {
			return
		}
		if _, malformed := parseConditions(text); malformed != nil {
			err = given.invalid(suffix, malformed.Error(), "correct the conditions")
		}
	})
	return err
}

// sameClass says that two states of an Ingress ask for the same class.
func sameClass(a, b *networkingv1.Ingress) bool {
	named := func(i *networkingv1.Ingress) string {
		if i.Spec.IngressClassName == nil {
			return ""
		}
		return *i.Spec.IngressClassName
	}
	return named(a) == named(b) && a.Annotations[annotationClass] == b.Annotations[annotationClass]
}

func has(i *networkingv1.Ingress, annotation, value string) bool {
	v, found := i.Annotations[annotation]
	return found && v == value
}
