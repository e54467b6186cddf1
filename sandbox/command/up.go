package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lockstep-delivery/lockstep/internal/cli"
	"github.com/lockstep-delivery/lockstep/sandbox"
)

type upOptions struct {
	config sandbox.Config
	detach bool
	// commands lets containers run commands as processes of this machine.
	commands bool
	only     string
	// given are the flags that the user has given, as they are written.
	given   []string
	streams cli.Streams
}

// onlyAWS is the only part that can be started alone.
const onlyAWS = "aws"

// ofTheCluster are the flags that say nothing of an account without a cluster.
var ofTheCluster = []string{"local-commands", "nodes-per-zone", "api-port"}

func newUp(streams cli.Streams) *cobra.Command {
	o := upOptions{streams: streams}
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start a sandbox; it ends with Ctrl-C, or with 'lockstep sandbox down' when detached",
		Example: `  lockstep sandbox up
  lockstep sandbox up --only aws --aws-port 4566 --data-dir ./account
  lockstep sandbox up --name second --join default
  lockstep sandbox up --detach --profile pessimistic --scale 0.1 --seed 7`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context(), cmd.Flags()) },
	}
	nameFlag(cmd, &o.config.Name)
	flags := cmd.Flags()
	flags.BoolVar(&o.detach, "detach", false, "run in the background")
	flags.BoolVar(&o.commands, "local-commands", true, "let containers of Jobs and shells run their commands as processes of this machine, with your rights")
	flags.StringVar(&o.config.Profile, "profile", "typical", "how AWS behaves in time: ideal, typical, pessimistic, or a YAML file")
	flags.Float64Var(&o.config.Scale, "scale", 1, "factor on every simulated delay, 0.1 to 1")
	flags.Int64Var(&o.config.Seed, "seed", 1, "seed of every random draw")
	flags.StringVar(&o.only, "only", "", "start only this part: aws, the emulated account without a cluster")
	flags.StringVar(&o.config.Join, "join", "", "put the cluster into the AWS account of this running sandbox, instead of one of its own")
	flags.StringVar(&o.config.ClusterName, "cluster-name", "", "name in the tags of nodes and subnets (default lockstep, with --join the sandbox's name)")
	flags.StringVar(&o.config.Region, "region", "", "region of the account (default "+sandbox.Region+")")
	flags.StringVar(&o.config.AccountID, "account-id", "", "id of the account (default "+sandbox.AccountID+")")
	flags.StringVar(&o.config.Identities, "identities", "", "YAML file with keys, users, roles and their policies (default one key that may do everything)")
	flags.StringVar(&o.config.DataDir, "data-dir", "", "folder in which the AWS account is kept over restarts (needs --only aws)")
	flags.BoolVar(&o.config.KeepJournal, "keep-journal", false, "let the journal grow in the data directory as well")
	flags.BoolVar(&o.config.OpenSecurityGroups, "open-security-groups", false, "let every packet pass, whatever security groups say")
	flags.BoolVar(&o.config.Anonymous, "anonymous", false, "let every AWS call in, whatever it is signed with")
	flags.IntVar(&o.config.NodesPerZone, "nodes-per-zone", 2, "Kubernetes nodes in each of the three zones")
	flags.IntVar(&o.config.APIPort, "api-port", 0, "port of the API server on 127.0.0.1 (default a free one)")
	flags.IntVar(&o.config.AWSPort, "aws-port", 0, "port of the emulated AWS on 127.0.0.1 (default a free one)")
	flags.IntVar(&o.config.DNSPort, "dns-port", 0, "port of the name server on 127.0.0.1, UDP and TCP (default a free one)")
	return cmd
}

