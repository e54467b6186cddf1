// Command lockstep moves pods and traffic in step, on AWS and Kubernetes. This file only puts the commands
// together; each lives in a package of its own.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/lockstep-delivery/lockstep/internal/cli"
	"github.com/lockstep-delivery/lockstep/internal/cli/controller"
	"github.com/lockstep-delivery/lockstep/internal/cli/get"
	"github.com/lockstep-delivery/lockstep/internal/cli/steer"
	sandbox "github.com/lockstep-delivery/lockstep/sandbox/command"
	rehearsal "github.com/lockstep-delivery/lockstep/sandbox/rehearsal/command"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, os.Args[1:])
	stop()
	os.Exit(code)
}

func run(ctx context.Context, streams cli.Streams, args []string) int {
	root := &cobra.Command{
		Use:   "lockstep",
		Short: "Progressive delivery in which traffic never gets ahead of the infrastructure",
		// Adds --version.
		Version: cli.Version(),
	}
	root.AddCommand(controller.New(streams), get.New(streams), sandbox.New(streams), rehearsal.NewDemo(streams), rehearsal.NewBench(streams))
	root.AddCommand(steer.Commands(streams)...)
	cli.Prepare(root)
	root.SetArgs(args)
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.Err)
	err := root.ExecuteContext(ctx)
	if err != nil {
		fmt.Fprintln(streams.Err, "lockstep:", err)
	}
	return cli.ExitCode(err)
}
