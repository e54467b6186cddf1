package thirdparty

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const argoRollouts = "github.com/argoproj/argo-rollouts"

var (
	rolloutKind = schema.GroupVersionKind{Group: "argoproj.io", Version: "v1alpha1", Kind: "Rollout"}
	ingressKind = schema.GroupVersionKind{Group: "networking.k8s.io", Version: "v1", Kind: "Ingress"}
)

// What Argo Rollouts asks of AWS to verify a weight.
var verification = []string{"DescribeLoadBalancers", "DescribeTargetGroups", "DescribeTags", "DescribeListeners", "DescribeRules", "DescribeTargetHealth"}

// TestRollouts tells one story of a canary to each rollout controller in turn: Argo Rollouts beside Lockstep's load
// balancer half, and then Lockstep alone, whose resource definitions replace theirs.
func TestRollouts(t *testing.T) {
	w := newWorld(t)
	plugin := build(t, "argo-rollouts", argoRollouts+"/cmd/kubectl-argo-rollouts")
	w.defineKinds(t)
	for _, tt := range []struct {
		name, folder string // the folder that builds the controller; none: Lockstep
	}{
		{"argo-rollouts-1-10", "argo-rollouts"},
		{"argo-rollouts-1-8", "argo-rollouts-1.8"},
		{"lockstep", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &story{world: w, plugin: plugin, namespace: tt.name}
			if tt.folder == "" {
				for _, kind := range []string{"rollouts", "analysisruns", "analysistemplates", "clusteranalysistemplates", "experiments"} {
					w.kube.applyFile(t, repository+"/deploy/crds/argoproj.io_"+kind+".yaml")
				}
				s.processes = []*process{w.startLockstep(t)}
			} else {
				controller := build(t, tt.folder, argoRollouts+"/cmd/rollouts-controller")
				s.processes = []*process{
					w.startLockstep(t, "--controllers", "balancing"),
					w.start(t, tt.name, controller, "--kubeconfig", w.state.Kubeconfig, "--namespace", "default", "--leader-elect=false",
						"--aws-verify-target-group", "--metricsport", freePort(t), "--healthzPort", freePort(t)),
				}
			}
			s.tell(t)
			if tt.folder != "" {
				w.checkCalls(t, tt.name, verification, "Throttling")
			}
		})
	}
}

// startLockstep runs Lockstep's controller with what the environment of the sandbox does not say.
func (w *world) startLockstep(t *testing.T, args ...string) *process {
	t.Helper()
	return w.start(t, "lockstep", lockstep, append([]string{"controller", "--settle-time", "1s", "--enable-leader-election=false"}, args...)...)
}

// defineKinds applies the resource definitions of Argo Rollouts, from its own module, and those of load balancing.
func (w *world) defineKinds(t *testing.T) {
	t.Helper()
	definitions, err := filepath.Glob(filepath.Join(source(t, "argo-rollouts", argoRollouts), "manifests", "crds", "*-crd.yaml"))
	if err != nil || len(definitions) == 0 {
		t.Fatalf("%s has no resource definitions where they used to be: %v", argoRollouts, err)
	}
	for _, file := range append(definitions, repository+"/deploy/crds/elbv2.k8s.aws_ingressclassparams.yaml",
		repository+"/deploy/crds/elbv2.k8s.aws_targetgroupbindings.yaml") {
		w.kube.applyFile(t, file)
	}
	w.kube.established(t, "rollouts.argoproj.io", "analysisruns.argoproj.io", "analysistemplates.argoproj.io", "clusteranalysistemplates.argoproj.io",
		"experiments.argoproj.io", "targetgroupbindings.elbv2.k8s.aws", "ingressclassparams.elbv2.k8s.aws")
	w.kube.applyFile(t, repository+"/deploy/ingressclass.yaml")
}

// story is a Rollout that is released, promoted and aborted by the kubectl plugin, while a client looks on.
type story struct {
	*world
	plugin, namespace, host string
	processes               []*process
}

