package sandbox

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/fault"
)

// An account that is killed and started anew at once, at the same port, answers before its clusters have noticed.
func TestAClusterNoticesThatItsAccountIsAnother(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	up := func(port int) *Sandbox {
		return up(t, Config{Name: "account", Profile: "ideal", OnlyAWS: true, AWSPort: port})
	}
	first := up(0)
	m := &membership{host: first.State(), cluster: "two"}
	for _, err := range []error{nil, errors.New("connection reset by peer")} {
		if lost := m.over(err); lost != nil {
			t.Errorf("an account that lives is given up after %v: %v", err, lost)
		}
	}
	if err := m.over(errors.Join(errors.New("no answer"), refusal{"no"})); err == nil {
		t.Error("a refusal is no reason to end")
	}
	at := netip.MustParseAddrPort(strings.TrimPrefix(first.State().AWSEndpoint, "http://"))
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := m.over(errors.New("connection refused")); err == nil || err.Error() != "connection refused" {
		t.Errorf("the account has ended: %v", err)
	}
	up(int(at.Port()))
	if err := m.over(nil); err == nil || !strings.Contains(err.Error(), "started anew") {
		t.Errorf("the account is another one: %v", err)
	}
}

// The account of a build that knows nothing of protocols, or another one, is not half understood.
func TestAnAccountOfAnotherBuildIsNotJoined(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	host := up(t, Config{Name: "account", Profile: "ideal", OnlyAWS: true})
	state := host.State()
	state.Protocol--
	if err := state.write(host.Directory()); err != nil {
		t.Fatal(err)
	}
	_, err := Up(t.Context(), Config{Name: "two", Join: "account"})
	if err == nil || !strings.Contains(err.Error(), "another build") || !strings.Contains(err.Error(), "down --name account") {
		t.Errorf("%v", err)
	}
}

// flaky breaks off answers.
type flaky struct {
	broken  atomic.Bool
	refused atomic.Int64
}

func (f *flaky) RoundTrip(r *http.Request) (*http.Response, error) {
	if f.broken.Load() {
		f.refused.Add(1)
		return nil, errors.New("connection reset by peer")
	}
	return http.DefaultTransport.RoundTrip(r)
}

// A cluster that cannot reach its account for a while goes on, and then learns what has become of its instances meanwhile.
func TestAClusterOutlivesAnswersThatBreakOff(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	host := up(t, Config{Name: "account", Profile: "ideal", OnlyAWS: true})
	way := &flaky{}
	m := &membership{host: host.State(), cluster: "prod", client: http.Client{Transport: way}}
	var said bytes.Buffer
	s := &Sandbox{config: Config{Name: "prod", Scale: 1, Log: slog.New(slog.NewTextHandler(&said, nil))}, member: m, remote: fault.NewSet(), done: make(chan struct{})}
	if err := host.AWS().Join("prod", "prod"); err != nil {
		t.Fatal(err)
	}
	id, _, err := m.AddInstance("eu-west-1a", "node")
	if err != nil {
		t.Fatal(err)
	}
	woken := make(chan struct{}, 10)
	life, end := context.WithCancel(t.Context())
	s.running.Go(func() { s.followAccount(life, func() { woken <- struct{}{} }) })
	await := func(state types.InstanceStateName) {
		t.Helper()
		select {
		case <-woken:
		case <-s.Done():
			t.Fatalf("the cluster has ended: %v", s.Err())
		case <-time.After(20 * time.Second):
		}
		if got := m.instance(id); got != state {
			t.Fatalf("the cluster takes its instance for %q, want %q", got, state)
		}
	}
	await(types.InstanceStateNameRunning)
	way.broken.Store(true)
	for range 2 { // the second look has begun after the first was broken off
		eventually(t, "a look is broken off", func() bool { return way.refused.Load() > 0 })
		way.refused.Store(0)
	}
	if err := host.AWS().EC2().RemoveInstance(id); err != nil {
		t.Fatal(err)
	}
	way.broken.Store(false)
	await(types.InstanceStateNameTerminated)
	// Who lets a cluster leave that lives ends it.
	if err := host.AWS().Leave("prod"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.Done():
		if !strings.Contains(s.Err().Error(), `cluster "prod" is not in this account`) {
			t.Error(s.Err())
		}
	case <-time.After(20 * time.Second):
		t.Error("the cluster goes on outside of the account")
	}
	end()
	s.running.Wait()
	if n := strings.Count(said.String(), "asked again"); n != 1 {
		t.Errorf("that the account does not answer is said %d times:\n%s", n, &said)
	}
}
