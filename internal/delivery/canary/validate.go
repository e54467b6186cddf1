package canary

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/internal/split"
)

// Validate returns the first thing that is wrong with the spec or with the objects that it names, as
// "field: what is wrong; remedy", or an empty string.
func Validate(s Snapshot) string {
	for _, check := range []func(Snapshot) string{general, unsupported, canarySpec, steps, references} {
		if message := check(s); message != "" {
			return fmt.Sprintf("The Rollout %q is invalid: %s", s.Rollout.Name, message)
		}
	}
	return ""
}

func general(s Snapshot) string {
	spec := s.Rollout.Spec
	if spec.Malformed != "" {
		return spec.Malformed
	}
	negative := func(field string, v *int32) string {
		if v != nil && *v < 0 {
			return fmt.Sprintf("spec.%s: %d is negative; use 0 or more", field, *v)
		}
		return ""
	}
	deadline := int32(600)
	if spec.ProgressDeadlineSeconds != nil {
		deadline = *spec.ProgressDeadlineSeconds
	}
	for _, message := range []string{
		negative("replicas", spec.Replicas), negative("minReadySeconds", &spec.MinReadySeconds),
		negative("revisionHistoryLimit", spec.RevisionHistoryLimit), negative("progressDeadlineSeconds", spec.ProgressDeadlineSeconds),
	} {
		if message != "" {
			return message
		}
	}
	switch {
	case spec.Selector == nil:
		return "spec.selector: is missing; name the labels of the pods"
	case len(spec.Selector.MatchLabels)+len(spec.Selector.MatchExpressions) == 0:
		return "spec.selector: is empty and would select every pod; name the labels of the pods"
	case s.Rollout.SettingError != "":
		return s.Rollout.SettingError
	case s.Rollout.TemplateError != "":
		return s.Rollout.TemplateError
	case deadline <= spec.MinReadySeconds:
		return fmt.Sprintf("spec.progressDeadlineSeconds: %d must be greater than minReadySeconds, which is %d", deadline, spec.MinReadySeconds)
	case spec.Strategy.Canary == nil && spec.Strategy.BlueGreen == nil:
		return "spec.strategy: is missing; set canary"
	case spec.Strategy.Canary != nil && spec.Strategy.BlueGreen != nil:
		return "spec.strategy: has both canary and blueGreen; keep one"
	}
	return ""
}

// unsupported refuses by name what this version does not do yet, instead of doing half of it.
func unsupported(s Snapshot) string {
	refuse := func(field, instead string) string {
		return fmt.Sprintf("spec.%s: is not supported by this version of the controller; %s", field, instead)
	}
	spec := s.Rollout.Spec
	if spec.WorkloadRef != nil {
		return refuse("workloadRef", "put the template into the Rollout")
	}
	if spec.Strategy.BlueGreen != nil {
		return refuse("strategy.blueGreen", "use strategy.canary")
	}
	c := spec.Strategy.Canary
	switch {
	case c.TrafficRouting == nil:
		return refuse("strategy.canary", "without trafficRouting; add trafficRouting.alb")
	case c.Analysis != nil:
		return refuse("strategy.canary.analysis", "remove it")
	case c.PingPong != nil:
		return refuse("strategy.canary.pingPong", "use canaryService and stableService")
	case c.AntiAffinity != nil:
		return refuse("strategy.canary.antiAffinity", "put the anti-affinity into the template")
	case c.CanaryMetadata != nil:
		return refuse("strategy.canary.canaryMetadata", "remove it")
	case c.StableMetadata != nil:
		return refuse("strategy.canary.stableMetadata", "remove it")
	}
	t := c.TrafficRouting
	for _, router := range []struct {
		name  string
		there bool
	}{
		{"istio", t.Istio != nil}, {"nginx", t.Nginx != nil}, {"smi", t.SMI != nil}, {"ambassador", t.Ambassador != nil},
		{"appMesh", t.AppMesh != nil}, {"traefik", t.Traefik != nil}, {"apisix", t.Apisix != nil}, {"plugins", len(t.Plugins) > 0},
	} {
		if router.there {
			return refuse("strategy.canary.trafficRouting."+router.name, "use trafficRouting.alb")
		}
	}
	if t.ALB == nil {
		return "spec.strategy.canary.trafficRouting: names no router; set alb"
	}
	return ""
}

func canarySpec(s Snapshot) string {
	c := s.Rollout.Spec.Strategy.Canary
	alb := c.TrafficRouting.ALB
	at := "spec.strategy.canary."
	switch {
	case c.CanaryService == "":
		return at + "canaryService: is empty; name the Service that selects the new version"
	case c.StableService == "":
		return at + "stableService: is empty; name the Service that selects the stable version"
	case c.CanaryService == c.StableService:
		return at + "stableService: is the same as canaryService; use two Services"
	case c.DynamicStableScale && c.ScaleDownDelaySeconds != nil:
		return at + "dynamicStableScale: cannot be combined with scaleDownDelaySeconds; remove one"
	case c.TrafficRouting.MaxTrafficWeight != nil:
		return at + "trafficRouting.maxTrafficWeight: is not possible with alb; remove it"
	case notAnAmount(c.MaxSurge):
		return fmt.Sprintf("%smaxSurge: %q is neither a number nor a percentage; use a form such as 1 or 25%%", at, c.MaxSurge.StrVal)
	case notAnAmount(c.MaxUnavailable):
		return fmt.Sprintf("%smaxUnavailable: %q is neither a number nor a percentage; use a form such as 1 or 25%%", at, c.MaxUnavailable.StrVal)
	case isZero(c) != "":
		return at + isZero(c)
	case (alb.Ingress == "") == (len(alb.Ingresses) == 0):
		return at + "trafficRouting.alb: set either ingress or ingresses"
	case badName(alb.Ingresses) != "":
		return at + "trafficRouting.alb." + badName(alb.Ingresses)
	case alb.ServicePort < 1 || alb.ServicePort > 65535:
		return fmt.Sprintf("%strafficRouting.alb.servicePort: %d is not a port", at, alb.ServicePort)
	}
	if st := alb.StickinessConfig; st != nil && st.Enabled && (st.DurationSeconds < 1 || st.DurationSeconds > int64(split.MaxStickiness.Seconds())) {
		return fmt.Sprintf("%strafficRouting.alb.stickinessConfig.durationSeconds: %d is outside 1 to 604800", at, st.DurationSeconds)
	}
	return ""
}

