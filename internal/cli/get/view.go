package get

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
)

// view is what is drawn of a rollout; it draws nothing that is not in it.
type view struct {
	rollout *v1alpha1.Rollout
	sets    []appsv1.ReplicaSet
	pods    []corev1.Pod
	now     time.Time
	// colour paints the icons with ANSI codes.
	colour bool
}

// String draws the layout that users of the kubectl plugin know, and below it what Lockstep adds: the
// traffic that was intended and seen, and what is waited for.
func (v view) String() string {
	var b strings.Builder
	v.header(&b)
	v.traffic(&b)
	v.tree(&b)
	if v.colour {
		return painted.Replace(b.String()) // Painted at the end: the codes would count as width of a column.
	}
	return b.String()
}

func (v view) header(b *strings.Builder) {
	r := v.rollout
	line := func(label, value string) {
		fmt.Fprintln(b, strings.TrimRight(fmt.Sprintf("%-17s%s", label+":", value), " "))
	}
	phase, message := v.phase()
	line("Name", r.Name)
	line("Namespace", r.Namespace)
	line("Status", phaseIcon(phase)+" "+phase)
	if message != "" {
		line("Message", message)
	}
	canary := r.Spec.Strategy.Canary
	if canary == nil {
		line("Strategy", "BlueGreen")
	} else {
		line("Strategy", "Canary")
		if r.Status.CurrentStepIndex != nil {
			line("  Step", fmt.Sprintf("%d/%d", *r.Status.CurrentStepIndex, len(canary.Steps)))
			line("  SetWeight", strconv.Itoa(int(v.setWeight())))
		}
		if w := r.Status.Canary.Weights; w != nil {
			line("  ActualWeight", strconv.Itoa(int(v.actualWeight(*w))))
		}
	}
	for i, image := range v.images() {
		label := "Images"
		if i > 0 {
			label = ""
			fmt.Fprintf(b, "%-17s%s\n", label, image)
			continue
		}
		line(label, image)
	}
	line("Replicas", "")
	desired := int32(1)
	if r.Spec.Replicas != nil {
		desired = *r.Spec.Replicas
	}
	line("  Desired", strconv.Itoa(int(desired)))
	line("  Current", strconv.Itoa(int(r.Status.Replicas)))
	line("  Updated", strconv.Itoa(int(r.Status.UpdatedReplicas)))
	line("  Ready", strconv.Itoa(int(r.Status.ReadyReplicas)))
	line("  Available", strconv.Itoa(int(r.Status.AvailableReplicas)))
}

// phase is the status in one word and in words; an older spec's status says nothing of the present one.
func (v view) phase() (phase, message string) {
	s := v.rollout.Status
	if observed, err := strconv.ParseInt(s.ObservedGeneration, 10, 64); err == nil && observed < v.rollout.Generation {
		return v1alpha1.PhaseProgressing, "the latest spec has not been seen yet"
	}
	return cmp.Or(s.Phase, v1alpha1.PhaseProgressing), s.Message
}

// actualWeight is the share of the present version: all of it once it is the stable one, by whichever Service.
func (v view) actualWeight(w v1alpha1.TrafficWeights) int32 {
	if s := v.rollout.Status; s.StableRS != "" && s.StableRS == s.CurrentPodHash {
		return w.Canary.Weight + w.Stable.Weight
	}
	return w.Canary.Weight
}

// setWeight is the weight of the nearest setWeight step at or before the current one, and 0 of an aborted update.
func (v view) setWeight() int32 {
	if v.rollout.Status.Abort {
		return 0
	}
	steps := v.rollout.Spec.Strategy.Canary.Steps
	index := int(*v.rollout.Status.CurrentStepIndex)
	if index >= len(steps) {
		return 100
	}
	for i := index; i >= 0; i-- {
		if steps[i].SetWeight != nil {
			return *steps[i].SetWeight
		}
	}
	return 0
}

// traffic shows the intended and the seen split, and the waits with their reason and age.
func (v view) traffic(b *strings.Builder) {
	for i, t := range v.rollout.Status.Traffic {
		if i == 0 {
			fmt.Fprintln(b, "Traffic:")
		}
		if len(v.rollout.Status.Traffic) > 1 {
			fmt.Fprintf(b, "  %-15s%s\n", "Ingress:", t.Group)
		}
		fmt.Fprintf(b, "  %-15s%s", "Intended:", weights(t.Intended))
		if t.DecidedAt != nil {
			fmt.Fprintf(b, " (decided %s ago)", v.ago(t.DecidedAt.Time))
		}
		fmt.Fprintf(b, "\n  %-15s%s", "Seen in AWS:", cmp.Or(weights(t.Weights), "not yet"))
		if t.Since != nil {
			fmt.Fprintf(b, " (for %s)", v.ago(t.Since.Time))
		}
		if t.SettledAt != nil {
			fmt.Fprintf(b, ", settled")
		}
		fmt.Fprintln(b)
	}
	v.waits(b)
}

