package connect

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestAMissingKubeconfigIsNamed(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "nowhere")
	for name, row := range map[string]struct{ flag, env, want string }{
		"by flag":        {missing, "", "cannot read the kubeconfig " + missing + ": there is no such file"},
		"by environment": {"", missing, "cannot read the kubeconfig " + missing + ", which KUBECONFIG names: there is no such file, or no cluster in it"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("KUBECONFIG", row.env)
			t.Setenv("HOME", t.TempDir())
			flags := Flags{Kubeconfig: row.flag}
			if _, err := flags.Config(); err == nil || err.Error() != row.want {
				t.Errorf("\n got %v\nwant %s", err, row.want)
			}
		})
	}
}

// A kubeconfig that cannot be used is said to be so in one line, with what is missing in it.
func TestAKubeconfigThatCannotBeUsed(t *testing.T) {
	t.Setenv("KUBECONFIG", "")
	t.Setenv("HOME", t.TempDir())
	write := func(content string) string {
		path := filepath.Join(t.TempDir(), "config")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const contexts = `
apiVersion: v1
kind: Config
contexts: [{name: a, context: {cluster: gone, user: u}}, {name: tls, context: {cluster: tls, user: u}}]
clusters: [{name: tls, cluster: {server: "https://127.0.0.1:1", certificate-authority: /nowhere/ca.crt}}]
users: [{name: u, user: {}}]
`
	for name, row := range map[string]struct{ content, context, want string }{
		"empty":                  {"", "", "there is no cluster in it"},
		"malformed":              {`{"clusters": 7}`, "", "cannot use the kubeconfig"},
		"no current context":     {contexts, "", "set --context to one of a, tls"},
		"another context":        {contexts, "b", `context "b" does not exist`},
		"a context of nothing":   {contexts, "a", `context "a" is of cluster "gone"`},
		"an authority not there": {contexts, "tls", "/nowhere/ca.crt"},
	} {
		t.Run(name, func(t *testing.T) {
			flags := Flags{Kubeconfig: write(row.content), Context: row.context}
			_, err := flags.Config()
			if err == nil || !strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "no such file, or") {
				t.Errorf("%v, want %s", err, row.want)
			}
		})
	}
}

func TestExplainSaysWhatToDo(t *testing.T) {
	noCRD := &meta.NoKindMatchError{GroupKind: schema.GroupKind{Group: "argoproj.io", Kind: "Rollout"}}
	for want, cause := range map[string]error{
		"the cluster does not know this kind; apply the CRDs in deploy/crds": noCRD,
		"the API server does not answer":                                     errors.New("dial tcp 127.0.0.1:1: connect: connection refused"),
		"the API server's name is not known":                                 errors.New("dial tcp: lookup api.invalid: no such host"),
		"the API server's certificate is not what the kubeconfig asks for":   errors.New("tls: failed to verify certificate: x509: certificate signed by unknown authority"),
		"the API server does not accept the credentials":                     apierrors.NewUnauthorized("Unauthorized"),
	} {
		if err := Explain(cause, "cannot read rollout ns/web"); !strings.HasPrefix(err.Error(), "cannot read rollout ns/web: "+want) || !errors.Is(err, cause) {
			t.Error(err)
		}
	}
}

// Of two things that an error says, the one that can be corrected is told, each time.
func TestExplainSaysTheSameEachTime(t *testing.T) {
	cause := errors.New("dial tcp: lookup api.invalid: no such host; dial tcp 127.0.0.1:1: connect: connection refused")
	for range 100 {
		if err := Explain(cause, "cannot read"); !strings.Contains(err.Error(), "name is not known") {
			t.Fatal(err)
		}
	}
}
