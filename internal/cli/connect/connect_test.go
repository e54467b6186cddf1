package connect

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

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

func TestExplainSaysWhatToDo(t *testing.T) {
	noCRD := &meta.NoKindMatchError{GroupKind: schema.GroupKind{Group: "argoproj.io", Kind: "Rollout"}}
	for want, cause := range map[string]error{
		"the cluster does not know this kind; apply the CRDs in deploy/crds": noCRD,
		"the API server does not answer":                                     errors.New("dial tcp 127.0.0.1:1: connect: connection refused"),
	} {
		if err := Explain(cause, "cannot read rollout ns/web"); !strings.HasPrefix(err.Error(), "cannot read rollout ns/web: "+want) || !errors.Is(err, cause) {
			t.Error(err)
		}
	}
}
