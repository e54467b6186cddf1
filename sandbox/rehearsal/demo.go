package rehearsal

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	crlog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/deploy"
	albcanary "github.com/lockstep-delivery/lockstep/examples/alb-canary"
	"github.com/lockstep-delivery/lockstep/internal/cli/steer"
	"github.com/lockstep-delivery/lockstep/sandbox"
	"github.com/lockstep-delivery/lockstep/sandbox/load"
)

// DemoOptions vary the demo.
type DemoOptions struct {
	Seed    int64
	Profile string
	Scale   float64
	// Rate of the load in requests/s.
	Rate float64
	// Settle is the controller's settle time before Scale is applied.
	Settle time.Duration
	// Kill kills the controller at a random moment of the rollout, drawn from the seed, and starts it again.
	Kill bool
	// Controller is the executable whose command `controller` is rehearsed.
	Controller string
	// ControllerLog is the file that gets the controller's output; empty: a file in the sandbox's folder.
	ControllerLog string
	// Progress gets a line at each milestone.
	Progress io.Writer
}

// images of the demo: the first version, the one that never finishes, and the one that replaces it midway.
const (
	firstImage  = "lockstep.dev/echo:v1"
	secondImage = "lockstep.dev/echo:v2"
	thirdImage  = "lockstep.dev/echo:v3"
	midway      = 50 // percent of the second version at which the third one is set
)

// Time limits, at scale 1 for what the emulated AWS delays; a rehearsal that exceeds one has failed.
const (
	upLimit       = 30 * time.Second
	answerLimit   = 25 * time.Minute
	rolloutLimit  = 60 * time.Minute
	leastLimit    = 4 * time.Minute
	tailAfterDone = 3 * time.Second
)

// demo is one run.
type demo struct {
	options  DemoOptions
	report   Report
	sandbox  *sandbox.Sandbox
	client   client.WithWatch
	rollout  client.ObjectKey
	ingress  client.ObjectKey
	host     string
	process  *process
	graves   graveyard
	timeline *timeline
	// generator is the load, once it is on.
	generator *load.Generator
	mu        sync.Mutex
}

// Demo runs examples/alb-canary: version 1 under load, version 2 as a canary, version 3 set when version 2 has
// midway of the traffic, until version 3 is everywhere and all else is gone. The report is complete up to the
// point that was reached also when the error is not nil; an error means that the rehearsal could not be set up.
func Demo(ctx context.Context, o DemoOptions) (Report, error) {
	crlog.SetLogger(logr.Discard()) // what the informers log is not for the reader of a report
	d := &demo{options: o}
	d.report = Report{Seed: o.Seed, Profile: o.Profile, Scale: o.Scale, Started: time.Now()}
	d.report.SettleSeconds = o.Settle.Seconds() * o.Scale
	err := d.setUp(ctx)
	if err == nil {
		err = d.underLoad(ctx)
	}
	d.report.Ended = time.Now()
	if closing := d.tearDown(); err == nil {
		err = closing
	}
	return d.report, err
}

func (d *demo) setUp(ctx context.Context) error {
	var err error
	up, cancel := context.WithTimeout(ctx, upLimit)
	defer cancel()
	d.sandbox, err = sandbox.Up(up, sandbox.Config{
		Name: fmt.Sprintf("demo-%d", os.Getpid()), Seed: d.options.Seed, Profile: d.options.Profile, Scale: d.options.Scale,
		NodesPerZone: 2, Notify: d.graves.bury,
	})
	if err != nil {
		return fmt.Errorf("cannot start the sandbox: %w", err)
	}
	d.milestone("sandbox is up: kube-apiserver, emulated AWS (%s, profile %s, scale %v)", d.sandbox.State().Region, d.options.Profile, d.options.Scale)
	if d.client, err = newClient(d.sandbox); err != nil {
		return err
	}
	if err := applyCRDs(ctx, d.client, sub(deploy.CRDs, "crds")); err != nil {
		return err
	}
	if err := d.startController(); err != nil {
		return err
	}
	if err := d.applyExample(ctx); err != nil {
		return err
	}
	return d.waitForAnswer(ctx)
}

