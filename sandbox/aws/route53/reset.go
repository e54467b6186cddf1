package route53

// Reset forgets every hosted zone.
func (s *Service) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.zones)
	clear(s.changes)
}
