package rehearsal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// fieldOwner is how a rehearsal signs what it applies, as a user's kubectl apply would.
const fieldOwner = client.FieldOwner("lockstep-rehearsal")

// decodeManifests splits a file of YAML documents into objects. The error says which document is wrong.
func decodeManifests(data []byte) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096)
	for document := 1; ; document++ {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(object)
		switch {
		case errors.Is(err, io.EOF):
			return objects, nil
		case err != nil:
			return nil, fmt.Errorf("cannot read document %d of the manifests: %w", document, err)
		case len(object.Object) == 0:
			continue
		}
		objects = append(objects, object)
	}
}

// applyManifests applies objects in order by server-side apply, as `kubectl apply --server-side` does.
func applyManifests(ctx context.Context, c client.Client, objects []*unstructured.Unstructured) error {
	for _, object := range objects {
		err := c.Apply(ctx, client.ApplyConfigurationFromUnstructured(object.DeepCopy()), fieldOwner, client.ForceOwnership)
		if err != nil {
			return fmt.Errorf("cannot apply %s %s: %w", object.GetKind(), client.ObjectKeyFromObject(object), err)
		}
	}
	return nil
}

// applyCRDs applies every CRD of a folder and waits until the API server serves all of them.
func applyCRDs(ctx context.Context, c client.Client, folder fs.FS) error {
	names, err := fs.Glob(folder, "*.yaml")
	if err != nil {
		return err
	}
	for _, name := range names {
		data, err := fs.ReadFile(folder, name)
		if err != nil {
			return fmt.Errorf("cannot read the CRD %s: %w", name, err)
		}
		objects, err := decodeManifests(data)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := applyManifests(ctx, c, objects); err != nil {
			return err
		}
		for _, object := range objects {
			if err := waitEstablished(ctx, c, object); err != nil {
				return err
			}
		}
	}
	return nil
}

func waitEstablished(ctx context.Context, c client.Client, crd *unstructured.Unstructured) error {
	return until(ctx, "CRD "+crd.GetName()+" to be served", func(ctx context.Context) (bool, error) {
		now := crd.NewEmptyInstance().(*unstructured.Unstructured)
		now.SetGroupVersionKind(crd.GroupVersionKind())
		if err := c.Get(ctx, client.ObjectKeyFromObject(crd), now); err != nil {
			return false, err
		}
		conditions, _, err := unstructured.NestedSlice(now.Object, "status", "conditions")
		if err != nil {
			return false, err
		}
		for _, condition := range conditions {
			if c, ok := condition.(map[string]any); ok && c["type"] == "Established" && c["status"] == string(metav1.ConditionTrue) {
				return true, nil
			}
		}
		return false, nil
	})
}

// find returns the only object of a kind in the manifests.
func find(objects []*unstructured.Unstructured, kind string) (*unstructured.Unstructured, error) {
	var found *unstructured.Unstructured
	for _, object := range objects {
		if object.GetKind() != kind {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("the manifests hold more than one %s (%s and %s): a rehearsal follows one", kind, found.GetName(), object.GetName())
		}
		found = object
	}
	if found == nil {
		return nil, fmt.Errorf("the manifests hold no %s", kind)
	}
	return found, nil
}
