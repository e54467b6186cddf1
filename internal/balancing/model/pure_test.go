package model

import (
	"os/exec"
	"strings"
	"testing"
)

// The values, the translation and the plan know neither AWS's SDK nor a Kubernetes client: then they run the
// same in production, in previews and in the simulation. The plan does not even know Kubernetes' types.
func TestPurePackagesStayPure(t *testing.T) {
	const balancing = "github.com/lockstep-delivery/lockstep/internal/balancing/"
	clients := []string{"github.com/aws/", "k8s.io/client-go", "sigs.k8s.io/controller-runtime", "log/slog"}
	for name, forbidden := range map[string][]string{
		"model":   append([]string{"k8s.io/"}, clients...),
		"plan":    append([]string{"k8s.io/"}, clients...),
		"ingress": clients[:3],
	} {
		out, err := exec.Command("go", "list", "-deps", balancing+name).Output()
		if err != nil {
			t.Fatalf("go list %s: %v", name, err)
		}
		for _, dep := range strings.Fields(string(out)) {
			for _, prefix := range forbidden {
				if strings.HasPrefix(dep, prefix) {
					t.Errorf("%s must stay pure, but imports %s (go mod why -m helps)", name, dep)
				}
			}
		}
	}
}
