package command_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/lockstep-delivery/lockstep/internal/cli"
)

// A scale of 0 was taken for one that was not given, which is 1: the opposite of what is asked for.
func TestNoScaleIsNotTheDefault(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	_, err := run("up", "--only", "aws", "--scale", "0")
	var wrong cli.UsageError
	if !errors.As(err, &wrong) || !strings.Contains(err.Error(), "--profile ideal") {
		t.Errorf("%v", err)
	}
}

// What says how a cluster is would be ignored without one.
func TestFlagsOfAClusterNeedOne(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	for _, flag := range []string{"--local-commands=true", "--nodes-per-zone=2", "--api-port=0"} {
		for _, more := range [][]string{nil, {"--detach"}} {
			_, err := run(append([]string{"up", "--only", "aws", flag}, more...)...)
			var wrong cli.UsageError
			name, _, _ := strings.Cut(flag, "=")
			if !errors.As(err, &wrong) || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "--only aws") {
				t.Errorf("%s: %v", flag, err)
			}
		}
	}
}
