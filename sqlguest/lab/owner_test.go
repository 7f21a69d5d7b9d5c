package lab

import "testing"

// TestRestorePutsOwnerAndTrustToWhatIsSafe, whatever the backup says, and a file is told
// to exist if it does.
func TestRestorePutsOwnerAndTrustToWhatIsSafe(t *testing.T) {
	c := one(t, start(t, Options{Sample: true, Logins: []Login{{Name: "sa", Sysadmin: true}, {Name: "boss"}}}))
	const look = "SELECT SUSER_SNAME(owner_sid), is_trustworthy_on, is_db_chaining_on, is_broker_enabled FROM sys.databases WHERE name='sales'"
	fails(t, c, "ALTER AUTHORIZATION ON DATABASE::sales TO nobody", 15151)
	run(t, c, "ALTER AUTHORIZATION ON DATABASE::[sales] TO [boss]", "ALTER DATABASE sales SET TRUSTWORTHY ON", "ALTER DATABASE sales SET DB_CHAINING ON")
	before := tableOf(t, c, look)
	run(t, c, "BACKUP DATABASE sales TO DISK='file'", "RESTORE DATABASE sales FROM DISK='file' WITH REPLACE, NORECOVERY")
	fails(t, c, "ALTER AUTHORIZATION ON DATABASE::sales TO boss", 927)
	run(t, c, "RESTORE DATABASE sales WITH RECOVERY")
	if after := tableOf(t, c, look); before != "boss|true|true|true" || after != "sa|false|false|false" {
		t.Errorf("%s, then %s", before, after)
	}
	run(t, c, "ALTER DATABASE sales SET ENABLE_BROKER", "ALTER DATABASE sales SET READ_ONLY")
	if got := tableOf(t, c, look); got != "sa|false|false|true" {
		t.Error(got)
	}
	fails(t, c, "ALTER AUTHORIZATION ON DATABASE::sales TO boss", 3906)
	if got := tableOf(t, c, `EXEC master.dbo.xp_fileexist N'C:\Data\SALES.mdf'`); got != "1|0|1" {
		t.Error(got)
	}
	if got := tableOf(t, c, `EXEC xp_fileexist N'C:\Data\none.mdf'`); got != "0|0|1" {
		t.Error(got)
	}
}
