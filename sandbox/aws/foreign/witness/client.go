package witness

import (
	"os/exec"
	"strings"
	"testing"
)

// Client is an installed release of a foreign program: that of Debian, or the first on the path.
type Client struct{ Generation, Program, Version string }

// Clients finds the program of Debian, and the one on the path if that is another release. Both tell their release on
// the first line of what ask prints. What is missing is told loudly; without any the test is skipped.
func Clients(t *testing.T, debian, name string, ask ...string) []Client {
	t.Helper()
	found := installed(t, debian, name, ask...)
	if len(found) == 0 {
		t.Skipf("SKIPPED: there is no %s that answers to %q: 'make clients' installs it from Debian", name, ask)
	}
	return found
}

func installed(t *testing.T, debian, name string, ask ...string) (found []Client) {
	t.Helper()
	for _, c := range []Client{{"debian", debian, ""}, {"path", name, ""}} {
		program, err := exec.LookPath(c.Program)
		if err == nil {
			var out []byte
			out, err = exec.CommandContext(t.Context(), program, ask...).CombinedOutput()
			c.Program, c.Version = program, strings.TrimSpace(string(out))
		}
		switch {
		case err == nil && (len(found) == 0 || c.Version != found[0].Version):
			found = append(found, c)
		case err != nil && c.Program == debian:
			t.Logf("SKIPPED: there is no %s that answers to %q: 'make clients' installs it", debian, ask)
		}
	}
	for _, c := range found {
		t.Logf("%s: %s is %s", c.Generation, c.Program, c.Version)
	}
	return found
}
