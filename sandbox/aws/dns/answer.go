package dns

import (
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/route53"
)

// maxChain bounds how many CNAMEs are followed.
const maxChain = 8

// Answer is the answer to a question from somewhere outside of the VPC; it sends nothing.
func (s *Server) Answer(question *dns.Msg) *dns.Msg { return s.AnswerTo(netip.Addr{}, question) }

// asked is a server that answers one client.
type asked struct {
	*Server
	client netip.Addr // real
}

// AnswerTo is the answer to a question from a real address: load balancers may prefer the zone that it is in.
func (s *Server) AnswerTo(client netip.Addr, question *dns.Msg) *dns.Msg {
	return asked{s, client}.answer(question)
}

func (s asked) answer(question *dns.Msg) *dns.Msg {
	answer := new(dns.Msg)
	answer.SetReply(question)
	answer.Authoritative = false
	if opt := question.IsEdns0(); opt != nil {
		answer.SetEdns0(maxUDP, false)
		if opt.Version() != 0 {
			answer.Rcode = dns.RcodeBadVers
			return answer
		}
	}
	if refusal := refuse(question); refusal != dns.RcodeSuccess {
		answer.Rcode = refusal
		return answer
	}
	asked := question.Question[0]
	if asked.Qtype == dns.TypeANY {
		s.follow(answer, asked.Name, dns.TypeHINFO)
		if answer.Rcode == dns.RcodeSuccess && len(answer.Answer) == 0 {
			// RFC 8482: instead of all that there is.
			answer.Answer, answer.Ns = []dns.RR{&dns.HINFO{Hdr: header(asked.Name, dns.TypeHINFO, time.Hour), Cpu: "RFC8482"}}, nil
		}
		return answer
	}
	s.follow(answer, asked.Name, asked.Qtype)
	return answer
}

// refuse is how a question that is none for us is answered.
func refuse(question *dns.Msg) int {
	switch {
	case question.Opcode != dns.OpcodeQuery:
		return dns.RcodeNotImplemented
	case len(question.Question) != 1:
		return dns.RcodeFormatError
	}
	options := 0
	for _, extra := range question.Extra {
		if extra.Header().Rrtype == dns.TypeOPT {
			options++
		}
	}
	asked := question.Question[0]
	switch {
	case options > 1, asked.Qtype == dns.TypeOPT, asked.Qtype == dns.TypeTSIG, asked.Qtype == dns.TypeNone:
		return dns.RcodeFormatError
	case asked.Qclass != dns.ClassINET, asked.Qtype == dns.TypeAXFR, asked.Qtype == dns.TypeIXFR:
		return dns.RcodeRefused
	}
	return dns.RcodeSuccess
}

// follow answers for a name and, when that is a CNAME, for what it leads to.
func (s asked) follow(answer *dns.Msg, name string, kind uint16) {
	seen := map[string]bool{}
	for range maxChain {
		if seen[dns.CanonicalName(name)] {
			return // a circle: what is known of it is in the answer
		}
		seen[dns.CanonicalName(name)] = true
		found := s.look(name, kind)
		if found.rcode == dns.RcodeRefused && len(answer.Answer) > 0 {
			return // the chain leaves the account
		}
		answer.Rcode = found.rcode
		answer.Authoritative = answer.Authoritative || found.rcode != dns.RcodeRefused
		answer.Answer = append(answer.Answer, found.records...)
		if len(found.records) == 0 && found.authority != nil {
			answer.Ns = []dns.RR{found.authority}
		}
		if found.next == "" {
			return
		}
		name = found.next
	}
}

// finding is what is known of one name.
type finding struct {
	rcode   int
	records []dns.RR
	// next is the name to go on with.
	next string
	// authority is the SOA record that says how long to believe that there is nothing.
	authority dns.RR
}

func (s asked) look(name string, kind uint16) finding {
	if zone := s.balancerZone(name); zone != "" {
		return s.lookBalancer(name, zone, kind)
	}
	return s.lookHosted(name, kind)
}

// lookHosted asks Route 53.
func (s asked) lookHosted(name string, kind uint16) finding {
	hosted := s.config.Account.Route53()
	said := hosted.Lookup(toRoute53(name), typeName(kind), s.draw)
	none := func(rcode int) finding {
		authority := s.authority(hosted, said.Zone)
		if authority == nil { // the name servers do not have the zone yet
			return finding{rcode: dns.RcodeRefused}
		}
		return finding{rcode: rcode, authority: authority}
	}
	switch said.Outcome {
	case route53.NoName:
		return none(dns.RcodeNameError)
	case route53.NoData:
		return none(dns.RcodeSuccess)
	case route53.Answered:
		f := finding{records: s.records(name, said)}
		if len(f.records) == 0 {
			return finding{rcode: dns.RcodeServerFailure}
		}
		if alias, ok := f.records[0].(*dns.CNAME); ok && kind != dns.TypeCNAME {
			f.next = alias.Target
		}
		s.shuffle(f.records)
		return f
	case route53.Aliased:
		if kind == dns.TypeA {
			if records := s.addresses(name, s.resolve(said.Alias)); len(records) > 0 {
				return finding{records: records}
			}
		}
		return none(dns.RcodeSuccess)
	}
	return finding{rcode: dns.RcodeRefused}
}

// authority is the SOA record of a zone, with the time for which to believe that there is nothing (RFC 2308).
func (s *Server) authority(hosted *route53.Service, zone string) dns.RR {
	for _, record := range s.records(fromRoute53(zone), hosted.Lookup(zone, "SOA", s.draw)) {
		if soa, ok := record.(*dns.SOA); ok {
			soa.Hdr.Ttl = min(soa.Hdr.Ttl, soa.Minttl)
			return soa
		}
	}
	return nil
}

// records are the values of an answer. One that cannot be a record is left out.
func (s *Server) records(owner string, said route53.Answer) []dns.RR {
	var list []dns.RR
	for _, value := range said.Values {
		record, err := parse(owner, said.Type, said.TTL, value)
		if err != nil {
			s.config.Log.Warn("a record cannot be answered", "name", owner, "type", said.Type, "value", value, "error", err)
			continue
		}
		if a, ok := record.(*dns.A); ok {
			if address, ok := netip.AddrFromSlice(a.A.To4()); ok {
				a.A = s.reachable(address).AsSlice()
			}
		}
		list = append(list, record)
	}
	return list
}

// reachable is the loopback address at which an address of the VPC is served; other addresses stay what they are.
func (s *Server) reachable(a netip.Addr) netip.Addr {
	if real := s.config.VPC.RealAddr(a); real.IsValid() {
		return real
	}
	return a
}

// typeName is a type as Route 53 calls it.
func typeName(kind uint16) string { return strings.ToUpper(dns.Type(kind).String()) }
