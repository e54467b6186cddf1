package kubelet

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lockstep-delivery/lockstep/sandbox/kubelet/app"
)

// view is a pod at one moment, for what is told of it to its applications.
type view struct {
	k    *Kubelet
	node *node
	pod  *corev1.Pod
	addr netip.Addr
}

// view returns the pod as the machine sees it. Only the one who has set busy may call it; others call now.
func (p *pod) view() view { return view{p.k, p.node, p.machine.Pod(), p.machine.Addr()} }

// environment returns the variables of a container that the pod itself can answer for: plain values and fields of the
// pod. Those from ConfigMaps and Secrets are left out: see resolvedEnvironment.
func (v view) environment(c *corev1.Container) []app.EnvVar {
	var env []app.EnvVar
	for _, e := range c.Env {
		switch {
		case e.ValueFrom == nil:
			env = append(env, app.EnvVar{Name: e.Name, Value: expand(e.Value, env)})
		case e.ValueFrom.FieldRef != nil:
			if value, ok := v.field(e.ValueFrom.FieldRef.FieldPath); ok {
				env = append(env, app.EnvVar{Name: e.Name, Value: value})
			}
		}
	}
	return env
}

// resolvedEnvironment returns all variables of a container, also those from ConfigMaps and Secrets, which are read
// afresh. An error says what is missing, in the words of a kubelet.
func (v view) resolvedEnvironment(ctx context.Context, c *corev1.Container) ([]app.EnvVar, error) {
	source := &sources{k: v.k, ctx: ctx, namespace: v.pod.Namespace}
	var env []app.EnvVar
	for _, from := range c.EnvFrom {
		values, err := source.all(from)
		if err != nil {
			return nil, err
		}
		for _, key := range slices.Sorted(maps.Keys(values)) {
			env = append(env, app.EnvVar{Name: from.Prefix + key, Value: values[key]})
		}
	}
	for _, e := range c.Env {
		value, found, err := v.value(source, c, e, env)
		if err != nil {
			return nil, err
		}
		if found {
			env = append(env, app.EnvVar{Name: e.Name, Value: value})
		}
	}
	return env, nil
}

// value returns the value of one variable; found is false for what is optional and missing.
func (v view) value(source *sources, c *corev1.Container, e corev1.EnvVar, before []app.EnvVar) (value string, found bool, err error) {
	from := e.ValueFrom
	switch {
	case from == nil:
		return expand(e.Value, before), true, nil
	case from.FieldRef != nil:
		value, found = v.field(from.FieldRef.FieldPath)
		return value, found, nil
	case from.ResourceFieldRef != nil:
		value, err = v.resource(c, from.ResourceFieldRef)
		return value, err == nil, err
	case from.ConfigMapKeyRef != nil:
		r := from.ConfigMapKeyRef
		return source.key("ConfigMap", r.Name, r.Key, r.Optional)
	case from.SecretKeyRef != nil:
		r := from.SecretKeyRef
		return source.key("Secret", r.Name, r.Key, r.Optional)
	default:
		return "", false, fmt.Errorf("the sandbox cannot fill in variable %s: only values, fields of the pod, resources, ConfigMaps and Secrets are known", e.Name)
	}
}

// field returns a field of the pod as the downward API shows it.
func (v view) field(path string) (string, bool) {
	obj := v.pod
	if key, ok := subscript(path, "metadata.labels"); ok {
		return obj.Labels[key], true
	}
	if key, ok := subscript(path, "metadata.annotations"); ok {
		return obj.Annotations[key], true
	}
	switch path {
	case "metadata.name":
		return obj.Name, true
	case "metadata.namespace":
		return obj.Namespace, true
	case "metadata.uid":
		return string(obj.UID), true
	case "metadata.labels":
		return downward(obj.Labels), true
	case "metadata.annotations":
		return downward(obj.Annotations), true
	case "spec.nodeName":
		return v.node.name, true
	case "spec.serviceAccountName":
		return obj.Spec.ServiceAccountName, true
	case "status.hostIP", "status.hostIPs":
		return v.node.addr.String(), true
	case "status.podIP", "status.podIPs":
		return v.addr.String(), true
	}
	return "", false
}

func subscript(path, field string) (key string, ok bool) {
	rest, ok := strings.CutPrefix(path, field+"['")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(rest, "']")
}

