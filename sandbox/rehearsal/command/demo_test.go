package command

import (
	"testing"

	"github.com/spf13/pflag"

	"github.com/lockstep-delivery/lockstep/sandbox/rehearsal"
)

func TestLocalCommands(t *testing.T) {
	for _, tt := range []struct {
		args   []string
		forbid bool
	}{
		{nil, false},
		{[]string{"--local-commands"}, false},
		{[]string{"--local-commands=false"}, true},
		{[]string{"--local-commands=false", "--local-commands=true"}, false},
	} {
		var o rehearsal.Options
		flags := pflag.NewFlagSet("demo", pflag.ContinueOnError)
		localCommands(flags, &o)
		if err := flags.Parse(tt.args); err != nil || o.NoCommands != tt.forbid {
			t.Errorf("%v: commands are forbidden: %v, %v", tt.args, o.NoCommands, err)
		}
	}
	flags := pflag.NewFlagSet("demo", pflag.ContinueOnError)
	localCommands(flags, &rehearsal.Options{})
	if err := flags.Parse([]string{"--local-commands=perhaps"}); err == nil {
		t.Error("a value that is neither true nor false is taken")
	}
}