// waits shows what is waited for and since when: AWS's answer, or else the next pod or target. An answer that
// is overdue has another icon, and one that nothing depends on now another label. A stable version without health is told beside it.
func (v view) waits(b *strings.Builder) {
	line := func(message, detail string) { fmt.Fprintf(b, "%-17s◷ %s (%s)\n", "Waiting for:", message, detail) }
	warn := func(label string, c v1alpha1.RolloutCondition) {
		fmt.Fprintf(b, "%-17s⚠ %s (%s, for %s)\n", label, c.Message, c.Reason, v.ago(c.LastTransitionTime.Time))
	}
	told := false
	var moved time.Time
	for _, c := range v.rollout.Status.Conditions {
		if c.Type == v1alpha1.ConditionProgressing {
			moved = c.LastUpdateTime.Time
		}
		waiting := c.Type == v1alpha1.ConditionTrafficVerified && c.Status == metav1.ConditionFalse
		contested := c.Type == v1alpha1.ConditionTrafficContested && c.Status == metav1.ConditionTrue
		switch {
		case waiting && c.Reason == v1alpha1.ReasonEvidenceOverdue:
			warn("Waiting for:", c)
			told = true
		case c.Type == v1alpha1.ConditionTrafficVerified && c.Status == metav1.ConditionUnknown:
			warn("Not verified:", c)
		case c.Type == v1alpha1.ConditionStableLost && c.Status == metav1.ConditionTrue:
			warn("Not healthy:", c)
		case waiting || contested:
			line(c.Message, fmt.Sprintf("%s, for %s", c.Reason, v.ago(c.LastTransitionTime.Time)))
			told = true
		}
	}
	if phase, message := v.phase(); !told && phase == v1alpha1.PhaseProgressing && message != "" && !moved.IsZero() {
		line(message, "no progress for "+v.ago(moved))
	}
}

func weights(byService map[string]int32) string {
	var parts []string
	for _, service := range slices.Sorted(maps.Keys(byService)) {
		parts = append(parts, fmt.Sprintf("%s %d", service, byService[service]))
	}
	return strings.Join(parts, ", ")
}

// images lists each image in use with the roles of its ReplicaSets.
func (v view) images() []string {
	roles := map[string][]string{}
	for _, set := range v.owned() {
		if set.Status.Replicas == 0 {
			continue
		}
		for _, container := range set.Spec.Template.Spec.Containers {
			have := roles[container.Image]
			for _, role := range v.roles(set) {
				if !slices.Contains(have, role) {
					have = append(have, role)
				}
			}
			roles[container.Image] = have
		}
	}
	var lines []string
	for _, image := range slices.Sorted(maps.Keys(roles)) {
		if len(roles[image]) > 0 {
			image += " (" + strings.Join(roles[image], ", ") + ")"
		}
		lines = append(lines, image)
	}
	return lines
}

func (v view) roles(set appsv1.ReplicaSet) []string {
	var roles []string
	hash := set.Labels[v1alpha1.HashLabel]
	status := v.rollout.Status
	if hash == status.CurrentPodHash && hash != status.StableRS {
		roles = append(roles, "canary")
	}
	if hash == status.StableRS {
		roles = append(roles, "stable")
	}
	return roles
}

// owned are the rollout's ReplicaSets, newest revision first.
func (v view) owned() []appsv1.ReplicaSet {
	var owned []appsv1.ReplicaSet
	for _, set := range v.sets {
		if metav1.IsControlledBy(&set, v.rollout) {
			owned = append(owned, set)
		}
	}
	slices.SortStableFunc(owned, func(a, b appsv1.ReplicaSet) int { return cmp.Compare(revision(b), revision(a)) })
	return owned
}

func revision(set appsv1.ReplicaSet) int {
	n, _ := strconv.Atoi(set.Annotations[v1alpha1.RevisionAnnotation]) // no revision sorts last
	return n
}

