// Package profile says how slow and how inconsistent AWS is: how long a change takes to reach a load
// balancer node, how long a read may show an older state, how long a new load balancer is provisioned.
//
// A Profile is a table of distributions, kept as YAML that a person can read and change. Draws takes
// values from it: every value is a function of seed, key and the name of the event, so that a run can be
// repeated whatever the order in which its events happen to be handled. It holds no clock; who draws
// waits.
package profile

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Key names one entry of a profile.
type Key string

// The durations of a profile. A key marked N is drawn for each node, the others once per event.
const (
	ALBRuleChange       Key = "alb.rule_change"        // N: rules, listeners and their actions
	ALBRegister         Key = "alb.register"           // N: until the node may check a target
	ALBDeregister       Key = "alb.deregister"         // N: until the node sends no new request
	ALBAttribute        Key = "alb.attribute"          // N: target group and load balancer attributes
	ALBCertificate      Key = "alb.certificate"        // N
	ALBHealthAggregate  Key = "alb.health_aggregate"   // until the API shows what the nodes found
	NLBRegister         Key = "nlb.register"           // N
	NLBDeregister       Key = "nlb.deregister"         // N
	NLBUnhealthyStop    Key = "nlb.unhealthy_stop"     // N
	NLBListenerChange   Key = "nlb.listener_change"    // N
	NLBListenerGap      Key = "nlb.listener_gap"       // N
	NLBWeightChange     Key = "nlb.weight_change"      // N
	NLBWeightZeroClose  Key = "nlb.weight_zero_close"  // N
	NLBAttribute        Key = "nlb.attribute"          // N
	ProvisionALB        Key = "lb.provision.alb"       // from provisioning to active
	ProvisionNLB        Key = "lb.provision.nlb"       // from provisioning to active
	DNSVisible          Key = "lb.dns_visible"         // from creation to an answer for the name
	InterfaceRelease    Key = "lb.eni_release"         // from deletion to the end of the interfaces
	SetSubnets          Key = "lb.set_subnets"         // N
	SetSecurityGroups   Key = "lb.set_security_groups" // N
	SecurityGroupRule   Key = "sg.rule"
	InstanceStart       Key = "ec2.instance_start" // from pending to running
	InstanceStop        Key = "ec2.instance_stop"  // from stopping to stopped, from shutting-down to terminated
	ReadWindow          Key = "read.window"
	ReferenceRelease    Key = "ref.release"
	TaggingLag          Key = "rgt.lag"
	TaggingLagDeleted   Key = "rgt.lag_deleted"
	Route53InSync       Key = "r53.insync"
	CertificateIssue    Key = "acm.issue"
	MetricPublish       Key = "cw.metric_publish"
	FirewallAssociate   Key = "waf.associate"
	AcceleratorDeploy   Key = "ga.deploy"
	IdentityPropagation Key = "iam.propagation"
)

// The probabilities of a profile.
const (
	ReadNewMissing Key = "read.new_missing" // of missing a resource younger than its read window
	ReadOldState   Key = "read.old_state"   // of seeing the state before a change within its window
)

var durations = []Key{
	ALBRuleChange, ALBRegister, ALBDeregister, ALBAttribute, ALBCertificate, ALBHealthAggregate,
	NLBRegister, NLBDeregister, NLBUnhealthyStop, NLBListenerChange, NLBListenerGap, NLBWeightChange,
	NLBWeightZeroClose, NLBAttribute, ProvisionALB, ProvisionNLB, DNSVisible, InterfaceRelease, SetSubnets,
	SetSecurityGroups, SecurityGroupRule, InstanceStart, InstanceStop, ReadWindow, ReferenceRelease, TaggingLag, TaggingLagDeleted,
	Route53InSync, CertificateIssue, MetricPublish, FirewallAssociate, AcceleratorDeploy, IdentityPropagation,
}

var probabilities = []Key{ReadNewMissing, ReadOldState}

// Profile is one table. Make it with Load or Parse, which see to it that it is complete.
type Profile struct {
	Name string `json:"name"`
	// MonotonicReads says that one caller never sees an older state after a newer one.
	MonotonicReads bool `json:"monotonic_reads"`
	// Correlation is the share (0..1) of the common factor in the draws of the nodes of one change.
	Correlation   float64         `json:"correlation"`
	Probabilities map[Key]float64 `json:"probabilities"`
	Seconds       Durations       `json:"seconds"`
}

