package cloud_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/lockstep-delivery/lockstep/"

// pure are the packages whose values and decisions must run anywhere: in tests, in the simulation, offline.
var pure = []string{
	"internal/split", "internal/evidence", "internal/balancing/model", "internal/balancing/plan", "internal/balancing/ingress",
	"internal/balancing/binding/plan", "internal/balancing/firewall/plan", "internal/delivery/canary", "internal/delivery/replicaset",
	"internal/cloud/budget", "internal/cloud/mirror",
}

// unwanted is what would make them impure, with the reason.
var unwanted = map[string]string{
	"github.com/aws/aws-sdk-go-v2":        "AWS is reached through internal/cloud only",
	"github.com/aws/smithy-go":            "AWS is reached through internal/cloud only",
	"k8s.io/client-go":                    "decisions take Kubernetes objects as values, and call nobody",
	"sigs.k8s.io/controller-runtime":      "decisions know nothing of controllers",
	module + "internal/cloud":             "decisions take what AWS has as values of balancing/model",
	module + "internal/kube":              "decisions know nothing of the API server",
	"github.com/prometheus/client_golang": "decisions count nothing",
}

type listed struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func list(t *testing.T, pattern string) []listed {
	t.Helper()
	// -e: a package that does not compile yet is for its own tests to report.
	command := exec.Command("go", "list", "-e", "-json=ImportPath,Imports,Deps", pattern)
	command.Dir = "../.."
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("cannot list %s: %v: %s", pattern, err, stderr.String())
	}
	var packages []listed
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

func TestOnlyThisPackageImportsClientsOfAWS(t *testing.T) {
	packages := list(t, "./internal/...")
	if !slices.ContainsFunc(packages, func(p listed) bool {
		return p.ImportPath == module+"internal/cloud" && slices.ContainsFunc(p.Imports, isClient)
	}) {
		t.Fatal("internal/cloud imports no client: the test looks at the wrong thing")
	}
	for _, p := range packages {
		if p.ImportPath == module+"internal/cloud" {
			continue
		}
		for _, imported := range p.Imports {
			if isClient(imported) {
				t.Errorf("%s imports %s: only internal/cloud may, so that every call passes the budget", p.ImportPath, imported)
			}
		}
	}
}

func isClient(path string) bool {
	return strings.HasPrefix(path, "github.com/aws/aws-sdk-go-v2/service/")
}

func TestPurePackagesArePure(t *testing.T) {
	for _, p := range list(t, "./internal/...") {
		path := strings.TrimPrefix(p.ImportPath, module)
		if !slices.Contains(pure, path) {
			continue
		}
		for bad, why := range unwanted {
			if strings.HasPrefix(module+path, bad) { // the mirror and the budget lie below internal/cloud
				continue
			}
			i := slices.IndexFunc(p.Deps, func(dependency string) bool { return dependency == bad || strings.HasPrefix(dependency, bad+"/") })
			if i >= 0 {
				t.Errorf("%s depends on %s: %s", path, p.Deps[i], why)
			}
		}
	}
}
