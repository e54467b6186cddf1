package thirdparty

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
)

// kube is the cluster as kubectl sees it.
type kube struct {
	dynamic dynamic.Interface
	mapper  *restmapper.DeferredDiscoveryRESTMapper
}

func newKube(config *rest.Config) (*kube, error) {
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	kinds, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, err
	}
	return &kube{objects, restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(kinds))}, nil
}

// resource returns the client of a kind.
func (k *kube) resource(kind schema.GroupVersionKind, namespace string) (dynamic.ResourceInterface, error) {
	mapping, err := k.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		k.mapper.Reset() // it may be a kind that has just been defined
		return nil, err
	}
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		return k.dynamic.Resource(mapping.Resource).Namespace(namespace), nil
	}
	return k.dynamic.Resource(mapping.Resource), nil
}

// applyFile applies the documents of a file, like kubectl apply --server-side -f.
func (k *kube) applyFile(t *testing.T, name string) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	k.apply(t, string(data))
}

// apply applies YAML documents. A kind that is not served yet is waited for.
func (k *kube) apply(t *testing.T, documents string) {
	t.Helper()
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(documents), 4096)
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(object)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("cannot read a manifest: %v", err)
		}
		if len(object.Object) == 0 {
			continue
		}
		eventually(t, fmt.Sprintf("%s %s to be accepted", object.GetKind(), object.GetName()), func() error {
			resource, err := k.resource(object.GroupVersionKind(), object.GetNamespace())
			if err != nil {
				return err
			}
			_, err = resource.Apply(context.Background(), object.GetName(), object, metav1.ApplyOptions{FieldManager: "thirdparty-test", Force: true})
			return err
		})
	}
}

// get reads one object.
func (k *kube) get(kind schema.GroupVersionKind, namespace, name string) (*unstructured.Unstructured, error) {
	resource, err := k.resource(kind, namespace)
	if err != nil {
		return nil, err
	}
	return resource.Get(context.Background(), name, metav1.GetOptions{})
}

// remove deletes an object, waits until it is gone, finalizers and all, and is content if it has never been.
func (k *kube) remove(t *testing.T, kind schema.GroupVersionKind, namespace, name string, processes ...*process) {
	t.Helper()
	resource, err := k.resource(kind, namespace)
	if err != nil {
		t.Fatal(err)
	}
	if err := resource.Delete(context.Background(), name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		t.Fatal(err)
	}
	eventually(t, fmt.Sprintf("%s %s/%s to be gone", kind.Kind, namespace, name), func() error {
		_, err := k.get(kind, namespace, name)
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(err, errNotYet)
	}, processes...)
}

// established waits until the API server serves the kinds of CRDs.
func (k *kube) established(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		eventually(t, "the CRD "+name+" to be served", func() error {
			crd, err := k.get(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}, "", name)
			if err != nil {
				return err
			}
			conditions, _, err := unstructured.NestedSlice(crd.Object, "status", "conditions")
			for _, c := range conditions {
				if c, ok := c.(map[string]any); ok && c["type"] == "Established" && c["status"] == "True" {
					return nil
				}
			}
			return errors.Join(err, errNotYet)
		})
	}
}

// address is the host name that a load balancer controller has written into the status of an Ingress or Service.
func (k *kube) address(kind schema.GroupVersionKind, namespace, name string) (string, error) {
	object, err := k.get(kind, namespace, name)
	if err != nil {
		return "", err
	}
	entries, _, err := unstructured.NestedSlice(object.Object, "status", "loadBalancer", "ingress")
	if err != nil || len(entries) == 0 {
		return "", errors.Join(errNotYet, err)
	}
	host, _, err := unstructured.NestedString(entries[0].(map[string]any), "hostname")
	return host, err
}

// events returns the messages of all events of a namespace that have this reason.
func (k *kube) events(namespace, reason string) ([]string, error) {
	resource, err := k.resource(schema.GroupVersionKind{Version: "v1", Kind: "Event"}, namespace)
	if err != nil {
		return nil, err
	}
	list, err := resource.List(context.Background(), metav1.ListOptions{FieldSelector: "reason=" + reason})
	if err != nil {
		return nil, err
	}
	var messages []string
	for _, event := range list.Items {
		message, _, _ := unstructured.NestedString(event.Object, "message")
		messages = append(messages, message)
	}
	return messages, nil
}
