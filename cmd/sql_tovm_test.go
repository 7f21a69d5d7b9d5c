package cmd

import (
	"strings"
	"testing"

	"holdfast/sqlguest/direct"
	sqllab "holdfast/sqlguest/lab"
)

// in runs T-SQL at an address and gives its first column, with blanks between.
func (w *guestWorld) in(address, text string) string {
	w.t.Helper()
	s, err := direct.Open(w.t.Context(), direct.Options{Address: address, User: w.sql.User, Password: w.sql.Password})
	w.must(err)
	defer s.Close() //nolint:errcheck // a test's connection
	rows, err := s.Query(w.t.Context(), text)
	w.must(err)
	var all []string
	for _, row := range rows.Values {
		all = append(all, row[0].(string))
	}
	return strings.Join(all, " ")
}

// TestRestoreToVM: databases go into a VM through an agent in its guest: beside
// themselves, over themselves with their tail, and from another SQL Server; nothing
// stays in the guest, and a refusal changes nothing.
func TestRestoreToVM(t *testing.T) {
	const add, names = "INSERT INTO sales.dbo.customers (id, name) VALUES ", "dbo.customers WHERE id > 9 ORDER BY id"
	w := newGuestWorld(t)
	here := w.sql.Address()
	w.in(here, add+"(10, N'full')")
	w.run(0, "backup", "sql", "--instance", here, "-d", "sales") // SQL-5: the same server
	w.in(here, add+"(11, N'tail')")

	w.run(0, "restore", "sql", "sales", "--to-vm", "sql01", "--as", "copy")
	if got := w.in(here, "SELECT name FROM copy."+names); got != "full" {
		t.Errorf("the copy holds %q", got)
	}
	w.guestIsClean()
	w.run(16, "restore", "sql", "sales", "--to-vm", "sql01")
	w.guestIsClean()
	did, _ := w.run(0, "restore", "sql", "sales", "--to-vm", "sql01", "--replace")
	w.want(did, "sql/sql01/sales sql-log P-tail", "sql/SQL01/sales") // the way names the point, the restore the source
	if got := w.in(here, "SELECT name FROM sales."+names); got != "full tail" {
		t.Errorf("the database that was restored over itself holds %q", got)
	}
	w.guestIsClean()

	other, err := sqllab.Start(sqllab.Options{Name: "OTHER", Sample: true, BackupDirectory: t.TempDir(), Seed: 7, Path: func(path string) string { return path }, Logins: []sqllab.Login{{Name: w.sql.User, Password: w.sql.Password, Sysadmin: true}}})
	w.must(err)
	t.Cleanup(func() { w.must(other.Close()) })
	w.in(other.Address(), add+"(20, N'elsewhere')")
	w.run(0, "backup", "sql", "--instance", other.Address(), "-d", "sales")
	w.run(0, "restore", "sql", "OTHER/sales", "--to-vm", "sql01", "--as", "moved")
	if got := w.in(here, "SELECT name FROM moved."+names); got != "elsewhere" {
		t.Errorf("the database of another server holds %q", got)
	}
	w.run(1, "restore", "sql", "SQL01/sales", "--to-vm", "nobody", "--as", "x")
	w.env["HOLDFAST_SQL_PASSWORD"] = "wrong"
	w.run(14, "restore", "sql", "SQL01/sales", "--to-vm", "sql01", "--as", "x")
	w.guestIsClean()
}
