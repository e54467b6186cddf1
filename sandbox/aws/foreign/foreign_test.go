package foreign

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/foreign/witness"
)

// TestBoto3 runs the Python scripts. Each answer's names are compared with those of botocore's own models.
func TestBoto3(t *testing.T) {
	t.Parallel()
	for _, c := range witness.Clients(t, "/usr/bin/python3", "python3", "-c", "import boto3; print('boto3', boto3.__version__)") {
		scripts(t, c, "testdata/boto3/*.py", "account.py")
	}
}

// TestCommandLine runs the shell scripts. Each call of the AWS CLI takes more than half a second of a processor.
func TestCommandLine(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("SKIPPED: each call of the AWS CLI takes half a second")
	}
	for _, c := range witness.Clients(t, "/usr/bin/aws", "aws", "--version") {
		scripts(t, c, "testdata/cli/*.sh", "account.sh")
	}
}

// scripts runs each script with a client and an account of its own. One of them is only what the others share.
func scripts(t *testing.T, c witness.Client, pattern, shared string) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) < 2 {
		t.Fatalf("%s: there are no scripts: %v", pattern, err)
	}
	for _, file := range files {
		name, extension, _ := strings.Cut(filepath.Base(file), ".")
		if name+"."+extension == shared {
			continue
		}
		t.Run(c.Generation+"/"+name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
			defer cancel()
			command := exec.CommandContext(ctx, c.Program, file, "-v") // so that it tells why it skips
			if extension == "sh" {
				command = exec.CommandContext(ctx, "bash", file)
			}
			command.Env = append(newAccount(t, name), "AWS="+c.Program)
			out, err := command.CombinedOutput()
			for line := range strings.Lines(string(out)) {
				if strings.Contains(line, "SKIPPED") || strings.Contains(line, "skipped ") {
					t.Logf("SKIPPED: %s: %s", c.Version, strings.TrimSpace(line))
				}
			}
			if err != nil || !strings.Contains("\n"+string(out), "\nOK") || strings.Contains(string(out), "Ran 0 tests") {
				t.Errorf("%s with %s: %v\n%s", file, c.Version, err, out)
			}
		})
	}
}

// TestMain keeps the settings of whoever runs the tests away from the clients.
func TestMain(m *testing.M) {
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "AWS_") {
			if err := os.Unsetenv(name); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
	}
	os.Exit(m.Run())
}
