package lab

import (
	"strings"
	"testing"

	"holdfast/sqlguest/lab/estate"
)

func TestReplicaOfAnAvailabilityGroup(t *testing.T) {
	l := start(t, Options{Sample: true})
	c := one(t, l)
	run(t, c, "BACKUP DATABASE sales TO DISK='full'")
	join := func(role string, preferred bool) {
		t.Helper()
		if err := l.JoinGroup("sales", "ag", role, preferred); err != nil {
			t.Fatal(err)
		}
	}
	look := `SELECT CONCAT(r.role_desc, ' ', g.name, ' ', sys.fn_hadr_backup_is_preferred_replica('sales'), ' ', SERVERPROPERTY('IsHadrEnabled'), ' ', s.is_primary_replica)
 FROM sys.databases d JOIN sys.dm_hadr_availability_replica_states r ON r.replica_id=d.replica_id JOIN sys.availability_groups g ON g.group_id=r.group_id
 JOIN sys.dm_hadr_database_replica_states s ON s.group_database_id=d.group_database_id WHERE d.name='sales'`
	join(estate.Primary, true)
	if got := tableOf(t, c, look); got != "PRIMARY ag 1 1 1" {
		t.Error(got)
	}
	run(t, c, "BACKUP DATABASE sales TO DISK='NUL'", "BACKUP DATABASE sales TO DISK='NUL' WITH DIFFERENTIAL", "BACKUP LOG sales TO DISK='NUL' WITH COPY_ONLY")
	join(estate.Secondary, false)
	if got := tableOf(t, c, look); got != "SECONDARY ag 0 1 0" {
		t.Error(got)
	}
	for _, text := range []string{"BACKUP DATABASE sales TO DISK='NUL'", "BACKUP DATABASE sales TO DISK='NUL' WITH DIFFERENTIAL", "BACKUP LOG sales TO DISK='NUL' WITH COPY_ONLY"} {
		fails(t, c, text, 3059, 3013)
	}
	run(t, c, "BACKUP DATABASE sales TO DISK='NUL' WITH COPY_ONLY", "BACKUP LOG sales TO DISK='NUL'")
	fails(t, c, "RESTORE DATABASE sales FROM DISK='full' WITH REPLACE", 3104, 3013)
	fails(t, c, "DROP DATABASE sales", 3752)
	if err := l.StopService(); err != nil { // the group outlives the service
		t.Fatal(err)
	}
	if err := l.StartService(); err != nil {
		t.Fatal(err)
	}
	c = one(t, l)
	fails(t, c, "RESTORE DATABASE sales FROM DISK='full' WITH REPLACE", 3104, 3013)
	if err := l.LeaveGroup("sales"); err != nil {
		t.Fatal(err)
	}
	run(t, c, "RESTORE DATABASE sales FROM DISK='full' WITH REPLACE")
	if got := tableOf(t, c, "SELECT COUNT(*) FROM sys.databases WHERE replica_id IS NOT NULL"); got != "0" {
		t.Error(got)
	}
}

