// Package get is the command `lockstep get rollout`: what a rollout is doing, what it waits for and since
// when, and the evidence so far.
package get

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/internal/cli"
	"github.com/lockstep-delivery/lockstep/internal/cli/connect"
	"github.com/lockstep-delivery/lockstep/internal/cli/steer"
)

// redrawAtMost is the shortest time between two pictures while watching.
const redrawAtMost = 200 * time.Millisecond

type options struct {
	flags   connect.Flags
	watch   bool
	timeout time.Duration
	noColor bool
	streams cli.Streams
}

// New is the command `lockstep get`.
func New(streams cli.Streams) *cobra.Command {
	get := &cobra.Command{Use: "get", Short: "Show what a rollout is doing"}
	o := options{streams: streams}
	var timeoutSeconds int
	rollout := &cobra.Command{
		Use:     "rollout NAME",
		Aliases: []string{"rollouts", "ro"},
		Short:   "Show a rollout: its steps, versions and pods, what it waits for, and the evidence so far",
		Example: "  lockstep get rollout guestbook -n guestbook\n  lockstep get rollout guestbook -w",
		Args:    cli.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.timeout = time.Duration(timeoutSeconds) * time.Second
			return o.run(cmd.Context(), args[0])
		},
	}
	o.flags.Bind(rollout.Flags())
	rollout.Flags().BoolVarP(&o.watch, "watch", "w", false, "keep showing it as it changes")
	rollout.Flags().IntVar(&timeoutSeconds, "timeout-seconds", 0, "end watching after this many seconds (0: never)")
	rollout.Flags().BoolVar(&o.noColor, "no-color", false, "no colours")
	get.AddCommand(rollout)
	return get
}

func (o *options) run(ctx context.Context, name string) error {
	if steer.IsKind(name) {
		return cli.Usagef("name a rollout: lockstep get rollout NAME")
	}
	c, namespace, err := o.flags.Client()
	if err != nil {
		return err
	}
	key := types.NamespacedName{Namespace: namespace, Name: name}
	colour := !o.noColor && isTerminal(o.streams.Out) && os.Getenv("TERM") != "dumb"
	if !o.watch {
		return show(ctx, c, key, o.streams.Out, colour)
	}
	if o.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.timeout)
		defer cancel()
	}
	return follow(ctx, c, key, o.streams.Out, colour)
}

// follow shows the rollout whenever something of it changes, and once a second for the times in the picture.
func follow(ctx context.Context, c client.WithWatch, key types.NamespacedName, out io.Writer, colour bool) error {
	changed, err := watchAll(ctx, c, key.Namespace)
	if err != nil {
		return err
	}
	clock := time.NewTicker(time.Second)
	defer clock.Stop()
	for {
		if colour {
			fmt.Fprint(out, "\x1b[H\x1b[2J")
		}
		if err := show(ctx, c, key, out, colour); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if !colour {
			fmt.Fprintln(out, "---")
		}
		pause := time.NewTimer(redrawAtMost)
		select {
		case <-pause.C:
		case <-ctx.Done():
			return nil
		}
		select {
		case <-changed:
		case <-clock.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// watchAll signals whenever a rollout, ReplicaSet or pod of the namespace changes. Signals that nobody waits
// for are dropped: one is enough for a new picture.
func watchAll(ctx context.Context, c client.WithWatch, namespace string) (<-chan struct{}, error) {
	changed := make(chan struct{}, 1)
	for _, list := range []client.ObjectList{&v1alpha1.RolloutList{}, &appsv1.ReplicaSetList{}, &corev1.PodList{}} {
		w, err := c.Watch(ctx, list, client.InNamespace(namespace))
		if err != nil {
			return nil, connect.Explain(err, "cannot watch namespace "+namespace)
		}
		go forward(ctx, w, changed)
	}
	return changed, nil
}

func forward(ctx context.Context, w watch.Interface, changed chan<- struct{}) {
	defer w.Stop()
	for {
		select {
		case _, open := <-w.ResultChan():
			if !open {
				return // the once-a-second picture goes on without it
			}
			select {
			case changed <- struct{}{}:
			default:
			}
		case <-ctx.Done():
			return
		}
	}
}

// show reads the rollout with its ReplicaSets and pods, and draws it.
func show(ctx context.Context, c client.Client, key types.NamespacedName, out io.Writer, colour bool) error {
	var v view
	rollout := &v1alpha1.Rollout{}
	if err := c.Get(ctx, key, rollout); err != nil {
		return connect.Explain(err, "cannot read rollout "+key.String())
	}
	v.rollout = rollout
	var sets appsv1.ReplicaSetList
	var pods corev1.PodList
	err := errors.Join(c.List(ctx, &sets, client.InNamespace(key.Namespace)), c.List(ctx, &pods, client.InNamespace(key.Namespace)))
	if err != nil {
		return connect.Explain(err, "cannot read the pods of rollout "+key.String())
	}
	v.sets, v.pods, v.now = sets.Items, pods.Items, time.Now()
	v.colour = colour
	_, err = io.WriteString(out, v.String())
	return err
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
