// Package replicaset names the ReplicaSets of a Rollout and recognises them: the pod-template hash, names,
// labels, the comparison of templates, and the object as it is created. All of it is a contract with
// existing objects: a ReplicaSet that another controller made for the same template must be found, or
// every pod would be replaced for nothing.
//
// The package is pure. Start reading at Hash and SameTemplate.
package replicaset

import (
	"encoding/binary"
	"encoding/json"
	"hash/fnv"
	"maps"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
)

// Hash is the pod-template hash: 32-bit FNV-1a over the template's JSON and the collision count, in the
// safe alphabet of Kubernetes.
func Hash(template corev1.PodTemplateSpec, collisions *int32) string {
	return sum(encode(template), collisions)
}

// OldHash is the hash that builds with older Kubernetes libraries gave the same template: they wrote an
// empty creation time into the JSON.
func OldHash(template corev1.PodTemplateSpec, collisions *int32) string {
	return sum(withNullCreationTime(template), collisions)
}

// StepHash is the hash of the canary steps, as status.currentStepHash holds it.
func StepHash(steps []v1alpha1.CanaryStep) string { return sum(encode(steps), nil) }

func sum(data []byte, collisions *int32) string {
	hash := fnv.New32a()
	hash.Write(data)
	if collisions != nil {
		var count [8]byte
		binary.LittleEndian.PutUint32(count[:], uint32(*collisions))
		hash.Write(count[:])
	}
	return rand.SafeEncodeString(strconv.FormatUint(uint64(hash.Sum32()), 10))
}

// encode writes API types, which always have JSON.
func encode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}

// withNullCreationTime writes the template's JSON with "creationTimestamp": null where older libraries had
// it: after the fields that come before it in ObjectMeta, and before labels and annotations.
func withNullCreationTime(template corev1.PodTemplateSpec) []byte {
	m := template.ObjectMeta
	if !m.CreationTimestamp.IsZero() {
		return encode(template)
	}
	head := m
	head.Labels, head.Annotations, head.OwnerReferences, head.Finalizers, head.ManagedFields = nil, nil, nil, nil, nil
	head.DeletionTimestamp, head.DeletionGracePeriodSeconds = nil, nil
	before := encode(head)
	m = metav1.ObjectMeta{
		Labels: m.Labels, Annotations: m.Annotations, OwnerReferences: m.OwnerReferences, Finalizers: m.Finalizers, ManagedFields: m.ManagedFields,
		DeletionTimestamp: m.DeletionTimestamp, DeletionGracePeriodSeconds: m.DeletionGracePeriodSeconds,
	}
	tail := encode(m)
	meta := append(comma(before[:len(before)-1]), `"creationTimestamp":null`...)
	if len(tail) > len("{}") {
		meta = append(meta, ',')
	}
	meta = append(meta, tail[1:]...)
	out := append([]byte(`{"metadata":`), meta...)
	out = append(out, `,"spec":`...)
	return append(append(out, encode(template.Spec)...), '}')
}

// comma adds a comma if the object that begins here already has a field.
func comma(object []byte) []byte {
	if len(object) > len("{") {
		return append(object, ',')
	}
	return object
}

// Name of the ReplicaSet of a rollout for a hash.
func Name(rollout, hash string) string { return rollout + "-" + hash }

// SameTemplate reports whether a ReplicaSet's template is the wanted one. Both must have their defaults
// applied; what the controller itself injects is left out: the hash label and the deprecated alias of the
// service account.
func SameTemplate(held, wanted corev1.PodTemplateSpec) bool {
	return equality.Semantic.DeepEqual(comparable(held), comparable(wanted))
}

func comparable(template corev1.PodTemplateSpec) corev1.PodTemplateSpec {
	t := *template.DeepCopy()
	delete(t.Labels, v1alpha1.HashLabel)
	t.Spec.DeprecatedServiceAccount = ""
	t.CreationTimestamp = metav1.Time{}
	return t
}

// New is the ReplicaSet that is created for the present template: no pods, named and labelled by the hash.
func New(rollout *v1alpha1.Rollout, hash string, revision int64, desired int32) *appsv1.ReplicaSet {
	template := *rollout.Spec.Template.DeepCopy()
	template.Labels = withHash(template.Labels, hash)
	selector := rollout.Spec.Selector.DeepCopy()
	selector.MatchLabels = withHash(selector.MatchLabels, hash)
	return &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Name: Name(rollout.Name, hash), Namespace: rollout.Namespace,
			Labels:          maps.Clone(template.Labels),
			Annotations:     Annotations(rollout.Annotations, nil, revision, desired),
			OwnerReferences: []metav1.OwnerReference{Owner(rollout)},
		},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: new(int32(0)), MinReadySeconds: rollout.Spec.MinReadySeconds,
			Selector: selector, Template: template,
		},
	}
}

// Owner is the controller reference that a Rollout's ReplicaSets carry.
func Owner(rollout *v1alpha1.Rollout) metav1.OwnerReference {
	return *metav1.NewControllerRef(rollout, v1alpha1.GroupVersion.WithKind("Rollout"))
}

// Annotations are a ReplicaSet's annotations with the rollout's own copied, and revision and desired size
// set; an earlier revision is kept in the history. Copied keys are never taken away again.
func Annotations(rollout, held map[string]string, revision int64, desired int32) map[string]string {
	out := maps.Clone(held)
	if out == nil {
		out = map[string]string{}
	}
	for key, value := range rollout {
		if !private[key] {
			out[key] = value
		}
	}
	now := strconv.FormatInt(revision, 10)
	if old := out[v1alpha1.RevisionAnnotation]; old != "" && old != now {
		if history := out[v1alpha1.RevisionHistoryAnnotation]; history != "" {
			old = history + "," + old
		}
		out[v1alpha1.RevisionHistoryAnnotation] = old
	}
	out[v1alpha1.RevisionAnnotation] = now
	out[v1alpha1.DesiredReplicasAnnotation] = strconv.Itoa(int(desired))
	return out
}

// private are annotations of a Rollout that are not copied to its ReplicaSets.
var private = map[string]bool{
	"kubectl.kubernetes.io/last-applied-configuration": true,
	v1alpha1.RevisionAnnotation:                        true,
	v1alpha1.RevisionHistoryAnnotation:                 true,
	v1alpha1.DesiredReplicasAnnotation:                 true,
	v1alpha1.NotifiedAnnotation:                        true,
}

func withHash(labels map[string]string, hash string) map[string]string {
	out := maps.Clone(labels)
	if out == nil {
		out = map[string]string{}
	}
	out[v1alpha1.HashLabel] = hash
	return out
}
