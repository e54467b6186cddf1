package sandbox

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/lockstep-delivery/lockstep/sandbox/aws"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
	"github.com/lockstep-delivery/lockstep/sandbox/kubelet"
)

// Config says what to start. Only Name is required.
type Config struct {
	// Name tells sandboxes of one user apart.
	Name string
	// Profile is how AWS behaves in time: ideal, typical (default), pessimistic, or the path of a YAML file with a
	// profile of one's own (those of package profile are the pattern).
	Profile string
	// Scale multiplies every delay of the emulated AWS and the kubelet, 0.1 to 1 (default). What manifests say
	// stays real time.
	Scale float64
	// Seed makes every random draw repeatable.
	Seed int64
	// NodesPerZone is the number of Kubernetes nodes in each of the three zones; default 1.
	NodesPerZone int
	// APIPort, AWSPort and DNSPort are ports on 127.0.0.1; 0 takes a free one.
	APIPort, AWSPort, DNSPort int
	// Anonymous lets every AWS call in, signed rightly, wrongly or not at all.
	Anonymous bool
	// Join is the name of a running sandbox whose AWS account this one's cluster is in, instead of an account of its own. Several clusters can share
	// an account: they see each other's resources and draw on the same throttling buckets.
	Join string
	// ClusterName is in the tags of nodes and subnets. Default: lockstep, or that of the sandbox if it joins another.
	ClusterName string
	// Region and AccountID of the account. Default: eu-west-1, 123456789012.
	Region, AccountID string
	// Identities is the path of a YAML file with users, roles and the key of the owner (aws.Identities). Empty: one key that may do everything.
	Identities string
	// OnlyAWS leaves the cluster out: no API server and no nodes. Targets are programs outside (aws.Host).
	OnlyAWS bool
	// DataDir is a folder in which the AWS account is kept, for the next sandbox with the same folder and seed. It needs
	// OnlyAWS, since clusters are not kept. KeepJournal lets the journal grow there as well, in journal.jsonl.
	DataDir     string
	KeepJournal bool
	// OpenSecurityGroups lets every packet pass, whatever security groups say.
	OpenSecurityGroups bool
	// NoCommands refuses containers whose command would run as a process of this machine, such as those of Jobs.
	NoCommands bool
	// Notify is told what becomes of pods. It must return quickly.
	Notify func(kubelet.Notice)
	// Log gets what the parts of the sandbox say; nil: a file in the sandbox's folder.
	Log *slog.Logger
}

// Validate reports the first field that cannot be, by the name of its flag.
func (c Config) Validate() error {
	if _, err := Directory(c.Name); err != nil {
		return err
	}
	if _, err := loadProfile(c.Profile); err != nil {
		return fmt.Errorf("--profile is %q: %w", c.Profile, err)
	}
	if c.Scale != 0 && !(c.Scale >= 0.1 && c.Scale <= 1) { // which NaN is not
		return fmt.Errorf("--scale is %v: use 0.1 to 1", c.Scale)
	}
	if c.NodesPerZone < 0 || c.NodesPerZone > 1000 {
		return fmt.Errorf("--nodes-per-zone is %d: use 1 to 1000", c.NodesPerZone)
	}
	if c.DataDir != "" && !c.OnlyAWS {
		return errors.New("--data-dir needs --only aws: clusters are not kept")
	}
	if c.KeepJournal && c.DataDir == "" {
		return errors.New("--keep-journal needs --data-dir")
	}
	if c.Join != "" && (c.OnlyAWS || c.DataDir != "" || c.Identities != "" || c.Region != "" || c.AccountID != "" || c.Anonymous || c.AWSPort != 0 || c.DNSPort != 0 || c.OpenSecurityGroups) {
		return errors.New("--join takes the account of another sandbox as it is: leave out what says how an account is")
	}
	if c.Join == c.Name && c.Join != "" {
		return errors.New("--join: a sandbox cannot join itself")
	}
	if c.Region != "" && !regionName.MatchString(c.Region) {
		return fmt.Errorf("--region is %q: write one like %s", c.Region, Region)
	}
	if c.AccountID != "" && !accountID.MatchString(c.AccountID) {
		return fmt.Errorf("--account-id is %q: use 12 digits", c.AccountID)
	}
	if c.Identities != "" {
		if _, err := aws.LoadIdentities(c.Identities); err != nil {
			return fmt.Errorf("--identities: %w", err)
		}
	}
	for flag, port := range map[string]int{"--api-port": c.APIPort, "--aws-port": c.AWSPort, "--dns-port": c.DNSPort} {
		if port < 0 || port > 65535 {
			return fmt.Errorf("%s is %d: use 0 (a free one) to 65535", flag, port)
		}
	}
	return nil
}

var (
	regionName = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-[1-9]$`)
	accountID  = regexp.MustCompile(`^[0-9]{12}$`)
)

// loadProfile finds a profile by name, or in the YAML file of that path.
func loadProfile(name string) (*profile.Profile, error) {
	switch {
	case name == "":
		return profile.Load(defaultProfile)
	case slices.Contains(profile.Names(), name):
		return profile.Load(name)
	case !strings.HasSuffix(name, ".yaml"):
		return nil, fmt.Errorf("use %s, or the path of a .yaml file", strings.Join(profile.Names(), ", "))
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return profile.Parse(text)
}

const defaultProfile = "typical"
