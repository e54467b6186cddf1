package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// WebhookConfiguration is the name of the webhook configurations that are made here. Where those of the load
// balancer controller whose place this process takes exist, they are adopted instead.
const WebhookConfiguration = "lockstep-webhook"

const (
	// annotationBefore keeps, on an adopted configuration, what it said before.
	annotationBefore = "lockstep.dev/webhooks-before"
	// annotationInject has cert-manager write its own authority into the configuration.
	annotationInject = "cert-manager.io/inject-ca-from"
	fieldOwner       = "lockstep"
	// ourDomain ends the names of the webhooks of the controller whose place this process takes.
	ourDomain = ".elbv2.k8s.aws"
)

// configurationKinds are the two kinds of webhook configurations; their entries differ in nothing that is
// used here, so that both are handled as documents.
var configurationKinds = []string{"MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"}

// before is what an adopted configuration said.
type before struct {
	Webhooks []any  `json:"webhooks"`
	Inject   string `json:"inject,omitempty"`
}

// register tells the API server about the webhooks. A configuration of the controller whose place is taken
// stays in force until this process, or another replica, leads: only then nobody else answers its webhooks. Without
// a Service each process has an address of its own, and what one that answers has registered is left to it until this one leads.
func (s *webhookServer) register(ctx context.Context, authority []byte) error {
	for _, kind := range configurationKinds {
		if left, err := s.leftToAnother(ctx, kind); err != nil || left {
			if err != nil {
				return err
			}
			continue
		}
		entries, err := s.entries(kind == configurationKinds[0], bytes.TrimSpace(authority))
		if err != nil {
			return err
		}
		others, err := adoptable(ctx, s.client, kind)
		if err != nil {
			return err
		}
		if len(others) == 0 && len(entries) > 0 {
			own := document(kind)
			own.Object["webhooks"] = entries
			//lint:ignore SA1019 the whole list is ours: there is nothing that apply configurations would leave out
			if err := s.client.Patch(ctx, own, client.Apply, client.FieldOwner(fieldOwner), client.ForceOwnership); err != nil {
				return fmt.Errorf("cannot register webhooks in %s %s: %w", kind, WebhookConfiguration, err)
			}
			continue
		}
		for i := range others {
			if _, taken := others[i].GetAnnotations()[annotationBefore]; !taken && !s.leads() {
				continue
			}
			if err := s.adopt(ctx, &others[i], entries); err != nil {
				return err
			}
		}
		if s.leads() || len(entries) == 0 {
			if err := client.IgnoreNotFound(s.client.Delete(ctx, document(kind))); err != nil {
				return fmt.Errorf("cannot remove %s %s, which is not needed: %w", kind, WebhookConfiguration, err)
			}
		}
	}
	return nil
}

// leftToAnother reports that another process, at an address of its own, answers the webhooks while this one does not lead.
func (s *webhookServer) leftToAnother(ctx context.Context, kind string) (bool, error) {
	if s.options.Service != nil || s.leads() {
		return false, nil
	}
	all, err := configurations(ctx, s.client, kind)
	if err != nil {
		return false, err
	}
	for _, u := range all {
		_, adopted := u.GetAnnotations()[annotationBefore]
		if !adopted && u.GetName() != WebhookConfiguration || slices.ContainsFunc(webhooksOf(&u), s.pointsHere) {
			continue
		}
		if alive, err := anyAnswered(ctx, s.client, &u); alive || err != nil {
			return alive, err
		}
	}
	return false, nil
}

// leads reports that this process has been elected.
func (s *webhookServer) leads() bool {
	select {
	case <-s.elected:
		return true
	default:
		return false
	}
}

// document is a configuration of ours without entries.
func document(kind string) *unstructured.Unstructured {
	d := &unstructured.Unstructured{Object: map[string]any{}}
	d.SetGroupVersionKind(admissionv1.SchemeGroupVersion.WithKind(kind))
	d.SetName(WebhookConfiguration)
	return d
}

