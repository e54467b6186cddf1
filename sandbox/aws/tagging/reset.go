package tagging

// Reset forgets every resource at once, without the time that AWS takes.
func (s *Service) Reset() {
	s.looking.Lock()
	defer s.looking.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.resources)
}
