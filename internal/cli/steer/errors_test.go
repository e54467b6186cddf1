package steer

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/lockstep-delivery/lockstep/internal/cli"
)

// What cannot be done is one line that says why, with the exit code of its kind; nothing is printed as done.
func TestErrorsOfTheCommands(t *testing.T) {
	away := filepath.Join(t.TempDir(), "away")
	content := `{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c}}], clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}]}`
	if err := os.WriteFile(away, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", "")
	t.Setenv("HOME", t.TempDir())
	for line, row := range map[string]struct {
		code  int
		named string
	}{
		"promote":                           {cli.ExitUsage, "usage: lockstep promote NAME"},
		"promote a b":                       {cli.ExitUsage, "usage: lockstep promote NAME"},
		"promote a --ful":                   {cli.ExitUsage, "--ful"},
		"abort":                             {cli.ExitUsage, "usage: lockstep abort NAME..."},
		"retry":                             {cli.ExitUsage, "usage: lockstep retry NAME..."},
		"set":                               {cli.ExitUsage, "name a command"},
		"set replicas a 3":                  {cli.ExitUsage, `"replicas"`},
		"set image a":                       {cli.ExitUsage, "CONTAINER=IMAGE"},
		"set image a app":                   {cli.ExitUsage, `"app" is not CONTAINER=IMAGE`},
		"set image rollout a app=":          {cli.ExitUsage, `"app=" is not CONTAINER=IMAGE`},
		"promote a":                         {cli.ExitFailure, "no cluster is configured"},
		"abort a b":                         {cli.ExitFailure, "no cluster is configured"},
		"retry rollout a":                   {cli.ExitFailure, "no cluster is configured"},
		"set image a app=x":                 {cli.ExitFailure, "no cluster is configured"},
		"promote a --kubeconfig nosuch":     {cli.ExitFailure, "nosuch: there is no such file"},
		"promote a --kubeconfig AWAY":       {cli.ExitFailure, "cannot read rollout default/a: the API server does not answer"},
		"abort a -n shop --kubeconfig AWAY": {cli.ExitFailure, "cannot read rollout shop/a: the API server does not answer"},
		"set image a x=y --kubeconfig AWAY": {cli.ExitFailure, "cannot read rollout default/a: the API server does not answer"},
	} {
		t.Run(line, func(t *testing.T) {
			var out strings.Builder
			root := &cobra.Command{Use: "lockstep"}
			root.AddCommand(Commands(cli.Streams{Out: &out, Err: io.Discard})...)
			root.SetOut(io.Discard)
			root.SetErr(io.Discard)
			cli.Prepare(root)
			root.SetArgs(strings.Fields(strings.ReplaceAll(line, "AWAY", away)))
			err := root.ExecuteContext(t.Context())
			if cli.ExitCode(err) != row.code || err == nil || !strings.Contains(err.Error(), row.named) || strings.Contains(err.Error(), "\n") {
				t.Errorf("exit code %d, %v; want %d and %s", cli.ExitCode(err), err, row.code, row.named)
			}
			if out.Len() > 0 {
				t.Errorf("it says %q", out.String())
			}
		})
	}
}
