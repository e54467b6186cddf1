// Package command holds the commands `lockstep sandbox ...`: they start a sandbox, tell about it, and end it.
package command

import (
	"github.com/spf13/cobra"

	"github.com/lockstep-delivery/lockstep/internal/cli"
	"github.com/lockstep-delivery/lockstep/sandbox"
)

// New is the command `lockstep sandbox` with its subcommands.
func New(streams cli.Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sandbox",
		Short: "Run a real kube-apiserver and an emulated AWS that carries traffic, on this machine",
	}
	cmd.AddCommand(newUp(streams), newStatus(streams), newEnv(streams), newJournal(streams), newDown(streams),
		newFault(streams), newProfile(streams), newScale(streams), newInspect(streams), newHost(streams), newReset(streams), newIdentities(streams))
	return cmd
}

// nameFlag adds the flag that says which sandbox is meant.
func nameFlag(cmd *cobra.Command, name *string) {
	cmd.Flags().StringVar(name, "name", sandbox.DefaultName, "name of the sandbox; several can run side by side")
}
