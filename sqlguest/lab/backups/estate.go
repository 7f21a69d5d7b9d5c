package backups

import (
	"holdfast/sqlguest/lab/estate"
	"holdfast/sqlguest/lab/storage"
)

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

// MakeCertificate makes a certificate in master.
func (s *Server) MakeCertificate(name string) (estate.Certificate, error) {
	a, b := s.GUID(), s.GUID()
	c := estate.Certificate{Name: name, Thumbprint: append(a[:], b[:4]...)}
	return c, s.ChangeEstate(func(e *estate.Estate) { e.Add(c) })
}

// Encrypt gives a database an encryption key that a certificate locks, or another
// certificate for the key that it has: 911, 33111. Its pages are not really encrypted;
// what needs the certificate asks for it.
func (s *Server) Encrypt(database string, c estate.Certificate) error {
	return s.protect(database, func(b *storage.Boot) { b.Protector, b.Encrypted = c.Hex(), true })
}

// Decrypt is SET ENCRYPTION OFF: the key stays, and so does the need for its certificate,
// until it is dropped (DROP DATABASE ENCRYPTION KEY).
func (s *Server) Decrypt(database string, dropKey bool) error {
	return s.protect(database, func(b *storage.Boot) {
		b.Encrypted = false
		if dropKey {
			b.Protector = ""
		}
	})
}

func (s *Server) protect(database string, change func(*storage.Boot)) error {
	db, err := s.Database(database)
	if err != nil {
		return err
	}
	b := db.Info().Boot
	change(&b)
	of := s.Estate()
	if err := of.MayDecrypt(b.Protector); err != nil {
		return err
	}
	return db.SetProtector(b.Protector, b.Encrypted)
}

// JoinGroup makes a database a member of an availability group, on a replica of that
// role, or changes its role: 911.
func (s *Server) JoinGroup(database, group, role string, preferred bool) error {
	if _, err := s.Database(database); err != nil {
		return err
	}
	m := estate.Member{Name: group, Group: s.GUID(), Replica: s.GUID(), Database: s.GUID()}
	return s.ChangeEstate(func(e *estate.Estate) {
		if old, is := e.Member(database); is {
			m = old
		}
		m.Role, m.Preferred = role, preferred
		e.Join(database, m)
	})
}

// LeaveGroup takes a database out of its group.
func (s *Server) LeaveGroup(database string) error {
	return s.ChangeEstate(func(e *estate.Estate) { e.Leave(database) })
}
