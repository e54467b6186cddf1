package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	crlog "sigs.k8s.io/controller-runtime/pkg/log"

	elbv2 "github.com/lockstep-delivery/lockstep/api/elbv2/v1beta1"
	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/deploy"
	"github.com/lockstep-delivery/lockstep/internal/cli/steer"
	"github.com/lockstep-delivery/lockstep/sandbox"
	"github.com/lockstep-delivery/lockstep/sandbox/load"
)

// Options say on what ground a rehearsal runs.
type Options struct {
	Seed int64
	// Profile is ideal, typical, pessimistic, or the path of a YAML file.
	Profile string
	// Scale multiplies every simulated delay and the settle time, 0.1 to 1.
	Scale float64
	// Settle is the controller's settle time before Scale is applied.
	Settle time.Duration
	// NoCommands refuses containers whose command would run as a process of this machine, such as those of Jobs.
	NoCommands bool
	// Controller is the executable whose command `controller` is rehearsed.
	Controller string
	// ControllerLog is the file that gets the controller's output; empty: a file in the sandbox's folder.
	ControllerLog string
	// Progress gets a line at each milestone.
	Progress io.Writer
}

// Time limits, at scale 1 for what the emulated AWS delays; a rehearsal that exceeds one has failed. They are there to end
// what hangs: a busy machine, which takes several times as long, must not reach them.
const (
	upLimit     = 3 * time.Minute
	answerLimit = 25 * time.Minute
	leastLimit  = 8 * time.Minute
)

// stages counts those of this process, since each sandbox needs a name of its own.
var stages atomic.Int64

// stage is a sandbox with a controller in it and one release that is followed.
type stage struct {
	options  Options
	started  time.Time
	sandbox  *sandbox.Sandbox
	client   client.WithWatch
	rollout  client.ObjectKey
	ingress  client.ObjectKey
	host     string
	process  *process
	graves   graveyard
	timeline *timeline

	mu         sync.Mutex
	milestones []Milestone
}

// newStage starts a sandbox and a controller, applies the manifests and waits until the load balancer answers. The
// stage must be closed, also when there is an error.
func newStage(ctx context.Context, o Options, manifests string) (*stage, error) {
	crlog.SetLogger(logr.Discard()) // what the informers log is not for the reader of a report
	d := &stage{options: o, started: time.Now()}
	return d, d.setUp(ctx, manifests)
}

func (d *stage) setUp(ctx context.Context, manifests string) error {
	var err error
	up, cancel := context.WithTimeout(ctx, upLimit)
	defer cancel()
	d.sandbox, err = sandbox.Up(up, d.config())
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
	if err := d.apply(ctx, manifests); err != nil {
		return err
	}
	return d.waitForAnswer(ctx)
}

// config is that of the sandbox.
func (d *stage) config() sandbox.Config {
	return sandbox.Config{
		Name: fmt.Sprintf("rehearsal-%d-%d", os.Getpid(), stages.Add(1)), Seed: d.options.Seed, Profile: d.options.Profile, Scale: d.options.Scale,
		NodesPerZone: 2, NoCommands: d.options.NoCommands, Notify: d.graves.bury,
	}
}

func (d *stage) apply(ctx context.Context, manifests string) error {
	objects, err := decodeManifests([]byte(deploy.IngressClass + "---\n" + manifests))
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
	d.milestone("applied %d manifests", len(objects))
	d.timeline, err = follow(ctx, d.sandbox.RESTConfig(), d.client.Scheme(), d.rollout)
	return err
}

func (d *stage) waitForWebhook(ctx context.Context) error {
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
func (d *stage) until(ctx context.Context, what string, done func(context.Context) (bool, error)) error {
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

func (d *stage) alive() error {
	if err := d.process.Err(); err != nil {
		return err
	}
	return d.sandbox.Err()
}

// waitForAnswer waits until the load balancer answers with the application's first version.
func (d *stage) waitForAnswer(ctx context.Context) error {
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
		result, err := load.Run(ctx, load.Config{Rate: 20, Duration: 200 * time.Millisecond, Host: d.host, Lookup: d.lookup(), Timeout: 2 * time.Second})
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

// lookup resolves the load balancer's name as a client does that has never asked for it.
func (d *stage) lookup() load.Lookup {
	return load.NewResolver(d.sandbox.State().DNS).Lookup(d.host, d.sandbox.Port(80))
}

func (d *stage) startController() error {
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

// close ends the controller and the sandbox.
func (d *stage) close() error {
	var problems []error
	if d.process != nil {
		problems = append(problems, d.process.stop())
	}
	if d.sandbox != nil {
		problems = append(problems, d.sandbox.Close())
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("cannot end the rehearsal cleanly: %w", err)
	}
	return nil
}

// limit is a time limit at this run's scale.
func (d *stage) limit(at1 time.Duration) time.Duration {
	return max(leastLimit, time.Duration(float64(at1)*d.options.Scale))
}

func (d *stage) milestone(format string, args ...any) {
	m := Milestone{At: time.Now(), What: fmt.Sprintf(format, args...)}
	d.mu.Lock()
	d.milestones = append(d.milestones, m)
	d.mu.Unlock()
	fmt.Fprintf(d.options.Progress, "%6.1fs  %s\n", m.At.Sub(d.started).Seconds(), m.What)
}

func newClient(s *sandbox.Sandbox) (client.WithWatch, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, elbv2.AddToScheme, appsv1.AddToScheme, networkingv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	return client.NewWithWatch(s.RESTConfig(), client.Options{Scheme: scheme})
}

func (d *stage) setImage(ctx context.Context, image string) error {
	rollout := &v1alpha1.Rollout{}
	if err := d.client.Get(ctx, d.rollout, rollout); err != nil {
		return err
	}
	d.milestone("set image %s", image)
	return steer.SetImage(ctx, d.client, rollout, map[string]string{"*": image})
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
