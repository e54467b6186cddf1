package simulation

import (
	"math/rand/v2"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/internal/split"
)

// faults lets things go wrong until quiet is set.
type faults struct {
	w     *world
	quiet bool
}

// begin schedules what comes by itself.
func (f *faults) begin(within time.Duration) {
	c := f.w.config.Faults
	for range c.Storms {
		f.soon(within, f.storm)
	}
	for range c.LostPods {
		f.soon(within, f.losePod)
	}
	for range c.Edits {
		f.soon(within, f.edit)
	}
	for range c.Crowds {
		f.soon(within, f.w.account.crowd)
	}
	if c.Neighbour {
		f.soon(within, f.w.account.neighbour)
	}
	if c.Twin {
		f.soon(within, f.w.account.duplicate)
	}
	if c.Crash > 0 {
		f.soon(within, func() { f.crash(nil) })
	}
}

func (f *faults) soon(within time.Duration, fault func()) {
	f.w.after(f.w.between(0, within), func() {
		if !f.quiet {
			fault()
		}
	})
}

func (f *faults) storm() {
	f.w.aws.busyUntil = f.w.now().Add(f.w.between(time.Minute, 8*time.Minute))
	f.w.note("FAULT: AWS throttles until %s", f.w.aws.busyUntil.Format(time.TimeOnly))
	f.w.reach("throttle storm")
}

func (f *faults) losePod() {
	pods := f.w.pods.live.objects
	if len(pods) == 0 {
		return
	}
	name := pods[f.w.intn(len(pods))].name
	f.w.note("FAULT: pod %s stops by itself", name)
	f.w.reach("lost pod")
	f.w.workload.lose(name, f.w.chance(0.5))
}

// edit is a foreign hand on the annotation: removed, broken, or another split.
func (f *faults) edit() {
	w := f.w
	action := []string{
		"", "{", `{"type":"fixed-response","fixedResponseConfig":{"contentType":"text/plain","statusCode":"503"}}`,
		w.action(100, 0), w.action(0, 100),
	}[w.intn(5)]
	// Without the bookkeeping nobody can tell that the action is not its author's to decide.
	if in, _ := w.ingresses.live.get(ingressName); !in.recorded && strings.Contains(action, "fixed-response") {
		action = ""
	}
	f.foreign(action)
}

// action is an annotation as a person would write it.
func (w *world) action(canary, stable int32) string {
	text, _ := split.Encode(split.Split{Stickiness: w.config.Stickiness, Destinations: []split.Destination{
		{Service: canaryService, Port: "80", Weight: canary}, {Service: stableService, Port: "80", Weight: stable},
	}})
	return text
}

func (f *faults) foreign(action string) {
	w := f.w
	w.note("FAULT: somebody writes the annotation: %q", action)
	w.reach("foreign edit")
	w.laws.meddled()
	w.ingresses.change(ingressName, func(i *ingress) {
		i.action, i.writer, i.writtenAt = action, "argocd", w.now()
		i.other, i.otherAt = "argocd", w.now()
		if action == "" && w.chance(0.5) {
			i.recorded = false // the object was replaced as a whole
		}
	})
}

// written is called after each write of ours to the annotation: a GitOps tool may put its own value back.
func (f *faults) written() {
	if f.quiet || !f.w.config.Faults.Reverter || !f.w.laws.judging {
		return
	}
	f.w.after(f.w.between(time.Second, 90*time.Second), func() {
		if !f.quiet && f.w.chance(0.7) {
			f.edit()
		}
	})
}

// mayCrash crashes the controller before an operation, now and then; the operation may still arrive late.
// Calls to AWS are fewer than writes to Kubernetes, and so are made to count for more.
func (f *faults) mayCrash(counts float64, late func()) bool {
	if f.quiet || !f.w.laws.judging || !f.w.chance(counts*f.w.config.Faults.Crash) {
		return false
	}
	f.crash(late)
	return true
}

// crash ends the process at once; a successor takes over some seconds later.
func (f *faults) crash(late func()) {
	w := f.w
	if w.down {
		return
	}
	w.note("FAULT: the controller crashes")
	w.reach("crash")
	w.stop()
	takeover := w.between(100*time.Millisecond, 15*time.Second)
	if late != nil && w.config.Faults.LateCalls && w.chance(0.5) {
		w.after(w.between(0, 2*takeover+5*time.Second), func() {
			w.note("FAULT: a late call of the former leader:")
			w.reach("late call")
			w.laws.meddled()
			w.laws.lateAt = w.now()
			late()
		})
	}
	w.after(takeover, w.start)
}

// people do things at random.
type people struct {
	w    *world
	left int
}

func (p *people) begin() {
	p.left = p.w.config.Acts
	p.restarts(time.Duration(p.w.config.Acts+1) * p.w.config.Calm)
	p.first()
}

// restarts are asked for beside everything else, by draws of their own, so that runs without them stay as they were.
func (p *people) restarts(within time.Duration) {
	r := rand.New(rand.NewPCG(p.w.config.Seed, 4))
	for range p.w.config.Restarts {
		when, ahead := time.Duration(r.Int64N(int64(within))), time.Duration(0)
		if r.IntN(4) == 0 {
			ahead = time.Duration(r.Int64N(int64(3 * time.Minute)))
		}
		p.w.after(when, func() {
			if !p.w.calmAt.IsZero() {
				return
			}
			at := metav1.NewTime(p.w.now().Add(ahead).Truncate(time.Second)) // whole seconds, as kubectl writes them
			p.edit("restart", func(r *rollout) { r.spec.RestartAt = &at; r.generation++ })
			p.w.note("  at %s", at.Format(time.TimeOnly))
		})
	}
}

