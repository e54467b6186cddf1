package thirdparty

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"k8s.io/client-go/tools/clientcmd"
)

// state is the part of `lockstep sandbox status -o json` that the tests need.
type state struct {
	Kubeconfig    string
	AWSEndpoint   string
	DNS           netip.AddrPort
	LowPortsMoved bool
	Region        string
	AccessKeyID   string
	SecretKey     string `json:"secretAccessKey"`
	ClusterName   string
	VPCID         string
}

// world is a sandbox and ways to look at it.
type world struct {
	name        string
	state       state
	environment []string
	kube        *kube
	elbv2       *elasticloadbalancingv2.Client
	ec2         *ec2.Client
	route53     *route53.Client
	http        *http.Client
}

var shared struct {
	once  sync.Once
	world *world
	err   error
	end   func()
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.end != nil {
		shared.end()
	}
	os.Exit(code)
}

// newWorld returns the sandbox that all tests share.
func newWorld(t *testing.T) *world {
	t.Helper()
	shared.once.Do(func() { shared.world, shared.err = up() })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.world
}

// up starts a sandbox of its own name.
func up() (*world, error) {
	if _, err := os.Stat(lockstep); err != nil {
		return nil, fmt.Errorf("%w: run 'make thirdparty', which builds it", err)
	}
	w := &world{name: fmt.Sprintf("thirdparty-%d", os.Getpid())}
	command := exec.Command(lockstep, "sandbox", "up", "--name", w.name, "--profile", "ideal", "--nodes-per-zone", "1")
	command.Stderr = os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("cannot start a sandbox: %w", err)
	}
	shared.end = func() {
		_ = command.Process.Signal(syscall.SIGTERM)
		_ = command.Wait()
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() && !strings.Contains(lines.Text(), "Ctrl-C ends it") {
	}
	go io.Copy(io.Discard, out)
	return w, w.learn()
}

// learn asks the running sandbox where everything is.
func (w *world) learn() error {
	told, err := output(lockstep, "sandbox", "status", "--name", w.name, "-o", "json")
	if err != nil {
		return err
	}
	if err := json.Unmarshal(told, &w.state); err != nil {
		return fmt.Errorf("cannot read what 'sandbox status' tells: %w", err)
	}
	variables, err := output(lockstep, "sandbox", "env", "--name", w.name)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(variables)) {
		if assignment, ok := strings.CutPrefix(strings.TrimSpace(line), "export "); ok {
			key, value, _ := strings.Cut(assignment, "=")
			w.environment = append(w.environment, key+"="+strings.Trim(value, "'"))
		}
	}
	config, err := clientcmd.BuildConfigFromFlags("", w.state.Kubeconfig)
	if err != nil {
		return err
	}
	if w.kube, err = newKube(config); err != nil {
		return err
	}
	account := aws.Config{
		Region: w.state.Region, BaseEndpoint: &w.state.AWSEndpoint,
		Credentials: credentials.NewStaticCredentialsProvider(w.state.AccessKeyID, w.state.SecretKey, ""),
	}
	w.elbv2, w.ec2, w.route53 = elasticloadbalancingv2.NewFromConfig(account), ec2.NewFromConfig(account), route53.NewFromConfig(account)
	w.http = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: w.dial, DisableKeepAlives: true}}
	return nil
}

// resolver asks the sandbox's name server.
func (w *world) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, w.state.DNS.String())
	}}
}

// dial connects as a client of the sandbox does: names are asked of its name server, and low ports may be elsewhere.
func (w *world) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if port == "80" && w.state.LowPortsMoved {
		port = "64080"
	}
	addresses, err := w.resolver().LookupNetIP(ctx, "ip4", host+".")
	if err != nil {
		return nil, err
	}
	if len(addresses) == 0 {
		return nil, fmt.Errorf("%s has no address", host)
	}
	var d net.Dialer
	return d.DialContext(ctx, network, net.JoinHostPort(addresses[0].String(), port))
}

// version asks a host over HTTP which version of the application answers.
func (w *world) version(host string) (string, error) {
	response, err := w.http.Get("http://" + host + "/")
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s answers %s", host, response.Status)
	}
	return response.Header.Get("X-App-Version"), nil
}

// call is one AWS call as the journal has it.
type call struct {
	Service, Operation string
	Status             int
	Code, Message      string
	Parameters         map[string]string
}

func (c call) String() string {
	return fmt.Sprintf("%s:%s %d %s: %s %v", c.Service, c.Operation, c.Status, c.Code, c.Message, c.Parameters)
}

// calls returns the AWS calls that a program has made.
func (w *world) calls(t *testing.T, program string) []call {
	t.Helper()
	lines, err := output(lockstep, "sandbox", "journal", "--name", w.name, "--caller", "app/"+program)
	if err != nil {
		t.Fatal(err)
	}
	var calls []call
	decoder := json.NewDecoder(strings.NewReader(string(lines)))
	for {
		var c call
		switch err := decoder.Decode(&c); {
		case errors.Is(err, io.EOF):
			return calls
		case err != nil:
			t.Fatalf("cannot read the journal: %v", err)
		}
		calls = append(calls, c)
	}
}

// checkCalls wants every one of the operations to have been called by the program, and no call of it to have been
// refused, but for the codes by which it learns that something is not there.
func (w *world) checkCalls(t *testing.T, program string, operations []string, expected ...string) {
	t.Helper()
	count := map[string]int{}
	for _, c := range w.calls(t, program) {
		count[c.Operation]++
		if c.Status >= 300 && !slices.Contains(expected, c.Code) {
			t.Errorf("%s was refused a call: %s", program, c)
		}
	}
	for _, o := range operations {
		if count[o] == 0 {
			t.Errorf("%s never called %s: the test does not show what it claims", program, o)
		}
	}
	t.Logf("AWS calls of %s: %v", program, count)
}
