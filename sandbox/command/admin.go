package command

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockstep-delivery/lockstep/internal/cli"
	"github.com/lockstep-delivery/lockstep/sandbox"
)

// group is a command that only holds others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short}
	cmd.AddCommand(commands...)
	var names []string
	for _, c := range commands {
		names = append(names, c.Name())
	}
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return cli.Usagef("%s: there is no subcommand %q: use %s", cmd.CommandPath(), args[0], strings.Join(names, ", "))
		}
		return cli.Usagef("%s: a subcommand is missing: use %s", cmd.CommandPath(), strings.Join(names, ", "))
	}
	return cmd
}

// admin calls the admin API of the running sandbox of a name. A body that is no []byte goes as JSON; out may be nil.
func admin(ctx context.Context, name, method, path string, body, out any) error {
	state, err := sandbox.Running(name)
	if err != nil {
		return err
	}
	sent, ok := body.([]byte)
	if !ok && body != nil {
		if sent, err = json.Marshal(body); err != nil {
			return err
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, state.AWSEndpoint+"/_lockstep/"+path, bytes.NewReader(sent))
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("sandbox %s does not answer: %w", name, err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("sandbox %s broke off its answer: %w", name, err)
	}
	if response.StatusCode >= 300 {
		return fmt.Errorf("sandbox %s: %s", name, strings.TrimSpace(string(answer)))
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("sandbox %s answers with something else: %w", name, err)
	}
	return nil
}

// outputFlag adds the flag that chooses between a table and JSON.
func outputFlag(cmd *cobra.Command, output *string) {
	cmd.Flags().StringVarP(output, "output", "o", "table", "table or json")
}

// print shows a value as JSON, or as the table that the function writes.
func printAs(w io.Writer, output string, value any, table func()) error {
	switch output {
	case "json":
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return encoder.Encode(value)
	case "table":
		table()
		return nil
	}
	return cli.Usagef("--output is %q: use table or json", output)
}