// first sets a new image, so that every run has at least one rollout.
func (p *people) first() {
	p.w.after(p.w.between(time.Second, time.Minute), func() { p.image(); p.next() })
}

func (p *people) next() {
	if p.left--; p.left <= 0 {
		p.w.after(p.w.between(time.Minute, p.w.config.Calm+time.Minute), p.w.calm)
		return
	}
	p.w.after(p.w.between(time.Second, p.w.config.Calm), func() { p.act(); p.next() })
}

func (p *people) act() {
	r, _ := p.w.rollouts.live.get(rolloutName)
	switch p.w.intn(12) {
	case 0, 1, 2, 3:
		p.image()
	case 4:
		p.rollback()
	case 5:
		p.promote()
	case 6:
		p.edit("promote --full", func(r *rollout) { r.status.PromoteFull, r.status.PauseConditions = true, nil })
	case 7:
		p.abort()
	case 8:
		p.edit("retry", func(r *rollout) { r.status.Abort = false })
	case 9, 10:
		p.scale()
	case 11:
		paused := !r.spec.Paused
		p.w.laws.resizedAt = p.w.now() // a size that was wished for meanwhile comes only when it goes on
		p.edit("pause or resume", func(r *rollout) { r.spec.Paused = paused; r.generation++ })
	}
}

// edit writes the Rollout as kubectl or the plugin does.
func (p *people) edit(what string, edit func(*rollout)) {
	p.w.note("USER: %s", what)
	p.w.reach("user: " + what)
	p.w.rollouts.change(rolloutName, func(r *rollout) {
		r.status = *r.status.DeepCopy()
		edit(r)
	})
}

// image sets a template that has not been there, or one from before.
func (p *people) image() {
	r, _ := p.w.rollouts.live.get(rolloutName)
	image := string(rune('A' + p.w.images))
	if p.w.images > 2 && p.w.chance(0.2) {
		image = string(rune('A' + p.w.intn(p.w.images)))
	} else {
		p.w.images++
	}
	p.note(r, image)
	p.edit("set image", func(r *rollout) { r.image = image; r.generation++ })
	p.w.note("  to %s", image)
}

// note counts in which situations the image changes.
func (p *people) note(r *rollout, image string) {
	updating := r.status.StableRS != r.image
	if image == r.image || !updating {
		return
	}
	p.w.reach("re-sync")
	if r.status.Abort {
		p.w.reach("new image after an abort")
	}
	s, _ := p.w.services.live.get(canaryService)
	if s.hash != r.image && s.hash != r.status.StableRS {
		p.w.reach("fourth image during a re-sync")
	}
}

func (p *people) rollback() {
	r, _ := p.w.rollouts.live.get(rolloutName)
	stable := r.status.StableRS
	p.edit("roll back", func(r *rollout) { r.image = stable; r.generation++ })
}

func (p *people) promote() {
	p.edit("promote", func(r *rollout) {
		if len(r.status.PauseConditions) > 0 {
			r.status.PauseConditions = nil
		} else if i := r.status.CurrentStepIndex; i != nil && int(*i) < len(p.w.config.Steps) {
			r.status.CurrentStepIndex = new(*i + 1)
		}
	})
}

func (p *people) abort() {
	r, _ := p.w.rollouts.live.get(rolloutName)
	if s, _ := p.w.services.live.get(canaryService); r.status.StableRS != r.image && s.hash != r.image {
		p.w.reach("abort during a re-sync")
	}
	p.edit("abort", func(r *rollout) { r.status.Abort = true })
}

func (p *people) scale() {
	replicas := int32(p.w.intn(7))
	if p.w.chance(0.2) {
		replicas = 0
	}
	p.resize(replicas)
	if replicas == 0 {
		p.w.after(p.w.between(10*time.Second, 20*time.Minute), func() {
			if !p.w.faults.quiet {
				p.resize(int32(1 + p.w.intn(5)))
			}
		})
	}
}

func (p *people) resize(replicas int32) {
	what := "scale"
	if replicas == 0 {
		what = "scale to 0"
	}
	p.w.laws.resized(replicas)
	p.edit(what, func(r *rollout) { r.spec.Replicas = new(replicas); r.generation++ })
	p.w.note("  to %d", replicas)
}

// carryOn is what people do in the end so that a rollout can end: resume, promote, sometimes retry.
func (p *people) carryOn() {
	r, _ := p.w.rollouts.live.get(rolloutName)
	switch {
	case r.spec.Paused:
		p.w.laws.resizedAt = p.w.now() // a size that was wished for meanwhile comes only now
		p.edit("resume", func(r *rollout) { r.spec.Paused = false; r.generation++ })
	case len(r.status.PauseConditions) > 0 && p.indefinite(r.status):
		p.promote()
	case r.status.Abort && !p.w.retried && p.w.config.Seed%2 == 0:
		p.w.retried = true
		p.edit("retry", func(r *rollout) { r.status.Abort = false })
	}
}

func (p *people) indefinite(s v1alpha1.RolloutStatus) bool {
	steps := p.w.config.Steps
	if s.CurrentStepIndex == nil || int(*s.CurrentStepIndex) >= len(steps) {
		return true
	}
	pause := steps[*s.CurrentStepIndex].Pause
	return pause == nil || pause.Duration == nil
}
