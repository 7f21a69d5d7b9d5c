package lab

import (
	"holdfast/sqlguest/lab/estate"
	"holdfast/sqlguest/lab/storage"
)

// MakeCertificate makes a certificate in master.
func (l *Lab) MakeCertificate(name string) (estate.Certificate, error) {
	a, b := l.server().GUID(), l.server().GUID()
	c := estate.Certificate{Name: name, Thumbprint: append(a[:], b[:4]...)}
	return c, l.server().ChangeEstate(func(e *estate.Estate) { e.Add(c) })
}

// Encrypt gives a database an encryption key that a certificate locks, or another
// certificate for the key that it has: 911, 33111. Its pages are not really encrypted;
// what needs the certificate asks for it.
func (l *Lab) Encrypt(database string, c estate.Certificate) error {
	return l.protect(database, func(b *storage.Boot) { b.Protector, b.Encrypted = c.Hex(), true })
}

// Decrypt is SET ENCRYPTION OFF: the key stays, and so does the need for its certificate,
// until it is dropped (DROP DATABASE ENCRYPTION KEY).
func (l *Lab) Decrypt(database string, dropKey bool) error {
	return l.protect(database, func(b *storage.Boot) {
		b.Encrypted = false
		if dropKey {
			b.Protector = ""
		}
	})
}

func (l *Lab) protect(database string, change func(*storage.Boot)) error {
	db, err := l.server().Database(database)
	if err != nil {
		return err
	}
	b := db.Info().Boot
	change(&b)
	of := l.server().Estate()
	if err := of.MayDecrypt(b.Protector); err != nil {
		return err
	}
	return db.SetProtector(b.Protector, b.Encrypted)
}

// JoinGroup makes a database a member of an availability group, on a replica of that
// role, or changes its role: 911.
func (l *Lab) JoinGroup(database, group, role string, preferred bool) error {
	if _, err := l.server().Database(database); err != nil {
		return err
	}
	m := estate.Member{Name: group, Group: l.server().GUID(), Replica: l.server().GUID(), Database: l.server().GUID()}
	return l.server().ChangeEstate(func(e *estate.Estate) {
		if old, is := e.Member(database); is {
			m = old
		}
		m.Role, m.Preferred = role, preferred
		e.Join(database, m)
	})
}

// LeaveGroup takes a database out of its group.
func (l *Lab) LeaveGroup(database string) error {
	return l.server().ChangeEstate(func(e *estate.Estate) { e.Leave(database) })
}