func (o *upOptions) run(ctx context.Context, flags *pflag.FlagSet) error {
	if o.only != "" && o.only != onlyAWS {
		return cli.Usagef("--only is %q: use %s, or leave it out", o.only, onlyAWS)
	}
	for _, flag := range ofTheCluster {
		if o.only == onlyAWS && flags.Changed(flag) {
			return cli.Usagef("--%s is about a cluster, and --only %s starts none: leave one of them out", flag, onlyAWS)
		}
	}
	flags.Visit(func(f *pflag.Flag) {
		if f.Name != "detach" {
			o.given = append(o.given, "--"+f.Name+"="+f.Value.String())
		}
	})
	if o.config.Scale == 0 { // in a Config it stands for the default
		return cli.Usagef("--scale is 0: use 0.1 to 1, or --profile ideal for no delays")
	}
	o.config.OnlyAWS, o.config.NoCommands = o.only == onlyAWS, !o.commands
	if err := o.config.Validate(); err != nil {
		return cli.UsageError{Err: err}
	}
	if state, err := sandbox.Running(o.config.Name); err == nil {
		return fmt.Errorf("sandbox %s runs already (process %d): '%s' ends it, --name starts another", state.Name, state.PID, sandbox.Command("down", state.Name))
	}
	if o.detach {
		return o.background(ctx)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(200) // a request that meets a collection waits: half as many, for a half more memory
	}
	s, err := sandbox.Up(ctx, o.config)
	if errors.Is(err, context.Canceled) {
		return errors.New("interrupted before the sandbox was ready; nothing is left of it")
	}
	if err != nil {
		return err
	}
	describe(o.streams.Out, s.State())
	o.warn()
	fmt.Fprintln(o.streams.Out, "\nCtrl-C ends it.")
	select {
	case <-ctx.Done():
	case <-s.Done():
	}
	return errors.Join(s.Err(), s.Close())
}

// background starts the same command once more, apart from this terminal, and waits until it is ready.
func (o *upOptions) background(ctx context.Context) error {
	dir, err := sandbox.Directory(o.config.Name)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cannot make the sandbox's directory: %w", err)
	}
	logFile := filepath.Join(dir, "up.log")
	out, err := os.Create(logFile)
	if err != nil {
		return fmt.Errorf("cannot write the sandbox's log: %w", err)
	}
	defer out.Close()
	child, err := o.child(out)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case <-look.C:
			if state, err := sandbox.Running(o.config.Name); err == nil && state.PID == child.Process.Pid {
				describe(o.streams.Out, state)
				o.warn()
				fmt.Fprintf(o.streams.Out, "\n'%s' ends it.\n", sandbox.Command("down", state.Name))
				return nil
			}
		case <-ended:
			return fmt.Errorf("the sandbox did not start: %s (log: %s)", lastLine(logFile), logFile)
		case <-ctx.Done():
			return errors.Join(ctx.Err(), child.Process.Signal(syscall.SIGTERM), <-ended)
		}
	}
}

// warn says what a manifest can do on this machine.
func (o *upOptions) warn() {
	if o.commands && !o.config.OnlyAWS {
		fmt.Fprintln(o.streams.Out, "\nCommands of Jobs and shell containers run as processes of this machine, with your rights; --local-commands=false forbids it.")
	}
}

func (o *upOptions) child(out io.Writer) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("cannot find the lockstep executable: %w", err)
	}
	cmd := exec.Command(self, slices.Concat([]string{"sandbox", "up"}, o.given)...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start the sandbox in the background: %w", err)
	}
	return cmd, nil
}

func lastLine(path string) string {
	data, _ := os.ReadFile(path)
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.TrimPrefix(lines[len(lines)-1], "lockstep: ")
}

func describe(w io.Writer, s sandbox.State) {
	parts := "Kubernetes and AWS"
	if s.Joined != "" {
		parts = "Kubernetes, in the AWS account of sandbox " + s.Joined
	}
	if s.Kubeconfig == "" {
		parts = "AWS alone"
	}
	fmt.Fprintf(w, "sandbox %s is ready: %s (%s, profile %s, scale %v, seed %d)\n", s.Name, parts, s.Region, s.Profile, s.Scale, s.Seed)
	if s.Kubeconfig != "" {
		fmt.Fprintf(w, "  kubeconfig  %s\n", s.Kubeconfig)
	}
	fmt.Fprintf(w, "  AWS         %s\n  DNS         %s (dig @%s -p %d NAME)\n  VPC         %s (%s)\n",
		s.AWSEndpoint, s.DNS, s.DNS.Addr(), s.DNS.Port(), s.VPCID, s.VPCCIDR)
	fmt.Fprintf(w, "use it:\n  eval \"$(%s)\"\n", sandbox.Command("env", s.Name))
}
