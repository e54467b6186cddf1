package traffic

import (
	"strings"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
)

func router() ALB {
	return NewALB("shop", &v1alpha1.CanaryStrategy{StableService: "stable", TrafficRouting: &v1alpha1.RolloutTrafficRouting{ALB: &v1alpha1.ALBTrafficRouting{}}})
}

func TestKeyIsPrefixAndRootService(t *testing.T) {
	if got := router().Key; got != "alb.ingress.kubernetes.io/actions.stable" {
		t.Error(got)
	}
	r := NewALB("shop", &v1alpha1.CanaryStrategy{StableService: "stable", TrafficRouting: &v1alpha1.RolloutTrafficRouting{ALB: &v1alpha1.ALBTrafficRouting{RootService: "root", AnnotationPrefix: "x.io"}}})
	if r.Key != "x.io/actions.root" {
		t.Error(r.Key)
	}
}

func TestBookkeepingKeepsOthers(t *testing.T) {
	i := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{v1alpha1.ManagedALBAnnotation: `{"other":["k"]}`}}}
	r := router()
	if there, err := r.Recorded(i); there || err != nil {
		t.Errorf("recorded before it was, %v", err)
	}
	got, err := r.record(i)
	if err != nil || got != `{"other":["k"],"shop":["alb.ingress.kubernetes.io/actions.stable"]}` {
		t.Fatalf("%s %v", got, err)
	}
	i.Annotations[v1alpha1.ManagedALBAnnotation] = got
	if again, _ := r.record(i); again != got {
		t.Error(again)
	}
	if there, err := r.Recorded(i); !there || err != nil {
		t.Errorf("not recorded, %v", err)
	}
	i.Annotations[v1alpha1.ManagedALBAnnotation] = `null`
	if got, err := r.record(i); err != nil || got != `{"shop":["alb.ingress.kubernetes.io/actions.stable"]}` {
		t.Errorf("null: %s %v", got, err)
	}
	i.Annotations[v1alpha1.ManagedALBAnnotation] = `[]`
	if _, err := r.record(i); err == nil || !strings.Contains(err.Error(), "correct or remove it") {
		t.Error(err)
	}
	if _, err := r.Recorded(i); err == nil {
		t.Error("a broken annotation is no error")
	}
}

func TestWriterIsReadFromManagedFields(t *testing.T) {
	r := router()
	fields := metav1.NewFieldsV1(`{"f:metadata":{"f:annotations":{"f:` + r.Key + `":{}}}}`)
	early, late := metav1.NewTime(time.Unix(1, 0)), metav1.NewTime(time.Unix(2, 0))
	i := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{r.Key: "x"}, ManagedFields: []metav1.ManagedFieldsEntry{
		{Manager: r.FieldManager(), Time: &early, FieldsV1: fields},
		{Manager: "kubectl-create", Time: &early, FieldsV1: metav1.NewFieldsV1(`{"f:spec":{}}`)},
	}}}
	if ours, by, _ := r.Writer(i); !ours || by != "" {
		t.Errorf("ours %t, writer %q", ours, by)
	}
	if at := r.ChangedAt(i); !at.Equal(early.Time) {
		t.Errorf("changed at %s", at)
	}
	i.ManagedFields[0].FieldsV1 = metav1.NewFieldsV1(`{}`)
	i.ManagedFields = append(i.ManagedFields, metav1.ManagedFieldsEntry{Manager: "argocd", Time: &late, FieldsV1: fields})
	if ours, by, at := r.Writer(i); ours || by != "argocd" || !at.Equal(late.Time) {
		t.Errorf("ours %t, writer %q at %s", ours, by, at)
	}
	if at := r.ChangedAt(i); !at.Equal(late.Time) {
		t.Errorf("changed at %s", at)
	}
	delete(i.Annotations, r.Key)
	i.ManagedFields = i.ManagedFields[:2]
	if ours, by, _ := r.Writer(i); ours || by != "kubectl-create" {
		t.Errorf("removed: ours %t, writer %q", ours, by)
	}
}

func TestFieldManagerFitsTheAPI(t *testing.T) {
	a, b := ALB{Rollout: strings.Repeat("a", 200)}, ALB{Rollout: strings.Repeat("a", 201)}
	if len(a.FieldManager()) != 128 || a.FieldManager() == b.FieldManager() {
		t.Error(a.FieldManager())
	}
}