func (v view) tree(b *strings.Builder) {
	fmt.Fprintln(b)
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tKIND\tSTATUS\tAGE\tINFO")
	phase, _ := v.phase()
	fmt.Fprintf(w, "⟳ %s\tRollout\t%s %s\t%s\t\n", v.rollout.Name, phaseIcon(phase), phase, v.ago(v.rollout.CreationTimestamp.Time))
	owned := v.owned()
	for i, set := range owned {
		branch, trunk := "├──", "│  "
		if i == len(owned)-1 {
			branch, trunk = "└──", "   "
		}
		fmt.Fprintf(w, "%s# revision:%d\t\t\t\t\n", branch, revision(set))
		state := setState(set)
		fmt.Fprintf(w, "%s└──⧉ %s\tReplicaSet\t%s %s\t%s\t%s\n", trunk, set.Name, setIcon(state), state, v.ago(set.CreationTimestamp.Time), v.setInfo(set))
		pods := v.podsOf(set)
		for j, pod := range pods {
			twig := "├──"
			if j == len(pods)-1 {
				twig = "└──"
			}
			icon, state := podState(pod)
			fmt.Fprintf(w, "%s   %s□ %s\tPod\t%s %s\t%s\t%s\n", trunk, twig, pod.Name, icon, state, v.ago(pod.CreationTimestamp.Time), podInfo(pod))
		}
	}
	w.Flush() // into memory: cannot fail
	for line := range strings.Lines(table.String()) {
		fmt.Fprintln(b, strings.TrimRight(line, " \n"))
	}
}

func (v view) podsOf(set appsv1.ReplicaSet) []corev1.Pod {
	var pods []corev1.Pod
	for _, pod := range v.pods {
		if metav1.IsControlledBy(&pod, &set) {
			pods = append(pods, pod)
		}
	}
	slices.SortFunc(pods, func(a, b corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	return pods
}

func (v view) setInfo(set appsv1.ReplicaSet) string {
	info := v.roles(set)
	if deadline, err := time.Parse(time.RFC3339, set.Annotations[v1alpha1.ScaleDownDeadlineAnnotation]); err == nil {
		left := "passed"
		if deadline.After(v.now) {
			left = duration.HumanDuration(deadline.Sub(v.now))
		}
		info = append(info, "delay:"+left)
	}
	return strings.Join(info, ",")
}

func setState(set appsv1.ReplicaSet) string {
	wanted := int32(1)
	if set.Spec.Replicas != nil {
		wanted = *set.Spec.Replicas
	}
	switch {
	case wanted == 0 && set.Status.Replicas == 0:
		return "ScaledDown"
	case set.Status.AvailableReplicas >= wanted && set.Status.Replicas == wanted:
		return "Healthy"
	}
	return "Progressing"
}

func setIcon(state string) string {
	switch state {
	case "ScaledDown":
		return "•"
	case "Healthy":
		return "✔"
	}
	return "◌"
}

func podState(pod corev1.Pod) (icon, state string) {
	if pod.DeletionTimestamp != nil {
		return "◌", "Terminating"
	}
	for _, s := range pod.Status.ContainerStatuses {
		if s.State.Waiting != nil && s.State.Waiting.Reason != "ContainerCreating" {
			return "⚠", s.State.Waiting.Reason
		}
	}
	switch pod.Status.Phase {
	case corev1.PodRunning:
		if slices.ContainsFunc(pod.Status.Conditions, isReady) {
			return "✔", "Running"
		}
		return "◌", "Running"
	case corev1.PodFailed:
		return "✖", cmp.Or(pod.Status.Reason, "Failed")
	}
	return "◌", cmp.Or(string(pod.Status.Phase), "Pending")
}

func isReady(c corev1.PodCondition) bool {
	return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
}

func podInfo(pod corev1.Pod) string {
	ready, restarts := 0, int32(0)
	for _, s := range pod.Status.ContainerStatuses {
		if s.Ready {
			ready++
		}
		restarts += s.RestartCount
	}
	info := fmt.Sprintf("ready:%d/%d", ready, len(pod.Spec.Containers))
	if restarts > 0 {
		info += fmt.Sprintf(",restarts:%d", restarts)
	}
	return info
}

func (v view) ago(t time.Time) string { return duration.HumanDuration(v.now.Sub(t)) }

func phaseIcon(phase string) string {
	switch phase {
	case v1alpha1.PhaseHealthy:
		return "✔"
	case v1alpha1.PhaseDegraded:
		return "✖"
	case v1alpha1.PhasePaused:
		return "॥"
	case v1alpha1.PhaseProgressing:
		return "◌"
	}
	return "?"
}

// painted gives each icon its colour. Names in Kubernetes never hold an icon.
var painted = strings.NewReplacer(
	"✔", "\x1b[32m✔\x1b[0m", "✖", "\x1b[31m✖\x1b[0m", "⚠", "\x1b[33m⚠\x1b[0m",
	"॥", "\x1b[33m॥\x1b[0m", "◌", "\x1b[36m◌\x1b[0m", "◷", "\x1b[33m◷\x1b[0m",
)