// downward writes labels or annotations as the files of the downward API hold them.
func downward(m map[string]string) string {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(m)) {
		fmt.Fprintf(&b, "%s=%q\n", key, m[key])
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func (v view) resource(c *corev1.Container, ref *corev1.ResourceFieldSelector) (string, error) {
	if ref.ContainerName != "" {
		c = container(v.pod, ref.ContainerName)
	}
	kind, name, _ := strings.Cut(ref.Resource, ".")
	list := c.Resources.Requests
	if kind == "limits" {
		list = c.Resources.Limits
	}
	q := list[corev1.ResourceName(name)]
	amount, divisor := q.Value(), int64(1)
	if d := ref.Divisor; !d.IsZero() {
		divisor = d.Value()
		if name == string(corev1.ResourceCPU) && d.MilliValue() < 1000 {
			amount, divisor = q.MilliValue(), d.MilliValue()
		}
	}
	if divisor <= 0 {
		return "", fmt.Errorf("the divisor of %s is not positive", ref.Resource)
	}
	return strconv.FormatInt((amount+divisor-1)/divisor, 10), nil
}

// expand replaces $(NAME) by the value of a variable that comes earlier; $$ stands for $, what is unknown stays.
func expand(s string, env []app.EnvVar) string {
	var b strings.Builder
	for {
		at := strings.IndexByte(s, '$')
		if at < 0 || at == len(s)-1 {
			return b.String() + s
		}
		b.WriteString(s[:at])
		s = s[at:]
		end := strings.IndexByte(s, ')')
		switch {
		case s[1] == '$':
			b.WriteByte('$')
			s = s[2:]
		case s[1] == '(' && end > 0:
			name := s[2:end]
			i := slices.IndexFunc(env, func(e app.EnvVar) bool { return e.Name == name })
			if i < 0 {
				b.WriteString(s[:end+1])
			} else {
				b.WriteString(lastValue(env, name))
			}
			s = s[end+1:]
		default:
			b.WriteByte('$')
			s = s[1:]
		}
	}
}

// lastValue returns the value of a variable; the last of several counts.
func lastValue(env []app.EnvVar, name string) string {
	for _, e := range slices.Backward(env) {
		if e.Name == name {
			return e.Value
		}
	}
	return ""
}

// sources reads ConfigMaps and Secrets of one namespace.
type sources struct {
	k         *Kubelet
	ctx       context.Context
	namespace string
}

func (s *sources) all(from corev1.EnvFromSource) (map[string]string, error) {
	switch {
	case from.ConfigMapRef != nil:
		return s.read("ConfigMap", from.ConfigMapRef.Name, from.ConfigMapRef.Optional)
	case from.SecretRef != nil:
		return s.read("Secret", from.SecretRef.Name, from.SecretRef.Optional)
	}
	return nil, nil
}

func (s *sources) key(kind, name, key string, optional *bool) (string, bool, error) {
	values, err := s.read(kind, name, optional)
	if err != nil {
		return "", false, err
	}
	value, found := values[key]
	if !found && (optional == nil || !*optional) {
		return "", false, fmt.Errorf("couldn't find key %s in %s %s/%s", key, kind, s.namespace, name)
	}
	return value, found, nil
}

func (s *sources) read(kind, name string, optional *bool) (map[string]string, error) {
	text, binary, err := s.get(kind, name, optional)
	if err != nil {
		return nil, err
	}
	if kind == "Secret" { // the bytes of a ConfigMap are not for variables
		for key, v := range binary {
			text[key] = string(v)
		}
	}
	return text, nil
}

// rootCA is the ConfigMap of each namespace in which clusters publish how to know the API server. Nobody publishes it in the
// sandbox, so that what it would hold is told here.
const rootCA = "kube-root-ca.crt"

// get returns what a ConfigMap or a Secret holds; nothing if it is missing and optional. The maps are the caller's.
func (s *sources) get(kind, name string, optional *bool) (text map[string]string, binary map[string][]byte, err error) {
	text, binary = map[string]string{}, map[string][]byte{}
	if kind == "Secret" {
		var secret *corev1.Secret
		if secret, err = s.k.client.CoreV1().Secrets(s.namespace).Get(s.ctx, name, metav1.GetOptions{}); err == nil {
			maps.Copy(binary, secret.Data)
		}
	} else {
		var configMap *corev1.ConfigMap
		if configMap, err = s.k.client.CoreV1().ConfigMaps(s.namespace).Get(s.ctx, name, metav1.GetOptions{}); err == nil {
			maps.Copy(text, configMap.Data)
			maps.Copy(binary, configMap.BinaryData)
		}
	}
	switch {
	case !apierrors.IsNotFound(err):
		return text, binary, err
	case kind == "ConfigMap" && name == rootCA:
		text["ca.crt"] = string(s.k.authority)
		return text, binary, nil
	case optional != nil && *optional:
		return text, binary, nil
	}
	return nil, nil, fmt.Errorf("%s %q not found", strings.ToLower(kind), name)
}
