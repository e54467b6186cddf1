// Package dns is the name server of the emulated AWS: the names of load balancers and the records of Route 53's hosted
// zones, over UDP and TCP on a loopback port of its own.
//
//	server, err := dns.Listen("127.0.0.1:0", dns.Config{Account: emulator, Region: "eu-west-1", VPC: mapping, Seed: 7})
//	if err != nil {
//		return err
//	}
//	defer server.Close()
//	go server.Serve()
//
// It keeps no state and no cache: each answer is what the account says at that moment, so that the delays of the
// profile (a new load balancer's name, a zone that leaves, a change that is not yet INSYNC) are seen here as they are
// seen by everybody. A weighted record is drawn once per question, and the values of an answer come in random order.
// CNAMEs are followed as far as they stay within the account, since whoever asks has no other name server;
// what is not the account's is REFUSED, and nothing is ever asked elsewhere.
//
// # Addresses and ports
//
// An address of the VPC is answered as the loopback address at which it is really served (package address): 10.k.b.c as
// 127.k.b.c, so that every client on this machine can connect to what it is told. Other addresses are answered as they
// are. DNS knows no ports: where the system keeps this user from ports below 1024, the listener on port 80 is served at 64080, and
// the client has to know that ([github.com/lockstep-delivery/lockstep/sandbox/address.Mapping.Real]).
//
// # What is assumed
//
// The guides do not say these: an alias whose target does not exist is NODATA; a name of one zone of a Network Load Balancer is
// answered while that zone is unhealthy too, as a single record that has no healthy alternative; the names of
// a load balancer have the TTL and the negative TTL of 60 s. Not modelled: referrals to delegated zones, DNSSEC, zone
// transfers, private zones apart from public ones, EDNS client subnet.
//
// A client whose address belongs to the VPC gets answers for its own zone, where a Network Load Balancer prefers that; of the clients of
// a load balancer with partial affinity 85 of 100 questions. One that asks from 127.0.0.1, or any other address outside, is nowhere.
//
// Start reading at Server.Answer.
package dns
