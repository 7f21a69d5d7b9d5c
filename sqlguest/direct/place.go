package direct

// Beside tells whether the SQL Server is on this machine.
func (s *Server) Beside() bool { return s.opt.IsHere() }
