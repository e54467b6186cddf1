package sandbox

import (
	"context"
	"errors"
	"math"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/fault"
	"github.com/lockstep-delivery/lockstep/sandbox/kubelet"
)

func up(t *testing.T, c Config) *Sandbox {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	s, err := Up(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestTwoSandboxesRunSideBySideAndLeaveNothing(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	first, second := up(t, Config{Name: "first", Profile: "ideal"}), up(t, Config{Name: "second", Profile: "ideal", NodesPerZone: 2})
	for s, nodes := range map[*Sandbox]int{first: 3, second: 6} {
		c, err := client.New(s.RESTConfig(), client.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var list corev1.NodeList
		if err := c.List(t.Context(), &list); err != nil || len(list.Items) != nodes {
			t.Errorf("%d nodes, want %d: %v", len(list.Items), nodes, err)
		}
		if overview, err := Inspect(t.Context(), s.State()); err != nil || len(overview.LoadBalancers) != 0 {
			t.Errorf("%+v: %v", overview, err)
		}
		for _, network := range []string{"udp", "tcp"} {
			question := new(dns.Msg).SetQuestion(Region+".elb.amazonaws.com.", dns.TypeSOA)
			answer, _, err := (&dns.Client{Net: network}).ExchangeContext(t.Context(), question, s.State().DNS.String())
			if err != nil || len(answer.Answer) != 1 {
				t.Errorf("DNS over %s: %v, %v", network, answer, err)
			}
		}
	}
	aMachineFailsAndComesBack(t, second)
	nodesAndInstancesAreOne(t, second, second.AWS())
	if err := second.AWS().SetScale(0.5); err != nil || second.Kubelet().Scale() != 0.5 || first.Kubelet().Scale() != 1 {
		t.Errorf("a new scale is %v for the kubelet, and %v for another's: %v", second.Kubelet().Scale(), first.Kubelet().Scale(), err)
	}
	if told, err := Running("second"); err != nil || told.Scale != 0.5 {
		t.Errorf("a new scale is told as %v: %v", told.Scale, err)
	}
	state, err := Running("first")
	if err != nil || state.VPCCIDR == second.State().VPCCIDR {
		t.Errorf("%+v: %v", state, err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Running("first"); !errors.Is(err, ErrNotRunning) {
		t.Errorf("after Close: %v", err)
	}
	for _, url := range []string{state.AWSEndpoint, "dns://" + state.DNS.String(), first.RESTConfig().Host} {
		address := url[strings.LastIndex(url, "/")+1:]
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			t.Errorf("%s still listens", address)
		}
	}
	if _, err := os.Stat(filepath.Join(first.Directory(), "controlplane", "etcd")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("etcd's data stays on the disk: %v", err)
	}
	if second.Err() != nil {
		t.Errorf("the other sandbox: %v", second.Err())
	}
}

// A fault of a zone reaches the machines in it, and its end as well.
func aMachineFailsAndComesBack(t *testing.T, s *Sandbox) {
	t.Helper()
	await := func(down int) {
		t.Helper()
		got := -1
		for deadline := time.Now().Add(30 * time.Second); got != down; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d machines do not answer, want %d", got, down)
			}
			got = 0
			for _, node := range s.Kubelet().Nodes() {
				if node.State == kubelet.NodeUnreachable {
					got++
				}
			}
		}
	}
	nodes := s.Kubelet().Nodes()
	if _, err := s.AWS().AddFault(fault.Fault{Kind: fault.Node, Resource: "nosuch"}); err == nil || !strings.Contains(err.Error(), nodes[0].Name) {
		t.Errorf("a fault of no node: %v", err)
	}
	if _, err := s.AWS().AddFault(fault.Fault{Kind: fault.Zone, Zone: nodes[0].Zone, Until: time.Now().Add(time.Minute)}); err != nil {
		t.Fatal(err)
	}
	await(2)
	if _, err := s.AWS().AddFault(fault.Fault{Kind: fault.Node, Resource: nodes[len(nodes)-1].Name}); err != nil {
		t.Fatal(err)
	}
	await(3)
	s.AWS().Faults().Clear()
	await(0)
}

func TestAKilledControlPlaneIsSaidPlainly(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	s := up(t, Config{Name: "killed", Profile: "ideal"})
	process, err := os.FindProcess(s.control.PID())
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-s.Done()
	if err := s.Err(); err == nil || !strings.Contains(err.Error(), "the control plane exited") {
		t.Errorf("%v", err)
	}
}

// A sandbox that cannot come up says why and leaves nothing, not even a goroutine that waits.
func TestASandboxThatCannotComeUp(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	port := busy.Addr().(*net.TCPAddr).Port
	for want, c := range map[string]Config{
		"--aws-port": {Name: "busy-aws", AWSPort: port},
		"--api-port": {Name: "busy-api", APIPort: port},
	} {
		if _, err := Up(t.Context(), c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	t.Setenv("LOCKSTEP_CONTROLPLANE", filepath.Join(t.TempDir(), "nosuch"))
	if _, err := Up(t.Context(), Config{Name: "missing"}); err == nil || !strings.Contains(err.Error(), "nosuch") {
		t.Errorf("without a control plane: %v", err)
	}
}

func TestConfigNamesTheWrongFlag(t *testing.T) {
	for want, c := range map[string]Config{
		"cannot be a sandbox's name": {Name: "UPPER"},
		"--profile":                  {Name: "a", Profile: "stormy"},
		"--scale":                    {Name: "a", Scale: 3},
		"--scale is NaN":             {Name: "a", Scale: math.NaN()},
		"--api-port":                 {Name: "a", APIPort: 70000},
	} {
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", c, err, want)
		}
	}
}

// The second of two sandboxes of one name is refused, and takes nothing from the first: neither its folder nor the
// state by which `lockstep sandbox down` finds it.
func TestASecondSandboxOfTheSameNameIsRefused(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	first := up(t, Config{Name: "same", Profile: "ideal"})
	if _, err := Up(t.Context(), Config{Name: "same", Profile: "ideal"}); err == nil || !strings.Contains(err.Error(), "runs already") {
		t.Errorf("the second: %v", err)
	}
	if state, err := Running("same"); err != nil || state.AWSEndpoint != first.State().AWSEndpoint {
		t.Errorf("the first is now %+v: %v", state, err)
	}
	if _, err := os.Stat(first.State().Kubeconfig); err != nil {
		t.Errorf("the first one's kubeconfig: %v", err)
	}
}

// While a sandbox starts or ends it is neither running nor is its name free.
func TestASandboxThatIsBeingStarted(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	dir, err := Directory("soon")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	held, err := lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Running("soon"); err == nil || errors.Is(err, ErrNotRunning) {
		t.Errorf("locked: %v", err)
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Running("soon"); !errors.Is(err, ErrNotRunning) {
		t.Errorf("free again: %v", err)
	}
}

// A state that was left behind does not pass for a running sandbox, even if its process number is in use again.
func TestAStateThatWasLeftBehindIsNotRunning(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	dir, err := Directory("left")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := (State{Name: "left", PID: os.Getpid()}).write(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := Running("left"); !errors.Is(err, ErrNotRunning) || !strings.Contains(err.Error(), "--name left") {
		t.Errorf("%v", err)
	}
}
