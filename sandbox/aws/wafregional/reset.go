package wafregional

// Reset forgets every web ACL and every change token.
func (s *Service) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.acls)
	clear(s.tokens)
	clear(s.associations)
}
