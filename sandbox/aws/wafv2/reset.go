package wafv2

// Reset forgets every web ACL.
func (s *Service) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.acls)
	clear(s.associations)
}
