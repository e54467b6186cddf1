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