// entries are the webhooks as a configuration lists them. A process outside the cluster may end without
// anybody who takes its place: then the API server must do without its answers.
func (s *webhookServer) entries(mutating bool, authority []byte) ([]any, error) {
	var entries []any
	for _, w := range s.webhooks {
		if w.Mutating != mutating {
			continue
		}
		policy := w.FailurePolicy
		if s.options.Service == nil {
			policy = admissionv1.Ignore
		}
		entry, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&admissionv1.ValidatingWebhook{
			Name: w.Name, ClientConfig: s.clientConfig(w, authority), Rules: w.Rules, FailurePolicy: &policy,
			NamespaceSelector: w.NamespaceSelector, ObjectSelector: w.ObjectSelector,
			SideEffects: new(admissionv1.SideEffectClassNone), AdmissionReviewVersions: []string{"v1"},
		})
		if err != nil {
			return nil, fmt.Errorf("cannot write down the webhook %s: %w", w.Name, err)
		}
		entries = append(entries, entry)
	}
	return entries, nil
}

// adoptable are the configurations with webhooks of the controller whose place is taken, by whatever prefix
// they are named.
func adoptable(ctx context.Context, c client.Client, kind string) ([]unstructured.Unstructured, error) {
	all, err := configurations(ctx, c, kind)
	return slices.DeleteFunc(all, func(u unstructured.Unstructured) bool {
		return u.GetName() == WebhookConfiguration || !hasOurs(&u)
	}), err
}

func configurations(ctx context.Context, c client.Client, kind string) ([]unstructured.Unstructured, error) {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(admissionv1.SchemeGroupVersion.WithKind(kind + "List"))
	if err := c.List(ctx, list); err != nil {
		return nil, fmt.Errorf("cannot look for webhooks of another controller (needs list on %ss): %w", strings.ToLower(kind), err)
	}
	return list.Items, nil
}

// hasOurs says that a configuration has webhooks of the controller whose place is taken.
func hasOurs(u *unstructured.Unstructured) bool {
	return slices.ContainsFunc(webhooksOf(u), func(entry any) bool { return strings.HasSuffix(nameOf(entry), ourDomain) })
}

func webhooksOf(u *unstructured.Unstructured) []any {
	list, _ := u.Object["webhooks"].([]any)
	return list
}

func nameOf(entry any) string {
	m, _ := entry.(map[string]any)
	name, _ := m["name"].(string)
	return name
}

// adopt points the configuration's webhooks here, with the selectors that its user has chosen, and takes out
// those of the same controller that are not served here, since nobody answers them any more. What it said
// before is noted on it. Where somebody else writes it at the same time, it is read again.
func (s *webhookServer) adopt(ctx context.Context, u *unstructured.Unstructured, entries []any) error {
	stale := false
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		if stale {
			if err := s.client.Get(ctx, client.ObjectKeyFromObject(u), u); err != nil {
				return err
			}
		}
		stale = true
		return s.redirect(ctx, u, entries)
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("cannot take over %s %s: %w", u.GetKind(), u.GetName(), err)
	}
	return nil
}

