// Package steer holds the commands that steer a rollout: promote, abort, retry and set image. Each makes
// the same edits to the Rollout as the kubectl plugin does, so that both can be used side by side.
package steer

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/internal/cli"
	"github.com/lockstep-delivery/lockstep/internal/cli/connect"
)

// Commands are promote, abort, retry and set.
func Commands(streams cli.Streams) []*cobra.Command {
	return []*cobra.Command{newPromote(streams), newAbort(streams), newRetry(streams), newSet(streams)}
}

func newPromote(streams cli.Streams) *cobra.Command {
	var flags connect.Flags
	var full bool
	cmd := &cobra.Command{
		Use:   "promote NAME",
		Short: "End a pause, or with --full skip all remaining steps; waiting for evidence is never skipped",
		Example: `  lockstep promote guestbook -n guestbook
  lockstep promote guestbook --full`,
		Args: cli.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return onRollout(cmd.Context(), flags, args[0], func(ctx context.Context, c client.Client, r *v1alpha1.Rollout) error {
				if err := Promote(ctx, c, r, full); err != nil {
					return err
				}
				fmt.Fprintf(streams.Out, "rollout '%s' promoted\n", r.Name)
				return nil
			})
		},
	}
	flags.Bind(cmd.Flags())
	cmd.Flags().BoolVar(&full, "full", false, "skip all remaining steps and pauses")
	return cmd
}

func newAbort(streams cli.Streams) *cobra.Command {
	return namesCommand(streams, &cobra.Command{
		Use:     "abort NAME...",
		Short:   "Take all traffic back to the stable version",
		Example: "  lockstep abort guestbook -n guestbook",
	}, "aborted", Abort)
}

func newRetry(streams cli.Streams) *cobra.Command {
	return namesCommand(streams, &cobra.Command{
		Use:     "retry NAME...",
		Short:   "Start an aborted update again from its first step",
		Example: "  lockstep retry guestbook -n guestbook",
	}, "retried", Retry)
}

// namesCommand completes a command that does one thing to each rollout named. The plugin's form
// `retry rollout NAME` is understood too.
func namesCommand(streams cli.Streams, cmd *cobra.Command, done string, do func(context.Context, client.Client, *v1alpha1.Rollout) error) *cobra.Command {
	var flags connect.Flags
	cmd.Args = cli.Args(cobra.MinimumNArgs(1))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 && IsKind(args[0]) {
			args = args[1:]
		}
		for _, name := range args {
			err := onRollout(cmd.Context(), flags, name, do)
			if err != nil {
				return err
			}
			fmt.Fprintf(streams.Out, "rollout '%s' %s\n", name, done)
		}
		return nil
	}
	flags.Bind(cmd.Flags())
	return cmd
}

// IsKind reports whether a word names the kind Rollout, in the forms that kubectl users write.
func IsKind(word string) bool {
	switch strings.ToLower(word) {
	case "rollout", "rollouts", "ro":
		return true
	}
	return false
}

func onRollout(ctx context.Context, flags connect.Flags, name string, do func(context.Context, client.Client, *v1alpha1.Rollout) error) error {
	c, namespace, err := flags.Client()
	if err != nil {
		return err
	}
	rollout := &v1alpha1.Rollout{}
	if err := c.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, rollout); err != nil {
		return connect.Explain(err, "cannot read rollout "+namespace+"/"+name)
	}
	return do(ctx, c, rollout)
}

// Abort asks for the stable version to take all traffic back.
func Abort(ctx context.Context, c client.Client, r *v1alpha1.Rollout) error {
	return patchStatus(ctx, c, r, map[string]any{"abort": true})
}

// Retry lifts an abort; the update starts again at its first step.
func Retry(ctx context.Context, c client.Client, r *v1alpha1.Rollout) error {
	return patchStatus(ctx, c, r, map[string]any{"abort": false})
}

// Promote ends a pause, else goes to the next step; with full, it skips all remaining steps.
func Promote(ctx context.Context, c client.Client, r *v1alpha1.Rollout, full bool) error {
	if r.Spec.Paused {
		if err := patch(ctx, c, r, map[string]any{"spec": map[string]any{"paused": false}}); err != nil {
			return err
		}
	}
	status := promotion(r, full)
	if status == nil {
		return nil
	}
	return patchStatus(ctx, c, r, status)
}

// promotion is the status edit that promotes, as the kubectl plugin makes it; nil when there is none to make.
func promotion(r *v1alpha1.Rollout, full bool) map[string]any {
	switch {
	case full && r.Status.CurrentPodHash == r.Status.StableRS:
		return nil
	case full:
		return map[string]any{"promoteFull": true}
	case len(r.Status.PauseConditions) > 0:
		return map[string]any{"pauseConditions": nil}
	case r.Spec.Strategy.Canary == nil || r.Status.CurrentStepIndex == nil:
		return nil
	}
	next := min(*r.Status.CurrentStepIndex+1, int32(len(r.Spec.Strategy.Canary.Steps)))
	return map[string]any{"pauseConditions": nil, "currentStepIndex": next}
}

func patchStatus(ctx context.Context, c client.Client, r *v1alpha1.Rollout, status map[string]any) error {
	data, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		return err
	}
	err = c.Status().Patch(ctx, r, client.RawPatch(types.MergePatchType, data))
	return connect.Explain(err, "cannot change the status of rollout "+r.Namespace+"/"+r.Name)
}

func patch(ctx context.Context, c client.Client, r *v1alpha1.Rollout, change map[string]any) error {
	data, err := json.Marshal(change)
	if err != nil {
		return err
	}
	err = c.Patch(ctx, r, client.RawPatch(types.MergePatchType, data))
	return connect.Explain(err, "cannot change rollout "+r.Namespace+"/"+r.Name)
}
