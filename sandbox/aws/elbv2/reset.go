package elbv2

import "sync"

// Reset forgets every resource and ends every node, without a wait for requests in flight to be due. The interfaces of load
// balancers are the network's to drop.
func (s *Service) Reset() {
	s.mu.Lock()
	for t := range s.timers {
		t.Stop()
	}
	clear(s.timers)
	var nodes []*node
	for _, lb := range s.balancers {
		lb.deleted = true
		nodes = append(nodes, lb.everyNode()...)
	}
	for _, n := range nodes {
		n.gone = true // what is just on its way to the node finds nobody
	}
	clear(s.balancers)
	clear(s.listeners)
	clear(s.rules)
	clear(s.targetGroups)
	clear(s.trustStores)
	clear(s.secrets)
	s.mu.Unlock()
	var closing sync.WaitGroup
	for _, n := range nodes {
		closing.Go(n.close)
	}
	closing.Wait()
}
