package dns

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// balancerTTL is that of the names of load balancers, and how long it is believed that there is none of a name.
const balancerTTL = 60 * time.Second

// applications and networks are the zones in which load balancers have their names.
func (s *Server) applications() string { return s.config.Region + ".elb.amazonaws.com." }
func (s *Server) networks() string     { return "elb." + s.config.Region + ".amazonaws.com." }

// balancerZone is the zone of load balancers that a name is in, or "".
func (s *Server) balancerZone(name string) string {
	for _, zone := range []string{s.applications(), s.networks()} {
		if dns.IsSubDomain(zone, dns.CanonicalName(name)) {
			return zone
		}
	}
	return ""
}

// lookBalancer answers in a zone of load balancers.
func (s asked) lookBalancer(name, zone string, kind uint16) finding {
	soa := &dns.SOA{
		Hdr: header(zone, dns.TypeSOA, balancerTTL), Ns: nameServers(zone)[0], Mbox: "awsdns-hostmaster.amazon.com.",
		Serial: 1, Refresh: 7200, Retry: 900, Expire: 1209600, Minttl: uint32(balancerTTL / time.Second),
	}
	if dns.CanonicalName(name) == zone {
		return apex(name, zone, kind, soa)
	}
	addresses := s.resolve(name)
	switch {
	case len(addresses) == 0:
		return finding{rcode: dns.RcodeNameError, authority: soa}
	case kind != dns.TypeA:
		return finding{authority: soa}
	}
	return finding{records: s.addresses(name, addresses)}
}

func apex(name, zone string, kind uint16, soa *dns.SOA) finding {
	switch kind {
	case dns.TypeSOA:
		soa.Hdr.Name = name
		return finding{records: []dns.RR{soa}}
	case dns.TypeNS:
		var f finding
		for _, server := range nameServers(zone) {
			f.records = append(f.records, &dns.NS{Hdr: header(name, dns.TypeNS, balancerTTL), Ns: server})
		}
		return f
	}
	return finding{authority: soa}
}

// nameServers are names that nobody has to resolve: this server is all of them.
func nameServers(zone string) []string { return []string{"ns-1." + zone, "ns-2." + zone} }

// resolve gives the VPC addresses of a load balancer's name, of that name after "dualstack.", or of one zone of a
// Network Load Balancer, as in eu-west-1a.NAME.
func (s asked) resolve(name string) []netip.Addr {
	name = strings.TrimPrefix(strings.TrimSuffix(dns.CanonicalName(name), "."), "dualstack.")
	if all := s.config.Account.Resolve(name); len(all) > 0 {
		return s.near(name, all)
	}
	zone, rest, ok := strings.Cut(name, ".")
	if !ok || !dns.IsSubDomain(s.networks(), rest+".") || len(s.config.Account.Resolve(rest)) == 0 {
		return nil
	}
	for _, lb := range s.config.Account.LoadBalancers() {
		if !strings.EqualFold(lb.DNSName, rest) {
			continue
		}
		for _, node := range lb.Nodes {
			if node.Zone == zone {
				return []netip.Addr{node.Address}
			}
		}
	}
	return nil
}

// near leaves only the address in the client's own zone, if the load balancer prefers that and has one there among those that can be answered.
// Only clients in the VPC have a zone.
func (s asked) near(name string, all []netip.Addr) []netip.Addr {
	zone := s.config.Account.ZoneOf(s.config.VPC.VirtualAddr(s.client))
	if zone == "" {
		return all
	}
	for _, lb := range s.config.Account.LoadBalancers() {
		if !strings.EqualFold(lb.DNSName, name) || !s.prefers(lb.ClientRouting) {
			continue
		}
		for _, node := range lb.Nodes {
			if node.Zone == zone && slices.Contains(all, node.Address) {
				return []netip.Addr{node.Address}
			}
		}
	}
	return all
}

// prefers draws whether a policy, the value of dns_record.client_routing_policy, keeps this question in its zone.
func (s asked) prefers(policy string) bool {
	const partial = 85 // per cent
	switch policy {
	case "availability_zone_affinity":
		return true
	case "partial_availability_zone_affinity":
		return s.draw(100) < partial
	}
	return false
}

// addresses are the records of a load balancer, in random order.
func (s *Server) addresses(owner string, of []netip.Addr) []dns.RR {
	var list []dns.RR
	for _, a := range of {
		list = append(list, &dns.A{Hdr: header(owner, dns.TypeA, balancerTTL), A: s.reachable(a).AsSlice()})
	}
	s.shuffle(list)
	return list
}

func header(owner string, kind uint16, ttl time.Duration) dns.RR_Header {
	return dns.RR_Header{Name: owner, Rrtype: kind, Class: dns.ClassINET, Ttl: uint32(ttl / time.Second)}
}
