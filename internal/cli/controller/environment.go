package controller

import (
	"strings"

	"github.com/spf13/pflag"

	"github.com/lockstep-delivery/lockstep/internal/cli"
)

// variablePrefix begins the names of the environment variables that stand for flags.
const variablePrefix = "LOCKSTEP_"

// Variable is the environment variable that stands for a flag of `lockstep controller` which is not given:
// LOCKSTEP_AWS_VPC_ID for --aws-vpc-id.
func Variable(flag string) string {
	return variablePrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// fromEnvironment sets the flags that were not given from their variables; an empty variable says nothing. The
// error is a cli.UsageError that names the variable.
func fromEnvironment(flags *pflag.FlagSet, get func(string) string) error {
	var first error
	flags.VisitAll(func(f *pflag.Flag) {
		value := get(Variable(f.Name))
		if f.Changed || value == "" || first != nil {
			return
		}
		if err := flags.Set(f.Name, value); err != nil {
			first = cli.Usagef("%s is %q: %w", Variable(f.Name), value, err)
		}
	})
	return first
}
