package acm

// Reset forgets every certificate.
func (s *Service) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.certificates)
	clear(s.requests)
}
