// Package connect gives commands their way to a cluster: the flags that kubectl users know, and a client.
package connect

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	rolloutsv1alpha1 "github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
)

// Flags say which cluster and namespace a command works on.
type Flags struct {
	// Kubeconfig is the file; empty means $KUBECONFIG, then ~/.kube/config, then the pod's service account.
	Kubeconfig string
	// Context is the kubeconfig's context; empty means its current one.
	Context string
	// Namespace is where named objects are; empty means the context's namespace.
	Namespace string
}

// Bind adds the flags to a command's flag set.
func (f *Flags) Bind(flags *pflag.FlagSet) {
	flags.StringVar(&f.Kubeconfig, "kubeconfig", "", "kubeconfig file (default $KUBECONFIG, then ~/.kube/config, then in-cluster)")
	flags.StringVar(&f.Context, "context", "", "context of the kubeconfig file")
	flags.StringVarP(&f.Namespace, "namespace", "n", "", "namespace (default the context's)")
}

func (f *Flags) loader() clientcmd.ClientConfig {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = f.Kubeconfig
	overrides := &clientcmd.ConfigOverrides{CurrentContext: f.Context}
	overrides.Context.Namespace = f.Namespace
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides)
}

// Config is how to reach the cluster. The error says which file is missing or wrong.
func (f *Flags) Config() (*rest.Config, error) {
	config, err := f.loader().ClientConfig()
	if err == nil {
		return config, nil
	}
	named := os.Getenv(clientcmd.RecommendedConfigPathEnvVar)
	switch {
	case f.Kubeconfig != "" && missing(f.Kubeconfig):
		return nil, fmt.Errorf("cannot read the kubeconfig %s: there is no such file", f.Kubeconfig)
	case clientcmd.IsEmptyConfig(err) && f.incomplete() != "":
		return nil, fmt.Errorf("cannot use the kubeconfig: %s", f.incomplete())
	case clientcmd.IsEmptyConfig(err) && f.Kubeconfig != "":
		return nil, fmt.Errorf("cannot use the kubeconfig %s: there is no cluster in it", f.Kubeconfig)
	case clientcmd.IsEmptyConfig(err) && named != "":
		return nil, fmt.Errorf("cannot read the kubeconfig %s, which KUBECONFIG names: there is no such file, or no cluster in it", named)
	case clientcmd.IsEmptyConfig(err):
		return nil, errors.New("no cluster is configured: set --kubeconfig or KUBECONFIG (a sandbox's is printed by 'lockstep sandbox env')")
	}
	return nil, fmt.Errorf("cannot use the kubeconfig: %s", strings.ReplaceAll(strings.TrimPrefix(err.Error(), "invalid configuration: "), "\n", " "))
}

func missing(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// incomplete says what a kubeconfig that has contexts lacks to name a cluster; empty when it has none.
func (f *Flags) incomplete() string {
	raw, err := f.loader().RawConfig()
	if err != nil || len(raw.Contexts) == 0 {
		return ""
	}
	name := cmp.Or(f.Context, raw.CurrentContext)
	context, found := raw.Contexts[name]
	switch {
	case name == "":
		return "it has no current context: set --context to one of " + strings.Join(slices.Sorted(maps.Keys(raw.Contexts)), ", ")
	case !found:
		return fmt.Sprintf("there is no context %q: set --context to one of %s", name, strings.Join(slices.Sorted(maps.Keys(raw.Contexts)), ", "))
	}
	return fmt.Sprintf("context %q is of cluster %q, for which there is no server", name, context.Cluster)
}

// Client returns a client that knows the kinds that lockstep's commands use, and the namespace to work in.
func (f *Flags) Client() (client.WithWatch, string, error) {
	config, err := f.Config()
	if err != nil {
		return nil, "", err
	}
	namespace, _, err := f.loader().Namespace()
	if err != nil {
		return nil, "", fmt.Errorf("cannot find the namespace: %w", err)
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, rolloutsv1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, "", err
		}
	}
	c, err := client.NewWithWatch(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, "", fmt.Errorf("cannot reach the API server %s: %w", config.Host, err)
	}
	return c, namespace, nil
}

// unreachable are the errors of a connection that does not come about, and what they mean: what the user can
// correct first, since an error can hold several.
var unreachable = []struct{ said, means string }{
	{"x509: ", "the API server's certificate is not what the kubeconfig asks for"},
	{"server gave HTTP respo", "what answers is no API server: correct the server in the kubeconfig"},
	{"no such host", "the API server's name is not known: correct the server in the kubeconfig"},
	{"connection refused", "the API server does not answer"},
	{"i/o timeout", "the API server does not answer"},
	{"no route to host", "the API server does not answer"},
}

// Explain makes an error of the API server readable: which object is missing, or that the server is away.
func Explain(err error, what string) error {
	if err == nil {
		return nil
	}
	switch {
	case meta.IsNoMatchError(err):
		return fmt.Errorf("%s: the cluster does not know this kind; apply the CRDs in deploy/crds: %w", what, err)
	case apierrors.IsUnauthorized(err):
		return fmt.Errorf("%s: the API server does not accept the credentials of the kubeconfig: %w", what, err)
	}
	for _, u := range unreachable { // not every client keeps the system's error
		if strings.Contains(err.Error(), u.said) {
			return fmt.Errorf("%s: %s: %w", what, u.means, err)
		}
	}
	return fmt.Errorf("%s: %w", what, err)
}