func (s *webhookServer) redirect(ctx context.Context, u *unstructured.Unstructured, entries []any) error {
	was := u.DeepCopy()
	annotations := u.GetAnnotations()
	if _, noted := annotations[annotationBefore]; !noted {
		note, err := json.Marshal(before{Webhooks: webhooksOf(u), Inject: annotations[annotationInject]})
		if err != nil {
			return fmt.Errorf("cannot note what it says: %w", err)
		}
		if annotations == nil {
			annotations = map[string]string{}
		}
		annotations[annotationBefore] = string(note)
	}
	delete(annotations, annotationInject)
	u.SetAnnotations(annotations)
	var kept []any
	for _, theirs := range webhooksOf(was) {
		name := nameOf(theirs)
		at := slices.IndexFunc(entries, func(entry any) bool { return nameOf(entry) == name })
		switch {
		case at >= 0:
			kept = append(kept, s.redirected(theirs, entries[at]))
		case strings.HasSuffix(name, ourDomain):
			s.options.Logger.Warn("a webhook of the controller whose place is taken is not served and is taken out", "webhook", name, "configuration", u.GetName())
		default:
			kept = append(kept, theirs)
		}
	}
	u.Object["webhooks"] = kept
	if equality.Semantic.DeepEqual(was.Object, u.Object) {
		return nil
	}
	if err := s.client.Update(ctx, u, client.FieldOwner(fieldOwner)); err != nil {
		return err
	}
	s.options.Logger.Info("webhooks are taken over", "kind", u.GetKind(), "configuration", u.GetName())
	return nil
}

func (s *webhookServer) redirected(theirs, ours any) any {
	entry := runtime.DeepCopyJSON(theirs.(map[string]any))
	fields := []string{"clientConfig", "admissionReviewVersions"}
	if s.options.Service == nil {
		fields = append(fields, "failurePolicy")
	}
	for _, field := range fields {
		entry[field] = ours.(map[string]any)[field]
	}
	return entry
}

// withdraw takes back what register wrote when nobody remains who answers: what was made is removed, what was
// adopted says again what it said before. What another process has meanwhile pointed to itself stays.
func (s *webhookServer) withdraw(ctx context.Context) error {
	if svc := s.options.Service; svc != nil {
		if remains, err := s.anotherRemains(ctx, svc); err != nil || remains {
			return err
		}
	}
	return eachWritten(ctx, s.client, func(u *unstructured.Unstructured) (bool, error) {
		if emptied(u) { // it does not say whose it is; without a Service the leader has written it last
			return s.options.Service != nil || s.leads(), nil
		}
		return slices.ContainsFunc(webhooksOf(u), s.pointsHere), nil
	})
}

// emptied says that all webhooks have been taken out of an adopted configuration that could be answered here.
func emptied(u *unstructured.Unstructured) bool {
	return u.GetName() != WebhookConfiguration && !hasOurs(u)
}

// togetherWithin is how long replicas that are stopped at the same time take to see that of each other.
const togetherWithin = 1500 * time.Millisecond

// anotherRemains reports whether another replica goes on behind the Service. One that seems to is given the time
// to be marked as leaving, as when all are stopped at once; meanwhile this one goes on answering.
func (s *webhookServer) anotherRemains(ctx context.Context, svc *ServicePort) (bool, error) {
	own, sure := ownAddresses(), time.After(togetherWithin)
	again := time.NewTicker(togetherWithin / 5)
	defer again.Stop()
	for {
		behind, err := endpoints(ctx, s.client, svc.Namespace, svc.Name)
		if err != nil || !slices.ContainsFunc(behind, func(ip string) bool { return !slices.Contains(own, ip) }) {
			return false, err
		}
		select {
		case <-sure:
			return true, nil
		case <-again.C:
		}
	}
}

func (s *webhookServer) pointsHere(entry any) bool {
	to := addressOf(entry)
	if svc := s.options.Service; svc != nil {
		return to.Service != nil && to.Service.Namespace == svc.Namespace && to.Service.Name == svc.Name
	}
	return to.URL != nil && strings.HasPrefix(*to.URL, "https://"+s.options.Listener.Addr().String()+"/")
}

func addressOf(entry any) admissionv1.WebhookClientConfig {
	var w admissionv1.ValidatingWebhook
	if m, ok := entry.(map[string]any); ok {
		_ = runtime.DefaultUnstructuredConverter.FromUnstructured(m, &w) // it came from the API server
	}
	return w.ClientConfig
}

