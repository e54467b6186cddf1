package rehearsal

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/fault"
)

// disturbances by name: what may go wrong during a release, and lose no request.
var disturbances = []struct {
	name string
	// within is the part of the release, at a settle time of 15 s, in which it comes; zero: right before the third image.
	within time.Duration
	do     func(*demo, context.Context) error
}{
	{"kill", 40 * time.Second, (*demo).killController},
	{"edit", 30 * time.Second, (*demo).editAnnotation},
	{"throttle", 0, (*demo).throttleAWS},
}

// Disturbances are the names of what can go wrong:
//
//	kill      the controller is killed without warning and started again
//	edit      somebody removes the action annotation, and a little later writes another split to it
//	throttle  AWS refuses all changes of rules, listeners and targets for two minutes, from just before the third image
func Disturbances() []string {
	var names []string
	for _, d := range disturbances {
		names = append(names, d.name)
	}
	return names
}

// disturb starts the disturbances that were asked for and have a random moment, each at its own, drawn from the seed.
func (d *demo) disturb(ctx context.Context) *errgroup.Group {
	group, ctx := errgroup.WithContext(ctx)
	draw := rand.New(rand.NewPCG(uint64(d.options.Seed), 0x64697374))
	for _, disturbance := range disturbances {
		wait := time.Duration(draw.Float64() * float64(disturbance.within) * max(1, d.options.Scale*10))
		if disturbance.within == 0 || !slices.Contains(d.options.Disturb, disturbance.name) {
			continue
		}
		group.Go(func() error {
			if !pause(ctx, wait) {
				return nil // the release failed before; it says why itself
			}
			return disturbance.do(d, ctx)
		})
	}
	return group
}

// disturbMidway carries out those that come right before the third image.
func (d *demo) disturbMidway(ctx context.Context) error {
	for _, disturbance := range disturbances {
		if disturbance.within == 0 && slices.Contains(d.options.Disturb, disturbance.name) {
			if err := disturbance.do(d, ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// pause waits, and is false when the context ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (d *demo) disturbance(format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	d.milestone("DISTURBANCE: %s", what)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.report.Disturbances = append(d.report.Disturbances, Milestone{At: time.Now(), What: what})
}

func (d *demo) killController(context.Context) error {
	d.disturbance("the controller is killed")
	if err := d.process.kill(); err != nil {
		return err
	}
	return d.process.start()
}

// editor is the field manager of somebody who is not the controller.
const editor = client.FieldOwner("somebody-else")

func (d *demo) editAnnotation(ctx context.Context) error {
	ingress := &networkingv1.Ingress{}
	if err := d.client.Get(ctx, d.ingress, ingress); err != nil {
		return err
	}
	key, ok := actionKey(ingress)
	if !ok {
		return fmt.Errorf("there is no action annotation to edit on Ingress %s", d.ingress)
	}
	d.disturbance("somebody removes annotation %s", key)
	if err := d.annotate(ctx, ingress, key, nil); err != nil {
		return err
	}
	if !pause(ctx, 2*time.Second) {
		return nil
	}
	d.disturbance("somebody writes an old split to annotation %s", key)
	return d.annotate(ctx, ingress, key, ingress.Annotations[key])
}

// annotate sets an annotation, or removes it when value is nil.
func (d *demo) annotate(ctx context.Context, ingress *networkingv1.Ingress, key string, value any) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{key: value}}})
	if err != nil {
		return err
	}
	return d.client.Patch(ctx, ingress.DeepCopy(), client.RawPatch(types.MergePatchType, patch), editor)
}

// actionKey is the annotation that carries the split.
func actionKey(ingress *networkingv1.Ingress) (string, bool) {
	for _, rule := range ingress.Spec.Rules {
		for _, path := range rule.HTTP.Paths {
			key := "alb.ingress.kubernetes.io/actions." + path.Backend.Service.Name
			if _, ok := ingress.Annotations[key]; ok {
				return key, true
			}
		}
	}
	return "", false
}

// throttledFor is how long AWS refuses changes, if nobody says otherwise.
const throttledFor = 2 * time.Minute

func (d *demo) throttleAWS(context.Context) error {
	throttled := cmp.Or(d.options.Throttled, throttledFor)
	d.disturbance("AWS throttles all changes of rules, listeners and targets for %s", throttled)
	_, err := d.sandbox.AWS().Faults().Add(fault.Fault{
		Kind:       fault.Throttle,
		Operations: []string{"elasticloadbalancing:Modify*", "elasticloadbalancing:SetRulePriorities", "elasticloadbalancing:*Targets"},
		Until:      time.Now().Add(throttled),
	})
	return err
}
