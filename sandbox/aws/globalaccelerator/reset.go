package globalaccelerator

// Reset forgets every accelerator.
func (s *Service) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.accelerators)
	clear(s.listeners)
	clear(s.groups)
	clear(s.requests)
}