// eachWritten undoes every configuration that a process like this one has written and that is chosen; those that have
// been emptied are asked about last.
func eachWritten(ctx context.Context, c client.Client, chosen func(*unstructured.Unstructured) (bool, error)) error {
	var written, empty []unstructured.Unstructured
	for _, kind := range configurationKinds {
		all, err := configurations(ctx, c, kind)
		if err != nil {
			return err
		}
		for _, u := range all {
			_, adopted := u.GetAnnotations()[annotationBefore]
			switch {
			case adopted && emptied(&u):
				empty = append(empty, u)
			case adopted || u.GetName() == WebhookConfiguration:
				written = append(written, u)
			}
		}
	}
	var failed []error
	for _, u := range append(written, empty...) {
		undone, err := chosen(&u)
		if err == nil && undone {
			err = undo(ctx, c, &u)
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// undo removes a configuration that was made, or gives an adopted one back. Somebody else's write in between wins.
func undo(ctx context.Context, c client.Client, u *unstructured.Unstructured) error {
	var err error
	if u.GetName() == WebhookConfiguration {
		uid, version := u.GetUID(), u.GetResourceVersion()
		err = c.Delete(ctx, u, client.Preconditions{UID: &uid, ResourceVersion: &version})
	} else {
		var said before
		annotations := u.GetAnnotations()
		if err := json.Unmarshal([]byte(annotations[annotationBefore]), &said); err != nil {
			return fmt.Errorf("cannot read annotation %s of %s %s: %w", annotationBefore, u.GetKind(), u.GetName(), err)
		}
		if delete(annotations, annotationBefore); said.Inject != "" {
			annotations[annotationInject] = said.Inject
		}
		u.SetAnnotations(annotations)
		u.Object["webhooks"] = said.Webhooks
		err = c.Update(ctx, u, client.FieldOwner(fieldOwner))
	}
	if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return fmt.Errorf("cannot withdraw the webhooks in %s %s: %w", u.GetKind(), u.GetName(), err)
}

// endpoints are the addresses behind a Service that are not about to leave, ready or not.
func endpoints(ctx context.Context, c client.Client, namespace, name string) ([]string, error) {
	var list discoveryv1.EndpointSliceList
	if err := c.List(ctx, &list, client.InNamespace(namespace), client.MatchingLabels{discoveryv1.LabelServiceName: name}); err != nil {
		return nil, fmt.Errorf("cannot see who is behind Service %s/%s (needs list on endpointslices): %w", namespace, name, err)
	}
	var behind []string
	for _, slice := range list.Items {
		for _, e := range slice.Endpoints {
			if e.Conditions.Terminating == nil || !*e.Conditions.Terminating {
				behind = append(behind, e.Addresses...)
			}
		}
	}
	return behind, nil
}

// ownAddresses are the addresses of this pod.
func ownAddresses() []string {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var own []string
	for _, a := range all {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil {
			own = append(own, prefix.Addr().String())
		}
	}
	return own
}

// The Services that are looked for in the controller's namespace when none is named: ours, and that of the
// controller whose place is taken.
var defaultWebhookServices = []string{"lockstep-webhook-service", "aws-load-balancer-webhook-service"}

// FindWebhookService finds the Service in front of the webhooks of a controller that runs in the cluster.
func FindWebhookService(ctx context.Context, reader client.Reader, namespace string) (*ServicePort, error) {
	for _, name := range defaultWebhookServices {
		var service corev1.Service
		switch err := reader.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &service); {
		case err == nil && len(service.Spec.Ports) > 0:
			return &ServicePort{Namespace: namespace, Name: name, Port: service.Spec.Ports[0].Port}, nil
		case err != nil && !apierrors.IsNotFound(err):
			return nil, fmt.Errorf("cannot look for the webhooks' Service %s/%s: %w", namespace, name, err)
		}
	}
	return nil, fmt.Errorf("there is no Service %s in namespace %s in front of the webhooks", strings.Join(defaultWebhookServices, " or "), namespace)
}