func TestEncryptedDatabaseNeedsItsCertificate(t *testing.T) {
	l := start(t, Options{Sample: true})
	c := one(t, l)
	cert, err := l.MakeCertificate("tde")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Encrypt("sales", cert); err != nil {
		t.Fatal(err)
	}
	keys := "SELECT CONCAT(d.is_encrypted, ' ', k.encryption_state, ' ', k.encryptor_type, ' ', c.name) FROM sys.dm_database_encryption_keys k JOIN sys.databases d ON d.database_id=k.database_id JOIN master.sys.certificates c ON c.thumbprint=k.encryptor_thumbprint"
	if got := tableOf(t, c, keys); got != "1 3 CERTIFICATE tde" {
		t.Error(got)
	}
	run(t, c, "BACKUP DATABASE sales TO DISK='full'", "BACKUP LOG sales TO DISK='log'")
	if err := l.Server().ChangeEstate(func(e *estate.Estate) { e.Drop("TDE") }); err != nil {
		t.Fatal(err)
	}
	restore := "RESTORE DATABASE copy FROM DISK='full' WITH NORECOVERY, MOVE 'sales' TO 'C:\\Data\\copy.mdf', MOVE 'sales_log' TO 'C:\\Log\\copy.ldf'"
	fails(t, c, restore, 33111, 3013)
	fails(t, c, "RESTORE DATABASE sales FROM DISK='full' WITH REPLACE", 33111, 3013)
	if got := tableOf(t, c, "SELECT COUNT(*) FROM sales.dbo.customers"); got != "3" {
		t.Errorf("%s customers", got)
	}
	if h, err := l.Server().Database("sales"); err != nil || h.Info().Protector != cert.Hex() || len(cert.Hex()) != 40 {
		t.Errorf("%v", err)
	}
	if err := l.Server().ChangeEstate(func(e *estate.Estate) { e.Add(cert) }); err != nil {
		t.Fatal(err)
	}
	run(t, c, restore, "RESTORE LOG copy FROM DISK='log' WITH RECOVERY")
	if got := tableOf(t, c, keys); strings.Count(got, "1 3 CERTIFICATE tde") != 2 {
		t.Error(got)
	}
	if err := l.Decrypt("copy", false); err != nil {
		t.Fatal(err)
	}
	if got := tableOf(t, c, keys); strings.Count(got, "0 1 CERTIFICATE tde") != 1 {
		t.Error(got)
	}
}

// TestFullVolume: it says so, and a backup file on it gets as much as there is.
func TestFullVolume(t *testing.T) {
	l := start(t, Options{Sample: true})
	c := one(t, l)
	l.FillVolume(`C:\`, 100<<10)
	if got := tableOf(t, c, "SELECT free_space_in_bytes FROM sys.dm_os_enumerate_fixed_drives"); got != "102400" {
		t.Error(got)
	}
	fails(t, c, `BACKUP DATABASE sales TO DISK='C:\Backup\a.bak'`, 3202, 3013)
	if got := tableOf(t, c, "SELECT COUNT(*) FROM msdb.dbo.backupset"); got != "0" {
		t.Errorf("%s rows in msdb", got)
	}
	l.FillVolume(`C:\`, 100<<20)
	run(t, c, `BACKUP DATABASE sales TO DISK='C:\Backup\a.bak'`)
}

// TestEndOfTheLog: every change moves it, looking does not, and a backup does unless the
// database is read-only.
func TestEndOfTheLog(t *testing.T) {
	c := one(t, start(t, Options{Sample: true}))
	end := func() string {
		t.Helper()
		return tableOf(t, c, "SELECT log_end_lsn FROM sys.dm_db_log_stats(DB_ID('stock'))")
	}
	last := end()
	moves := func(want bool, statements ...string) {
		t.Helper()
		run(t, c, statements...)
		got := end()
		if got == "" || (got != last) != want {
			t.Errorf("%q: from %s to %s", statements, last, got)
		}
		last = got
	}
	moves(false, "SELECT * FROM stock.sys.dm_db_file_space_usage", "SELECT * FROM stock.dbo.items")
	moves(true, "UPDATE stock.dbo.items SET amount = 1 WHERE id = 1")
	moves(true, "BACKUP DATABASE stock TO DISK='NUL'")
	moves(true, "ALTER DATABASE stock SET READ_ONLY")
	moves(false, "BACKUP DATABASE stock TO DISK='NUL'", "BACKUP DATABASE stock TO DISK='NUL' WITH DIFFERENTIAL", "BACKUP DATABASE stock TO DISK='NUL' WITH COPY_ONLY")
	moves(true, "ALTER DATABASE stock SET READ_WRITE")
	moves(true, "ALTER DATABASE stock SET READ_ONLY")
}