func (s *story) tell(t *testing.T) {
	manifests, err := os.ReadFile("testdata/canary.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s.kube.apply(t, strings.ReplaceAll(string(manifests), "NAMESPACE", s.namespace))
	t.Cleanup(func() { s.takeAway(t) })

	s.waitFor(t, "Healthy")
	eventually(t, "the Ingress to get its load balancer", func() error {
		var err error
		s.host, err = s.kube.address(ingressKind, s.namespace, "web")
		return err
	}, s.processes...)
	s.answers(t, map[string][2]int{"v1": {100, 100}})

	s.command(t, "set", "image", "web", "web=lockstep.dev/echo:v2")
	s.waitFor(t, "Paused")
	s.answers(t, map[string][2]int{"v1": {55, 85}, "v2": {15, 45}})
	s.verified(t)

	s.command(t, "promote", "web")
	s.waitFor(t, "Healthy")
	s.answers(t, map[string][2]int{"v2": {100, 100}})

	s.command(t, "set", "image", "web", "web=lockstep.dev/echo:v3")
	s.waitFor(t, "Paused")
	s.command(t, "abort", "web")
	s.waitFor(t, "Degraded")
	s.answers(t, map[string][2]int{"v2": {100, 100}})
	s.command(t, "undo", "web")
	s.waitFor(t, "Healthy")
	if out := s.command(t, "get", "rollout", "web", "--no-color"); !strings.Contains(out, "lockstep.dev/echo:v2 (stable)") {
		t.Errorf("the plugin does not show v2 as stable:\n%s", out)
	}
}

// command runs the kubectl plugin.
func (s *story) command(t *testing.T, args ...string) string {
	t.Helper()
	out, err := output(s.plugin, append(args, "--kubeconfig", s.state.Kubeconfig, "--namespace", s.namespace)...)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// waitFor waits until the controller has seen the Rollout as it is and it has this phase, by its status and by
// the plugin's own reading of it.
func (s *story) waitFor(t *testing.T, phase string) {
	t.Helper()
	eventually(t, "the Rollout to be "+phase, func() error {
		rollout, err := s.kube.get(rolloutKind, s.namespace, "web")
		if err != nil {
			return err
		}
		status, _, _ := unstructured.NestedMap(rollout.Object, "status")
		if fmt.Sprint(status["observedGeneration"]) != fmt.Sprint(rollout.GetGeneration()) || status["phase"] != phase {
			return fmt.Errorf("generation %d, phase %v of generation %v: %v", rollout.GetGeneration(), status["phase"], status["observedGeneration"], status["message"])
		}
		told, err := output(s.plugin, "status", "web", "--watch=false", "--kubeconfig", s.state.Kubeconfig, "--namespace", s.namespace)
		if !strings.HasPrefix(string(told), phase) { // the exit code tells of the phase, too
			return fmt.Errorf("the plugin says %q: %w", told, err)
		}
		return nil
	}, s.processes...)
}

// answers waits until the shares of 200 requests, in percent, are within the bounds and no other version answers.
func (s *story) answers(t *testing.T, want map[string][2]int) {
	t.Helper()
	const requests = 200
	eventually(t, fmt.Sprintf("answers of %v", want), func() error {
		got := map[string]int{}
		for range requests {
			version, err := s.version(s.host)
			if err != nil {
				return err
			}
			got[version]++
		}
		total := 0
		for version, bounds := range want {
			percent := got[version] * 100 / requests
			if percent < bounds[0] || percent > bounds[1] {
				return fmt.Errorf("got %v of %d", got, requests)
			}
			total += got[version]
		}
		if total != requests {
			return fmt.Errorf("got %v of %d", got, requests)
		}
		return nil
	}, s.processes...)
}

// verified wants the controller to have seen in AWS the weight that it asked for. Argo Rollouts says so in an event, since
// its status forgets it as soon as the step is over.
func (s *story) verified(t *testing.T) {
	t.Helper()
	eventually(t, "the weight to be verified", func() error {
		rollout, err := s.kube.get(rolloutKind, s.namespace, "web")
		if err != nil {
			return err
		}
		if verified, _, _ := unstructured.NestedBool(rollout.Object, "status", "canary", "weights", "verified"); verified {
			return nil
		}
		messages, err := s.kube.events(s.namespace, "TargetGroupVerified")
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(messages, func(m string) bool { return strings.Contains(m, "canary weight 30 set") }) {
			return fmt.Errorf("%w: the events are %q", errNotYet, messages)
		}
		return nil
	}, s.processes...)
}

// takeAway removes what the next story must not meet: the load balancer and the Rollout.
func (s *story) takeAway(t *testing.T) {
	if t.Failed() {
		return
	}
	s.kube.remove(t, ingressKind, s.namespace, "web", s.processes...)
	s.kube.remove(t, rolloutKind, s.namespace, "web", s.processes...)
}
