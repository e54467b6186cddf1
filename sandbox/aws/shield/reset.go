package shield

// Reset forgets the subscription and every protection.
func (s *Service) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subscribed = false
	clear(s.protections)
}