func (d *demo) applyExample(ctx context.Context) error {
	objects, err := decodeManifests([]byte(ingressClass + albcanary.Manifests))
	if err != nil {
		return err
	}
	rollout, err := find(objects, "Rollout")
	if err != nil {
		return err
	}
	ingress, err := find(objects, "Ingress")
	if err != nil {
		return err
	}
	d.rollout, d.ingress = client.ObjectKeyFromObject(rollout), client.ObjectKeyFromObject(ingress)
	// The controller's webhooks take some moments to be registered; pods made before would have no gates.
	if err := d.waitForWebhook(ctx); err != nil {
		return err
	}
	if err := applyManifests(ctx, d.client, objects); err != nil {
		return err
	}
	d.milestone("applied examples/alb-canary (%s)", firstImage)
	d.timeline, err = follow(ctx, d.sandbox.RESTConfig(), d.client.Scheme(), d.rollout)
	return err
}

// ingressClass is what the Helm chart installs.
const ingressClass = `
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata:
  name: alb
spec:
  controller: ingress.k8s.aws/alb
---
`

func (d *demo) waitForWebhook(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leastLimit)
	defer cancel()
	return d.until(ctx, "the controller's pod webhook", func(ctx context.Context) (bool, error) {
		list := &unstructured.UnstructuredList{}
		list.SetAPIVersion("admissionregistration.k8s.io/v1")
		list.SetKind("MutatingWebhookConfigurationList")
		err := d.client.List(ctx, list)
		return len(list.Items) > 0, err
	})
}

// until waits for a condition and gives up at once when the controller or the sandbox ends.
func (d *demo) until(ctx context.Context, what string, done func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	return until(ctx, what, func(ctx context.Context) (bool, error) {
		if err := d.alive(); err != nil {
			cancel(err)
			return false, err
		}
		return done(ctx)
	})
}

func (d *demo) alive() error {
	if err := d.process.Err(); err != nil {
		return err
	}
	return d.sandbox.Err()
}

// waitForAnswer waits until the load balancer answers with the application's first version.
func (d *demo) waitForAnswer(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, d.limit(answerLimit))
	defer cancel()
	err := d.until(ctx, "the Ingress to get an address", func(ctx context.Context) (bool, error) {
		ingress := &networkingv1.Ingress{}
		if err := d.client.Get(ctx, d.ingress, ingress); err != nil {
			return false, err
		}
		for _, at := range ingress.Status.LoadBalancer.Ingress {
			d.host = at.Hostname
		}
		return d.host != "", nil
	})
	if err != nil {
		return err
	}
	d.milestone("load balancer %s", d.host)
	err = d.until(ctx, "version 1 to answer at the load balancer", func(ctx context.Context) (bool, error) {
		result, err := load.Run(ctx, load.Config{Rate: 20, Duration: 200 * time.Millisecond, Host: d.host, Resolve: d.resolve, Timeout: 2 * time.Second})
		return err == nil && result.Failed == 0 && result.Status[200] == result.Sent && result.Sent > 0, err
	})
	if err != nil {
		return err
	}
	err = d.timeline.until(ctx, "version 1 to be Healthy", func(r *v1alpha1.Rollout, _ map[string]appsv1.ReplicaSet) bool {
		return observed(r) && r.Status.Phase == v1alpha1.PhaseHealthy
	})
	if err == nil {
		d.milestone("version 1 answers and is Healthy")
	}
	return err
}

func (d *demo) resolve(context.Context) ([]netip.AddrPort, error) {
	return d.sandbox.Resolve(d.host, 80)
}

