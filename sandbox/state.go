package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/lockstep-delivery/lockstep/internal/delivery/canary"
)

// State is what a running sandbox tells other processes about itself: the file state.json in its directory.
// It is written when the sandbox is ready and removed when it ends.
type State struct {
	Name string `json:"name"`
	// PID is the process that everything in the sandbox lives and dies with.
	PID       int       `json:"pid"`
	StartedAt time.Time `json:"startedAt"`
	// Kubeconfig is the path of a kubeconfig whose user may do everything. Empty: the account is alone.
	Kubeconfig string `json:"kubeconfig,omitempty"`
	// AWSEndpoint is the URL of the emulated AWS.
	AWSEndpoint string `json:"awsEndpoint"`
	// DNS is the name server of load balancers and hosted zones, over UDP and TCP.
	DNS netip.AddrPort `json:"dns"`
	// LowPortsMoved says that ports 1-1023 of load balancers are served at 64000 + port, since this user may not
	// bind them; DNS cannot tell.
	LowPortsMoved bool   `json:"lowPortsMoved"`
	Region        string `json:"region"`
	AccountID     string `json:"accountId"`
	AccessKey     string `json:"accessKeyId"`
	SecretKey     string `json:"secretAccessKey"`
	ClusterName   string `json:"clusterName"`
	// Protocol is the version of what clusters of other processes ask of the account. Builds of the program that differ in it cannot join each other.
	Protocol int `json:"protocol"`
	// Joined is the sandbox whose account this one's cluster is in. Empty: the account is its own.
	Joined  string `json:"joined,omitempty"`
	VPCID   string `json:"vpcId"`
	VPCCIDR string `json:"vpcCidr"`
	// Profile, Scale and Seed are the time model of the emulated AWS.
	Profile string  `json:"profile"`
	Scale   float64 `json:"scale"`
	Seed    int64   `json:"seed"`
}

// protocol is this build's. It changes with whatever join.go asks.
const protocol = 1

// DefaultName is the sandbox that commands mean when they name none.
const DefaultName = "default"

var sandboxName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

// Directory is where the sandbox of this name keeps its state, for this user. The error says what is wrong
// with the name.
func Directory(name string) (string, error) {
	if !sandboxName.MatchString(name) {
		return "", fmt.Errorf("%q cannot be a sandbox's name: use up to 32 lower-case letters, digits and hyphens", name)
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("lockstep-%d", os.Getuid()), "sandboxes", name), nil
}

// ErrNotRunning says that no sandbox of that name runs.
var ErrNotRunning = errors.New("not running")

// Running reads the state of the running sandbox of this name. It is ErrNotRunning when there is none, also
// when one was killed and left its state behind; while one starts or ends it is another error.
func Running(name string) (State, error) {
	dir, err := Directory(name)
	if err != nil {
		return State{}, err
	}
	alive, err := locked(dir)
	if err != nil {
		return State{}, fmt.Errorf("cannot tell whether sandbox %s runs: %w", name, err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "state.json"))
	switch {
	case errors.Is(err, fs.ErrNotExist) && alive:
		return State{}, fmt.Errorf("sandbox %s is just being started or ended: try again in some seconds", name)
	case errors.Is(err, fs.ErrNotExist):
		return State{}, fmt.Errorf("sandbox %s is %w: start it with '%s'", name, ErrNotRunning, Command("up", name))
	}
	if err != nil {
		return State{}, fmt.Errorf("cannot read the state of sandbox %s: %w", name, err)
	}
	var state State
	if err := json.Unmarshal(data, &state); err != nil {
		return State{}, fmt.Errorf("cannot read the state of sandbox %s: %s is damaged: %w", name, filepath.Join(dir, "state.json"), err)
	}
	if !alive {
		return State{}, fmt.Errorf("sandbox %s is %w: process %d is gone; start it with '%s'", name, ErrNotRunning, state.PID, Command("up", name))
	}
	return state, nil
}

// lives says whether a process runs the sandbox of this name, also while that starts or ends. Who cannot be asked is taken to live.
func lives(name string) bool {
	dir, err := Directory(name)
	if err != nil {
		return false
	}
	alive, err := locked(dir)
	return alive || err != nil
}

// Command is a subcommand of `lockstep sandbox` as a user types it for the sandbox of this name.
func Command(subcommand, name string) string {
	if name == DefaultName {
		return "lockstep sandbox " + subcommand
	}
	return "lockstep sandbox " + subcommand + " --name " + name
}

// write puts the state where Running finds it; a reader sees all of it or nothing.
func (s State) write(dir string) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	next := filepath.Join(dir, "state.json.next")
	if err := os.WriteFile(next, append(data, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(next, filepath.Join(dir, "state.json"))
}

// Environment are the variables with which kubectl, the AWS CLI, any AWS SDK and lockstep itself work in the sandbox.
// The controller in it listens on free ports only: on all addresses of this machine, its usual ones would be taken from
// the pods, or by them. Its settle time is scaled like the delays that it waits for.
func (s State) Environment() []string {
	variables := []string{
		"AWS_ENDPOINT_URL=" + s.AWSEndpoint,
		"LOCKSTEP_SANDBOX_DNS=" + s.DNS.String(),
		"AWS_REGION=" + s.Region,
		"AWS_DEFAULT_REGION=" + s.Region,
		"AWS_ACCESS_KEY_ID=" + s.AccessKey,
		"AWS_SECRET_ACCESS_KEY=" + s.SecretKey,
		"AWS_EC2_METADATA_DISABLED=true",
	}
	if s.Kubeconfig == "" {
		return variables // an account alone: nothing of what follows is there
	}
	return append(variables,
		"KUBECONFIG="+s.Kubeconfig,
		"LOCKSTEP_CLUSTER_NAME="+s.ClusterName,
		"LOCKSTEP_AWS_VPC_ID="+s.VPCID,
		"LOCKSTEP_SETTLE_TIME="+s.SettleTime().String(),
		"LOCKSTEP_METRICS_BIND_ADDR=127.0.0.1:0",
		"LOCKSTEP_HEALTH_PROBE_BIND_ADDR=127.0.0.1:0",
		"LOCKSTEP_WEBHOOK_BIND_PORT=0",
	)
}

// SettleTime is how long a controller in this sandbox should have seen a weight before it counts as settled.
func (s State) SettleTime() time.Duration {
	return time.Duration(float64(canary.DefaultSettings().Settle) * s.Scale).Round(time.Millisecond)
}