// Durations are distributions by what takes the time.
type Durations map[Key]Distribution

// UnmarshalJSON takes over those that are there, and says of which key one is none.
func (d *Durations) UnmarshalJSON(text []byte) error {
	var all map[Key]json.RawMessage
	if err := json.Unmarshal(text, &all); err != nil {
		return fmt.Errorf("seconds: %w", err)
	}
	if *d == nil {
		*d = make(Durations, len(all))
	}
	for _, key := range slices.Sorted(maps.Keys(all)) {
		var one Distribution
		if err := json.Unmarshal(all[key], &one); err != nil {
			return fmt.Errorf("seconds: %s: %w", key, err)
		}
		(*d)[key] = one
	}
	return nil
}

//go:embed *.yaml
var builtIn embed.FS

// Load returns one of the built-in profiles: ideal, typical or pessimistic.
func Load(name string) (*Profile, error) {
	text, err := fs.ReadFile(builtIn, name+".yaml")
	if err != nil {
		return nil, fmt.Errorf("there is no profile %q: take one of %s", name, strings.Join(Names(), ", "))
	}
	return Parse(text)
}

// Names lists the built-in profiles.
func Names() []string {
	entries, _ := builtIn.ReadDir(".")
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".yaml"))
	}
	return names
}

// Text is the YAML of a built-in profile, with its comments.
func Text(name string) (string, error) {
	text, err := fs.ReadFile(builtIn, name+".yaml")
	if err != nil {
		return "", fmt.Errorf("there is no profile %q: take one of %s", name, strings.Join(Names(), ", "))
	}
	return string(text), nil
}

// Parse reads a profile. Every key must be there and none that is unknown: a forgotten delay would
// quietly be none. A profile that names a built-in one as its base needs only what differs:
//
//	base: typical
//	seconds:
//	  alb.rule_change: F(30)
func Parse(text []byte) (*Profile, error) {
	p, err := baseOf(text)
	if err != nil {
		return nil, fmt.Errorf("cannot read the profile: %w", err)
	}
	base := p.Name
	p.Name = ""
	if err := yaml.UnmarshalStrict(text, &struct {
		Base string `json:"base"`
		*Profile
	}{Profile: p}); err != nil {
		return nil, fmt.Errorf("cannot read the profile: %w", err)
	}
	if p.Name == "" && base != "" {
		p.Name = base + ", changed"
	}
	if err := complete("seconds", p.Seconds, durations); err != nil {
		return nil, fmt.Errorf("profile %s: %w", p.Name, err)
	}
	if err := complete("probabilities", p.Probabilities, probabilities); err != nil {
		return nil, fmt.Errorf("profile %s: %w", p.Name, err)
	}
	for key, chance := range p.Probabilities {
		if chance < 0 || chance > 1 {
			return nil, fmt.Errorf("profile %s: probabilities: %s: %v is not between 0 and 1", p.Name, key, chance)
		}
	}
	if p.Correlation < 0 || p.Correlation > 1 {
		return nil, fmt.Errorf("profile %s: correlation: %v is not between 0 and 1", p.Name, p.Correlation)
	}
	return p, nil
}

// baseOf is a fresh copy of the profile that another one begins with: an empty one, if it names none.
func baseOf(text []byte) (*Profile, error) {
	var file struct {
		Base string `json:"base"`
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		return nil, err
	}
	if file.Base == "" {
		return &Profile{}, nil
	}
	return Load(file.Base)
}

// YAML writes the profile in the form that Parse reads.
func (p *Profile) YAML() (string, error) {
	text, err := yaml.Marshal(p)
	return string(text), err
}

func complete[V any](section string, have map[Key]V, want []Key) error {
	for _, key := range want {
		if _, ok := have[key]; !ok {
			return fmt.Errorf("%s: %s is missing: give it, or take the rest from a built-in profile with the line \"base: typical\"", section, key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(have)) {
		if !slices.Contains(want, key) {
			return fmt.Errorf("%s: there is no key %s", section, key)
		}
	}
	return nil
}
