package aws

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"sigs.k8s.io/yaml"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/snapshot"
)

// Fixture is what an account begins with: programs outside, and calls that are carried out in their order. Texts of the calls'
// inputs can hold ${...}:
//
//	${vpc}  ${group.nodes}  ${group.default}       ids of the network
//	${subnet.private.a}  ${subnet.public.b}        the subnet of a kind in a zone, by the zone's last letter
//	${host.NAME}  ${host.NAME.id}                  address and instance id of a host
//	${NAME.LoadBalancers[0].LoadBalancerArn}       a field of what the call with "as: NAME" has answered
type Fixture struct {
	Hosts []Host        `json:"hosts"`
	Calls []FixtureCall `json:"calls"`
}

// FixtureCall is one call.
type FixtureCall struct {
	// As names the answer for later calls. May be empty.
	As string `json:"as"`
	// Service is the name that requests are signed for, or elbv2.
	Service   string `json:"service"`
	Operation string `json:"operation"`
	// Input has the parameters under the names of the API's reference.
	Input json.RawMessage `json:"input"`
}

// ParseFixture reads a fixture from YAML. It does not look into the inputs of calls.
func ParseFixture(text []byte) (*Fixture, error) {
	f := &Fixture{}
	if err := yaml.UnmarshalStrict(text, f); err != nil {
		return nil, fmt.Errorf("cannot read the fixture: %w", err)
	}
	for i := range f.Calls {
		c := &f.Calls[i]
		if c.Service == "" || c.Operation == "" {
			return nil, fmt.Errorf("cannot read the fixture: call %d needs a service and an operation", i+1)
		}
		if c.Service == "elbv2" {
			c.Service = "elasticloadbalancing"
		}
		if len(c.Input) == 0 {
			c.Input = json.RawMessage("{}")
		}
	}
	return f, nil
}

// furnish makes what a fixture says. The caller holds the gate.
func (e *Emulator) furnish(f *Fixture) error {
	for _, h := range f.Hosts {
		if _, err := e.addHost(h); err != nil {
			return err
		}
	}
	answers := map[string]any{}
	for i, c := range f.Calls {
		fail := func(err error) error {
			return fmt.Errorf("cannot make the fixture: call %d, %s %s: %w", i+1, c.Service, c.Operation, err)
		}
		input, err := e.fill(c.Input, answers)
		if err != nil {
			return fail(err)
		}
		output, err := e.carryOut(c.Service, c.Operation, input)
		if err != nil {
			return fail(err)
		}
		if c.As == "" {
			continue
		}
		text, err := json.Marshal(output)
		if err != nil {
			return fail(err)
		}
		var answer any
		if err := json.Unmarshal(text, &answer); err != nil {
			return fail(err)
		}
		answers[c.As] = answer
	}
	return nil
}

// carryOut runs an operation outside of any request: no signature, no fault, no bucket.
func (e *Emulator) carryOut(name, operation string, text []byte) (any, error) {
	service, ok := e.services[name]
	if !ok {
		return nil, fmt.Errorf("there is no service %q", name)
	}
	known, ok := service.operations[operation]
	if !ok {
		return nil, fmt.Errorf("service %s has no operation %q", name, operation)
	}
	input := known.NewInput()
	if err := snapshot.Decode(text, input); err != nil {
		return nil, err
	}
	return known.Run(eventual.Reader{Caller: "lockstep"}, input)
}

var reference = regexp.MustCompile(`\$\{[^}"]*\}`)

// fill puts values in the place of references.
func (e *Emulator) fill(input []byte, answers map[string]any) ([]byte, error) {
	var problems []error
	filled := reference.ReplaceAllFunc(input, func(found []byte) []byte {
		value, err := e.refer(string(found[2:len(found)-1]), answers)
		problems = append(problems, err)
		quoted, err := json.Marshal(value)
		problems = append(problems, err)
		return quoted[1 : len(quoted)-1]
	})
	return filled, errors.Join(problems...)
}

// refer is what a reference stands for.
func (e *Emulator) refer(name string, answers map[string]any) (string, error) {
	switch name {
	case "vpc":
		return e.ec2.VPC(), nil
	case "group.nodes":
		return e.ec2.NodeSecurityGroup(), nil
	case "group.default":
		return e.ec2.DefaultSecurityGroup(), nil
	}
	head, rest, _ := strings.Cut(name, ".")
	switch head {
	case "subnet":
		return e.subnetNamed(rest)
	case "host":
		wanted, id := strings.CutSuffix(rest, ".id")
		for _, h := range e.Hosts() {
			if h.Name == wanted && id {
				return h.ID, nil
			}
			if h.Name == wanted {
				return h.Address.String(), nil
			}
		}
		return "", fmt.Errorf("${%s}: there is no host %q", name, wanted)
	}
	answer, ok := answers[head]
	if !ok {
		return "", fmt.Errorf("${%s}: no call before has `as: %s`", name, head)
	}
	value, ok := field(answer, rest).(string)
	if !ok {
		return "", fmt.Errorf("${%s}: the answer has no such text", name)
	}
	return value, nil
}

// subnetNamed finds the subnet for private.a.
func (e *Emulator) subnetNamed(name string) (string, error) {
	kind, zone, _ := strings.Cut(name, ".")
	all, err := e.ec2.DescribeSubnets(eventual.Reader{}, &ec2.DescribeSubnetsInput{})
	if err != nil {
		return "", err
	}
	for _, s := range all.Subnets {
		if zone == "" || !strings.HasSuffix(*s.AvailabilityZone, zone) {
			continue
		}
		if public := *s.MapPublicIpOnLaunch; kind == "public" && public || kind == "private" && !public {
			return *s.SubnetId, nil
		}
	}
	return "", fmt.Errorf("${subnet.%s}: there is no such subnet: write ${subnet.private.a}", name)
}

var step = regexp.MustCompile(`^([A-Za-z0-9]+)((?:\[\d+\])*)$`)

// field follows a path such as Rules[0].RuleArn; nil if it leads nowhere.
func field(value any, path string) any {
	for part := range strings.SplitSeq(path, ".") {
		match := step.FindStringSubmatch(part)
		if match == nil {
			return nil
		}
		object, _ := value.(map[string]any)
		value = object[match[1]]
		for index := range strings.FieldsFuncSeq(match[2], func(r rune) bool { return r == '[' || r == ']' }) {
			list, _ := value.([]any)
			n, err := strconv.Atoi(index)
			if err != nil || n >= len(list) {
				return nil
			}
			value = list[n]
		}
	}
	return value
}

// serveReset empties the account, and furnishes it with the fixture in the body, if there is one.
func (e *Emulator) serveReset(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var fixture *Fixture
	if err == nil && len(text) > 0 {
		fixture, err = ParseFixture(text)
	}
	if err == nil {
		err = e.Reset(fixture)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
