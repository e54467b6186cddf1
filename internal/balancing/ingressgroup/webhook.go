package ingressgroup

import (
	"context"
	"net/http"

	admissionv1 "k8s.io/api/admission/v1"
	registration "k8s.io/api/admissionregistration/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/lockstep-delivery/lockstep/internal/balancing/ingress"
	"github.com/lockstep-delivery/lockstep/internal/kube"
)

// Webhook refuses Ingresses of ours that could never work, or that the cluster's owner does not want.
func Webhook(reader client.Client, scheme *runtime.Scheme, s ingress.Settings, a ingress.Admission) kube.Webhook {
	decoder := admission.NewDecoder(scheme)
	objects := &Controller{client: reader}
	return kube.Webhook{
		Name: "vingress.elbv2.k8s.aws", Path: "/validate-networking-v1-ingress", FailurePolicy: registration.Fail,
		Rules: []registration.RuleWithOperations{{
			Operations: []registration.OperationType{registration.Create, registration.Update},
			Rule: registration.Rule{APIGroups: []string{networkingv1.GroupName}, APIVersions: []string{"v1"}, Resources: []string{"ingresses"},
				Scope: new(registration.NamespacedScope)},
		}},
		Handler: admission.HandlerFunc(func(ctx context.Context, r admission.Request) admission.Response {
			now := &networkingv1.Ingress{}
			if err := decoder.Decode(r, now); err != nil {
				return admission.Errored(http.StatusBadRequest, err)
			}
			now.Namespace = r.Namespace
			var before *networkingv1.Ingress
			if r.Operation == admissionv1.Update {
				before = &networkingv1.Ingress{}
				if err := decoder.DecodeRaw(r.OldObject, before); err != nil {
					return admission.Errored(http.StatusBadRequest, err)
				}
			}
			o, err := objects.kubernetesObjects(ctx, now)
			if err != nil {
				return admission.Errored(http.StatusInternalServerError, err)
			}
			if err := ingress.Refused(s, a, o, before); err != nil {
				return admission.Denied(err.Error())
			}
			return admission.Allowed("")
		}),
	}
}
