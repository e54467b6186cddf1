package command

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-delivery/lockstep/internal/cli"
	"github.com/lockstep-delivery/lockstep/sandbox"
)

// patience is how long a sandbox may take to end after SIGTERM before it is killed.
const patience = 30 * time.Second

func newDown(streams cli.Streams) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:     "down",
		Short:   "End a sandbox and everything that it started",
		Example: "  lockstep sandbox down\n  lockstep sandbox down --name second",
		Args:    cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			state, err := sandbox.Running(name)
			if errors.Is(err, sandbox.ErrNotRunning) {
				fmt.Fprintf(streams.Out, "sandbox %s is not running\n", name)
				return nil
			}
			if err != nil {
				return err
			}
			if err := end(cmd.Context(), state); err != nil {
				return err
			}
			fmt.Fprintf(streams.Out, "sandbox %s has ended\n", name)
			return nil
		},
	}
	nameFlag(cmd, &name)
	return cmd
}

func end(ctx context.Context, state sandbox.State) error {
	if err := syscall.Kill(state.PID, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("cannot end process %d of sandbox %s: %w", state.PID, state.Name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for {
		if _, err := sandbox.Running(state.Name); errors.Is(err, sandbox.ErrNotRunning) {
			return nil
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			_ = syscall.Kill(state.PID, syscall.SIGKILL)
			return fmt.Errorf("sandbox %s did not end within %s and was killed; its control plane ends with it", state.Name, patience)
		}
	}
}
