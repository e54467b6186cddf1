package sandbox

import (
	"net/netip"
	"strings"
	"testing"
)

// An account that is killed and started anew at once, at the same port, answers before its clusters have noticed.
func TestAClusterNoticesThatItsAccountIsAnother(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	up := func(port int) *Sandbox {
		s, err := Up(t.Context(), Config{Name: "account", Profile: "ideal", OnlyAWS: true, AWSPort: port})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	first := up(0)
	m := &membership{host: first.State(), cluster: "two"}
	if err := m.replaced(); err != nil {
		t.Error(err)
	}
	at := netip.MustParseAddrPort(strings.TrimPrefix(first.State().AWSEndpoint, "http://"))
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := up(int(at.Port()))
	if err := m.replaced(); err == nil || !strings.Contains(err.Error(), "started anew") {
		t.Errorf("the account is another one: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
}
