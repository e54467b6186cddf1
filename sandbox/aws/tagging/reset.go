package tagging

// Reset forgets every resource at once, without the time that AWS takes.
func (s *Service) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.resources)
}
