package aws

import (
	"cmp"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/catalog"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/fault"
)

// AddFault puts a fault into force and returns its id. It fails if the fault cannot be, or means a zone that the
// account does not have.
func (e *Emulator) AddFault(f fault.Fault) (id string, err error) {
	if f.Zone != "" && !slices.Contains(e.config.Zones, f.Zone) {
		return "", fmt.Errorf("there is no zone %q: take one of %s", f.Zone, strings.Join(e.config.Zones, ", "))
	}
	if err := e.checkPatterns(f); err != nil {
		return "", err
	}
	if f.Kind == fault.Node {
		names := e.machines()
		if len(names) == 0 {
			return "", fmt.Errorf("a fault of kind %s needs a cluster: this is an account alone", f.Kind)
		}
		if !slices.Contains(names, f.Resource) {
			return "", fmt.Errorf("there is no node %q: take one of %s", f.Resource, strings.Join(names, ", "))
		}
	}
	if id, err = e.faults.Add(f); err == nil {
		f.ID = id
		e.record("FaultAdded", time.Now(), f)
	}
	return id, err
}

// checkPatterns refuses patterns that no operation of a service can match: nobody would notice that the fault hits nothing.
func (e *Emulator) checkPatterns(f fault.Fault) error {
	if err := f.Validate(); err != nil {
		return err
	}
	var services []string
	found := make([]bool, len(f.Operations))
	for signed, s := range e.services {
		service := cmp.Or(s.actions, signed)
		services = append(services, service)
		for i, pattern := range f.Operations {
			found[i] = found[i] || slices.ContainsFunc(catalog.Operations(signed), func(operation string) bool {
				ok, _ := path.Match(pattern, service+":"+operation)
				return ok
			})
		}
	}
	if i := slices.Index(found, false); i >= 0 {
		slices.Sort(services)
		return fmt.Errorf("operations: %q matches no operation: write service and operation as policies do, like elasticloadbalancing:Modify*; the services are %s",
			f.Operations[i], strings.Join(services, ", "))
	}
	return nil
}

// EndFault ends a fault by hand; the journal tells of it, as it does of AddFault. It is false if there is none of that id.
func (e *Emulator) EndFault(id string) bool {
	if !e.faults.Remove(id) {
		return false
	}
	e.record("FaultEnded", time.Now(), map[string]string{"id": id})
	return true
}

// firewall lets load balancer nodes ask what is between two addresses: zones that are gone, then security groups.
type firewall struct{ *Emulator }

// Passes says whether the first packet of a connection may pass.
func (f firewall) Passes(p dataplane.Packet) bool {
	if !f.faults.Quiet() {
		for _, a := range []netip.Addr{p.From, p.To.Addr(), p.Via} {
			if f.faults.Loses(f.zoneOf(a)) {
				return false
			}
		}
	}
	if f.config.OpenSecurityGroups {
		return true
	}
	return f.admitted(p)
}

// zoneOf is the zone of an address of a VPC, nothing for any other.
func (e *Emulator) zoneOf(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	subnet, _ := e.ec2.SubnetOf(a)
	return subnet.Zone
}

// newProbes are health checks that faults can let fail.
func (e *Emulator) newProbes() *dataplane.Probes { return dataplane.NewProbes(e.probed) }

// probed is where a health check really goes: nowhere for a target that is to be unhealthy. The data plane maps the
// address of the checking node the same way, which is never a target's but where one load balancer is behind another.
func (e *Emulator) probed(at netip.AddrPort) netip.AddrPort {
	if e.faults.Quiet() || !e.faults.Sickens(e.zoneOf(at.Addr()), func() []string { return e.namesOf(at) }) {
		return e.real(at)
	}
	if at.Port() == 1024 && e.ec2.OwnedByBalancer(at.Addr()) {
		return e.real(at)
	}
	return netip.AddrPort{}
}

// namesOf are the names by which a fault may mean a target.
func (e *Emulator) namesOf(at netip.AddrPort) []string {
	names := []string{at.String()}
	for _, node := range e.elbv2.Applied() {
		for group, targets := range node.Targets {
			if slices.ContainsFunc(targets, func(t dataplane.TargetKey) bool { return e.addressOf(t) == at.Addr() }) {
				names = append(names, group)
			}
		}
	}
	return names
}

func (e *Emulator) addressOf(t dataplane.TargetKey) netip.Addr {
	if instance, ok := e.ec2.InstanceByID(t.ID); ok {
		return instance.Address
	}
	a, _ := netip.ParseAddr(t.ID)
	return a
}