// badName: each Ingress is named, and once, since its state is kept under its name.
func badName(ingresses []string) string {
	for i, name := range ingresses {
		switch {
		case name == "":
			return fmt.Sprintf("ingresses[%d]: is empty; name an Ingress or remove it", i)
		case slices.Contains(ingresses[:i], name):
			return fmt.Sprintf("ingresses[%d]: %q is named twice; remove one", i, name)
		}
	}
	return ""
}

// notAnAmount: a string that is no percentage, with or without its sign.
func notAnAmount(v *intstr.IntOrString) bool {
	if v == nil || v.Type == intstr.Int {
		return false
	}
	_, err := strconv.Atoi(strings.TrimSuffix(v.StrVal, "%"))
	return err != nil
}

// isZero: neither more nor fewer pods than wanted would ever be allowed.
func isZero(c *v1alpha1.CanaryStrategy) string {
	if c.MaxSurge != nil && c.MaxUnavailable != nil && resolve(c.MaxSurge, 100, true) == 0 && resolve(c.MaxUnavailable, 100, false) == 0 {
		return "maxSurge: it and maxUnavailable are both 0; raise one"
	}
	return ""
}

func steps(s Snapshot) string {
	for i, step := range s.Rollout.Spec.Strategy.Canary.Steps {
		if message := checkStep(step); message != "" {
			return fmt.Sprintf("spec.strategy.canary.steps[%d]%s", i, message)
		}
	}
	return ""
}

func checkStep(step v1alpha1.CanaryStep) string {
	kinds := 0
	for _, there := range []bool{step.SetWeight != nil, step.Pause != nil, step.Experiment != nil, step.Analysis != nil} {
		if there {
			kinds++
		}
	}
	const refused = ": is not supported by this version of the controller; remove the step"
	switch {
	case step.Analysis != nil:
		return ".analysis" + refused
	case step.Experiment != nil:
		return ".experiment" + refused
	case step.SetHeaderRoute != nil:
		return ".setHeaderRoute" + refused
	case step.SetMirrorRoute != nil:
		return ".setMirrorRoute" + refused
	case step.Plugin != nil:
		return ".plugin" + refused
	case kinds == 0 && step.SetCanaryScale == nil:
		return ": names no kind of step; use setWeight, pause or setCanaryScale"
	case kinds > 1:
		return ": names several kinds; make one step of each"
	case step.SetWeight != nil && (*step.SetWeight < 0 || *step.SetWeight > totalWeight):
		return fmt.Sprintf(".setWeight: %d is outside 0 to %d", *step.SetWeight, totalWeight)
	}
	if step.Pause != nil && step.Pause.Duration != nil {
		if d, err := pauseDuration(*step.Pause.Duration); err != nil || d < 0 {
			return fmt.Sprintf(".pause.duration: %q is not a duration; use seconds or a form such as 10m", step.Pause.Duration.String())
		}
	}
	return ""
}

func references(s Snapshot) string {
	c := s.Rollout.Spec.Strategy.Canary
	for _, ref := range []struct{ field, name string }{{"canaryService", c.CanaryService}, {"stableService", c.StableService}} {
		at := "spec.strategy.canary." + ref.field
		service := facts{Snapshot: s}.service(ref.name)
		switch {
		case service.Missing:
			return fmt.Sprintf("%s: Service %q does not exist; create it", at, ref.name)
		case service.Mismatch != "":
			return fmt.Sprintf("%s: Service %q selects label %s, which the template does not have; make them agree", at, ref.name, service.Mismatch)
		case service.ManagedBy != "" && service.ManagedBy != s.Rollout.Name:
			return fmt.Sprintf("%s: Service %q is managed by Rollout %q; use another Service", at, ref.name, service.ManagedBy)
		}
	}
	root := c.TrafficRouting.ALB.RootService
	if root == "" {
		root = c.StableService
	}
	for _, i := range s.Ingresses {
		switch {
		case i.Missing:
			return fmt.Sprintf("spec.strategy.canary.trafficRouting.alb: Ingress %q does not exist; create it", i.Name)
		case !i.HasRule:
			return fmt.Sprintf("spec.strategy.canary.trafficRouting.alb: Ingress %q has no rule with backend Service %q and port name use-annotation; add one", i.Name, root)
		case i.RecordError != "":
			return i.RecordError
		}
	}
	return ""
}
