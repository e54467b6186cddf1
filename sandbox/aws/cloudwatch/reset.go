package cloudwatch

// Reset forgets every metric.
func (s *Service) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.series)
}
