package backups

import "holdfast/sqlguest/lab/estate"

// Estate is a copy of what the instance has beside its databases.
func (s *Server) Estate() estate.Estate {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.estate.Clone()
}

// ChangeEstate changes it.
func (s *Server) ChangeEstate(change func(*estate.Estate)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.estate)
	return s.changed()
}