// underLoad runs the release with the load on.
func (d *demo) underLoad(ctx context.Context) error {
	var err error
	d.generator, err = load.New(load.Config{Rate: d.options.Rate, Host: d.host, Resolve: d.resolve})
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
	err = d.release(ctx)
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

// release sets version 2, then version 3 in mid-canary, and waits until nothing else is left.
func (d *demo) release(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, d.limit(rolloutLimit))
	defer cancel()
	killed := d.scheduleKill(ctx)
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
	if err := <-killed; err != nil {
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

func (d *demo) setImage(ctx context.Context, image string) error {
	rollout := &v1alpha1.Rollout{}
	if err := d.client.Get(ctx, d.rollout, rollout); err != nil {
		return err
	}
	d.milestone("set image %s", image)
	return steer.SetImage(ctx, d.client, rollout, map[string]string{"*": image})
}

// scheduleKill kills the controller once, at a moment of the release drawn from the seed.
func (d *demo) scheduleKill(ctx context.Context) <-chan error {
	done := make(chan error, 1)
	if !d.options.Kill {
		done <- nil
		return done
	}
	draw := rand.New(rand.NewPCG(uint64(d.options.Seed), 0x6b696c6c))
	wait := time.Duration(draw.Float64() * 0.6 * float64(time.Minute) * max(1, d.options.Scale*10))
	go func() {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			done <- nil
			return
		}
		d.mu.Lock()
		d.report.Kills = append(d.report.Kills, time.Now())
		d.mu.Unlock()
		d.milestone("killing the controller")
		if err := d.process.kill(); err != nil {
			done <- err
			return
		}
		done <- d.process.start()
	}()
	return done
}

func (d *demo) startController() error {
	state := d.sandbox.State()
	path := d.options.ControllerLog
	if path == "" {
		path = filepath.Join(d.sandbox.Directory(), "controller.log")
	}
	log, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("cannot write the controller's log: %w", err)
	}
	args := []string{"controller",
		"--cluster-name", state.ClusterName, "--aws-vpc-id", state.VPCID, "--aws-region", state.Region,
		"--settle-time", time.Duration(float64(d.options.Settle) * d.options.Scale).String(),
		"--metrics-bind-addr", "0", "--health-probe-bind-addr", "0", "--webhook-bind-port", "0",
	}
	d.process, err = startProcess(d.options.Controller, args, state.Environment(), log)
	if err == nil {
		d.milestone("controller started (log: %s)", path)
	}
	return err
}

func (d *demo) tearDown() error {
	var problems []string
	if d.process != nil {
		if err := d.process.stop(); err != nil {
			problems = append(problems, err.Error())
		}
	}
	if d.sandbox != nil {
		if err := d.sandbox.Close(); err != nil {
			problems = append(problems, err.Error())
		}
	}
	if len(problems) > 0 {
		return fmt.Errorf("cannot end the rehearsal cleanly: %s", strings.Join(problems, "; "))
	}
	return nil
}

// limit is a time limit at this run's scale.
func (d *demo) limit(at1 time.Duration) time.Duration {
	return max(leastLimit, time.Duration(float64(at1)*d.options.Scale))
}

func (d *demo) milestone(format string, args ...any) {
	m := Milestone{At: time.Now(), What: fmt.Sprintf(format, args...)}
	d.mu.Lock()
	d.report.Milestones = append(d.report.Milestones, m)
	d.mu.Unlock()
	fmt.Fprintf(d.options.Progress, "%6.1fs  %s\n", m.At.Sub(d.report.Started).Seconds(), m.What)
}

// sees reports whether AWS was seen to give the canary this weight, as intended.
func sees(r *v1alpha1.Rollout, weight int32) bool {
	service := r.Spec.Strategy.Canary.CanaryService
	for _, t := range r.Status.Traffic {
		if t.Since == nil || t.Weights[service] != weight || t.Intended[service] != weight {
			return false
		}
	}
	return len(r.Status.Traffic) > 0
}

func imageOf(r *v1alpha1.Rollout) string {
	if len(r.Spec.Template.Spec.Containers) == 0 {
		return ""
	}
	return r.Spec.Template.Spec.Containers[0].Image
}

func newClient(s *sandbox.Sandbox) (client.WithWatch, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, appsv1.AddToScheme, networkingv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	return client.NewWithWatch(s.RESTConfig(), client.Options{Scheme: scheme})
}
