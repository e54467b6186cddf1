package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	albcanary "github.com/lockstep-delivery/lockstep/examples/alb-canary"
	"github.com/lockstep-delivery/lockstep/sandbox/load"
)

// DemoOptions vary the demo.
type DemoOptions struct {
	Options
	// Rate of the load in requests/s.
	Rate float64
	// Disturb names what goes wrong during the release; see Disturbances.
	Disturb []string
	// Throttled is how long AWS refuses changes when it is to throttle; 2 min when 0.
	Throttled time.Duration
	// StopWhenLost ends the run as soon as a request has failed.
	StopWhenLost bool
}

// images of the demo: the first version, the one that never finishes, and the one that replaces it midway.
const (
	firstImage  = "lockstep.dev/echo:v1"
	secondImage = "lockstep.dev/echo:v2"
	thirdImage  = "lockstep.dev/echo:v3"
	midway      = 50 // percent of the second version at which the third one is set
)

// rolloutLimit bounds the release, at scale 1; tailAfterDone is how long the load stays on afterwards.
const (
	rolloutLimit  = 60 * time.Minute
	tailAfterDone = 3 * time.Second
)

// demo is one run.
type demo struct {
	*stage
	options DemoOptions
	report  Report
	// generator is the load, once it is on.
	generator *load.Generator
}

// Demo runs examples/alb-canary: version 1 under load, version 2 as a canary, version 3 set when version 2 has
// midway of the traffic, until version 3 is everywhere and all else is gone. An error means that the rehearsal
// could not be set up; a release that does not end is the report's Problem.
func Demo(ctx context.Context, o DemoOptions) (Report, error) {
	ground, err := newStage(ctx, o.Options, albcanary.Manifests)
	d := &demo{stage: ground, options: o}
	d.report = Report{Seed: o.Seed, Profile: o.Profile, Scale: o.Scale, Started: ground.started}
	d.report.SettleSeconds = o.Settle.Seconds() * o.Scale
	if err == nil {
		err = d.underLoad(ctx)
	}
	d.report.Ended, d.report.Milestones = time.Now(), ground.milestones
	return d.report, errors.Join(err, ground.close())
}

// demoLoad is the load of the demo. Its application never answers 400 or more, so such an answer is a lost request:
// a listener without its rule, for one, answers 404.
func demoLoad(o DemoOptions, host string, lookup load.Lookup) load.Config {
	return load.Config{Rate: o.Rate, Host: host, Lookup: lookup, Fail4xx: true}
}

// underLoad runs the release with the load on.
func (d *demo) underLoad(ctx context.Context) error {
	var err error
	d.generator, err = load.New(demoLoad(d.options, d.host, d.lookup()))
	if err != nil {
		return err
	}
	loading, stop := context.WithCancel(ctx)
	defer stop()
	type outcome struct {
		result load.Result
		err    error
	}
	ended := make(chan outcome, 1)
	go func() {
		result, err := d.generator.Run(loading)
		ended <- outcome{result, err}
	}()
	showing, hide := context.WithCancel(ctx)
	go d.showProgress(showing)
	err = d.release(d.untilLost(ctx))
	hide()
	stop()
	last := <-ended
	if last.err != nil {
		return fmt.Errorf("cannot send load: %w", last.err)
	}
	d.report.Requests = last.result
	d.collect()
	if err != nil {
		d.report.Problem = err.Error()
	}
	return nil
}

// errLost ends a release whose outcome is already known.
var errLost = errors.New("a request has failed")

// untilLost is a context that ends when a request has failed, if that is to end the run.
func (d *demo) untilLost(ctx context.Context) context.Context {
	if !d.options.StopWhenLost {
		return ctx
	}
	ctx, lost := context.WithCancelCause(ctx)
	go func() {
		for pause(ctx, lookEvery) {
			if d.generator.Snapshot().Failed > 0 {
				lost(errLost)
			}
		}
	}()
	return ctx
}

// release sets version 2, then version 3 in mid-canary, and waits until nothing else is left.
func (d *demo) release(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, d.limit(rolloutLimit))
	defer cancel()
	disturbed := d.disturb(ctx)
	if err := d.setImage(ctx, secondImage); err != nil {
		return err
	}
	midwaySeen := func(r *v1alpha1.Rollout, _ map[string]appsv1.ReplicaSet) bool { return observed(r) && sees(r, midway) }
	if err := d.timeline.until(ctx, fmt.Sprintf("AWS to show %d %% for version 2", midway), midwaySeen); err != nil {
		return err
	}
	if err := d.untilServed(ctx); err != nil {
		return err
	}
	d.milestone("version 2 has %d %% of the traffic", midway)
	if err := d.disturbMidway(ctx); err != nil {
		return err
	}
	if err := d.setImage(ctx, thirdImage); err != nil {
		return err
	}
	thirdEverywhere := func(r *v1alpha1.Rollout, sets map[string]appsv1.ReplicaSet) bool {
		if !observed(r) || r.Status.Phase != v1alpha1.PhaseHealthy || imageOf(r) != thirdImage {
			return false
		}
		for hash, set := range sets {
			if hash != r.Status.StableRS && set.Status.Replicas > 0 {
				return false
			}
		}
		return true
	}
	if err := d.timeline.until(ctx, "version 3 to be Healthy and the others to be gone", thirdEverywhere); err != nil {
		return err
	}
	d.milestone("version 3 is Healthy, the others are gone")
	if err := disturbed.Wait(); err != nil {
		return err
	}
	return d.linger(ctx)
}

// untilServed waits until the clients really get midway of their answers from version 2, as far as a second of
// load can tell: AWS shows a weight before its nodes act on it.
func (d *demo) untilServed(ctx context.Context) error {
	return d.until(ctx, fmt.Sprintf("%d %% of the answers to come from version 2", midway), func(context.Context) (bool, error) {
		seconds := d.generator.Snapshot().Seconds
		if len(seconds) < 2 {
			return false, nil
		}
		last := seconds[len(seconds)-2] // the newest one is not complete
		return last.Versions["v2"]*100 >= last.Sent*(midway-5), nil
	})
}

// linger keeps the load on until the last pods have really ended and some time passed.
func (d *demo) linger(ctx context.Context) error {
	err := d.until(ctx, "the last old pods to end", func(context.Context) (bool, error) {
		for _, pod := range d.graves.ends() {
			if pod.Stopped.IsZero() {
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	select {
	case <-time.After(tailAfterDone):
		return d.alive()
	case <-ctx.Done():
		return ctx.Err()
	}
}
