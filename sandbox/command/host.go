package command

import (
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/lockstep-delivery/lockstep/internal/cli"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
)

func newHost(streams cli.Streams) *cobra.Command {
	return group("host", "Let programs outside of the sandbox be targets", newHostAdd(streams), newHostList(streams), newHostRemove(streams))
}

func newHostAdd(streams cli.Streams) *cobra.Command {
	var name, zone, instance, output string
	var ports []string
	cmd := &cobra.Command{
		Use:   "add HOST --port PORT=ADDRESS:PORT",
		Short: "Start an instance whose ports are really served by a program on this machine",
		Long: `Start an instance of the account whose ports are really served by a program on this machine. Register the printed
instance id or address in target groups; security groups and health checks count as for every instance. Added again,
a host keeps its instance and gets the new ports.

With --instance the program stands for an instance that was started with RunInstances, in a VPC of your own as well.`,
		Example: `  lockstep sandbox host add shop --zone eu-west-1a --port 80=127.0.0.1:3000
  lockstep sandbox host add shop --instance i-0123456789abcdef0 --port 80=127.0.0.1:3000`,
		Args: cli.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			host := aws.Host{Name: args[0], Zone: zone, Instance: instance, Ports: map[uint16]netip.AddrPort{}}
			for _, text := range ports {
				port, real, err := parsePort(text)
				if err != nil {
					return err
				}
				host.Ports[port] = real
			}
			if err := admin(cmd.Context(), name, http.MethodPost, "hosts", host, &host); err != nil {
				return err
			}
			return printAs(streams.Out, output, host, func() { printHosts(streams, []aws.Host{host}) })
		},
	}
	nameFlag(cmd, &name)
	outputFlag(cmd, &output)
	cmd.Flags().StringVar(&zone, "zone", "", "availability zone of the instance (default the first)")
	cmd.Flags().StringVar(&instance, "instance", "", "id of an instance that is there already (default one is started)")
	cmd.Flags().StringArrayVar(&ports, "port", nil, "a port of the instance and where it is really served; can be repeated")
	return cmd
}

// parsePort reads 80=127.0.0.1:3000.
func parsePort(text string) (port uint16, real netip.AddrPort, err error) {
	left, right, _ := strings.Cut(text, "=")
	number, err := strconv.ParseUint(left, 10, 16)
	if err == nil {
		real, err = netip.ParseAddrPort(right)
	}
	if err != nil {
		return 0, netip.AddrPort{}, cli.Usagef("--port is %q: write 80=127.0.0.1:3000", text)
	}
	return uint16(number), real, nil
}

func newHostList(streams cli.Streams) *cobra.Command {
	var name, output string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the programs outside of the sandbox that can be targets",
		Args:  cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var hosts []aws.Host
			if err := admin(cmd.Context(), name, http.MethodGet, "hosts", nil, &hosts); err != nil {
				return err
			}
			return printAs(streams.Out, output, hosts, func() { printHosts(streams, hosts) })
		},
	}
	nameFlag(cmd, &name)
	outputFlag(cmd, &output)
	return cmd
}

func printHosts(streams cli.Streams, hosts []aws.Host) {
	table := tabwriter.NewWriter(streams.Out, 0, 0, 2, ' ', 0)
	defer table.Flush()
	fmt.Fprintln(table, "HOST\tINSTANCE\tADDRESS\tZONE\tPORTS")
	for _, h := range hosts {
		var ports []string
		for _, port := range slices.Sorted(maps.Keys(h.Ports)) {
			ports = append(ports, fmt.Sprintf("%d=%s", port, h.Ports[port]))
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", h.Name, h.ID, h.Address, h.Zone, strings.Join(ports, " "))
	}
}

func newHostRemove(cli.Streams) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "remove HOST",
		Short: "Terminate the instance of a program outside",
		Args:  cli.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return admin(cmd.Context(), name, http.MethodDelete, "hosts/"+url.PathEscape(args[0]), nil, nil)
		},
	}
	nameFlag(cmd, &name)
	return cmd
}
