// Package nlb is the moving part of the emulated Network Load Balancer: nodes that listen on real TCP and UDP sockets, choose a
// target for each flow and move its bytes.
//
// A Node is the address of one load balancer in one availability zone. It is told what package dataplane's Node is told, in
// the same words and by the same four calls, and like that one it delays nothing on its own account, but for what Delays says.
//
// # The way of a flow
//
//	client --SYN--> security groups let it in?    no: nobody answers, the connect times out
//	                 listener on this port?       no: nobody answers, the connect times out
//	                 target group, by weight, unless the client's address is to stay with one
//	                 target, by hash              none: RST
//	                 security groups let it out?  no: nobody answers
//	                 connect, PROXY header, TLS   refused: RST
//	client <========== bytes ==========> target   until both have ended, it was cut, or idle for too long
//
// A flow stays on its target for life, whatever becomes of listener, weights and registration. It is cut by an RST to both sides when
// its target has become unhealthy or its deregistration delay is over and the group says that this ends flows, some time after the weight
// of its group became 0, and with the load balancer. An idle flow is forgotten without a word: who sends next gets an RST.
//
// A flow that waits holds two sockets and nothing else: buffers are lent to it while bytes move. Whether it is idle is not seen byte by byte, as
// keep-alive probes count as well: idle flows are found by asking the kernel for the segments that came in, sixteen times in an idle time-out.
//
// # Assumptions
//
// Where AWS says nothing, or sources disagree, a node does this:
//
//   - A group without targets, or whose targets are all in their first check: RST at once. All weights 0: RST.
//   - No group takes the place of another that is empty or unhealthy.
//   - A group fails open to the registered targets of the zones that it may use, and to those of all zones when none of
//     them is healthy anywhere.
//   - Flows of a listener that was removed go on.
//   - A TCP target that refuses two or more flows (the unhealthy threshold) with no check passed in between is unhealthy, which is what passive
//     checks are here. Not for UDP, nor with stickiness.
//   - A TLS group is offered the application protocol that the client has agreed to. A client whose protocols do not fit the ALPN policy
//     gets no connection; one that speaks only HTTP/1.1 gets one without ALPN under HTTP2Only.
//   - What sticks to a group by source address is forgotten when its weight is 0, and when 10,000 newer clients stick.
//   - Flows cut because of weight 0 end by RST, the others likewise.
//
// # Not modelled
//
// The kernel completes TCP handshakes on its own. What is dropped at the node is dropped before that, where the kernel takes filters
// (dataplane.Door): on Linux. But a client whose packets are dropped on the way to the target, or that is the target itself, is
// connected, and then nothing comes; one whose target refuses sees an RST after it was connected. A port drops that has had a listener, and
// those of Config.Quiet; any other one is refused by the kernel, where a real load balancer drops. Attempts that are dropped are
// counted as often as they are repeated.
//
// What security groups let in stays in, as connections through a Network Load Balancer are always tracked; tracking does not time out.
//
// An RST is sent when the node ends a flow, where a real one waits for the next packet.
//
// Targets see the address of a client that is to be preserved, but another port than the client's own. Two flows of one client
// over two nodes therefore never collide at a target. A UDP reply comes from the node that the client asked, as it should.
//
// IPv6: a node is an address of 127.0.0.0/8, and Linux has one loopback address of IPv6 for all. So a dual-stack load balancer is served, and
// answered by DNS, under its IPv4 addresses.
//
// Fragments, ICMP, MSS, SYN retransmission, jumbo frames, connection ids of QUIC (its datagrams are flows by address and port), VPC endpoints,
// zonal shift; TCP sequence numbers as part of the hash (each TCP flow draws instead); the limit of 55,000 flows per target and node other than
// by the ports of this machine; what a security policy says about versions and ciphers of TLS.
//
// On other systems than Linux idle flows are not forgotten.
//
// Start reading at config.go, then node.go (what it is told), choose.go (who gets a flow), stream.go and datagram.go (the ways of TCP
// and UDP), group.go (who is healthy).
package nlb
