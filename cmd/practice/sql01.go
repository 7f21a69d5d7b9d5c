package practice

import (
	"crypto/rand"
	"fmt"
	"os"

	"holdfast/sqlguest/lab"
)

// SQL is the laboratory's SQL Server.
type SQL struct {
	*lab.Lab
	User, Password string
	dir            string
}

// StartSQL runs a SQL Server with the databases sales (FULL), stock (SIMPLE) and
// "it's, ünï" (FULL) on a port of its own, and the login sa with the password, "" for
// one by lot. Close ends it and removes its files.
func StartSQL(password string) (*SQL, error) {
	dir, err := os.MkdirTemp("", "holdfast-sql-")
	if err != nil {
		return nil, fmt.Errorf("make directory of the SQL Server: %w", err)
	}
	if password == "" {
		password = rand.Text()
	}
	s := &SQL{User: "sa", Password: password, dir: dir}
	s.Lab, err = lab.Start(lab.Options{
		Name: "SQL01", Sample: true, BackupDirectory: dir, Path: func(path string) string { return path },
		Logins: []lab.Login{{Name: s.User, Password: s.Password, Sysadmin: true}},
	})
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, fmt.Errorf("start SQL Server: %w", err)
	}
	return s, nil
}

// Close ends the server and removes what it wrote.
func (s *SQL) Close() error {
	err := s.Lab.Close()
	if rerr := os.RemoveAll(s.dir); err == nil {
		err = rerr
	}
	return err
}
