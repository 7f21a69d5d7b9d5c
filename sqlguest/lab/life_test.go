package lab

import (
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/sqlguest/lab/storage/filesystem"
)

func TestMoreStatements(t *testing.T) {
	c := one(t, start(t, Options{Sample: true}))
	run(t, c, "USE sales", "SELECT id, name INTO copy FROM customers WHERE id<3", "CREATE TABLE pair (a INT, b INT, c MONEY, CONSTRAINT pk PRIMARY KEY (a,b))",
		"INSERT pair VALUES (1,1,1.5),(1,2,NULL)", "INSERT INTO copy EXEC('SELECT 7, N''seven''')", "WAITFOR DELAY '00:00:00.010'", "DBCC SHRINKDATABASE (sales)")
	fails(t, c, "INSERT pair VALUES (1,2,0)", 2627)
	fails(t, c, "UPDATE pair SET b=1 WHERE b=2", 2627)
	fails(t, c, "DBCC NOTHING", 2526)
	for _, k := range []struct{ text, want string }{
		{"SELECT * FROM copy ORDER BY id", "1|Grünwald & Söhne\n2|O'Hara\n7|seven"},
		{"SELECT name, system_type_name, is_nullable FROM sys.columns WHERE object_id=OBJECT_ID('pair') ORDER BY column_id", "a|int|false\nb|int|false\nc|money|true"},
		{"SELECT c*2, ABS(-c), ROUND(c,0), FLOOR(c), CEILING(c) FROM pair WHERE b=1", "3.0000|1.5000|2|1|2"},
		{"SELECT SERVERPROPERTY('ServerName'), SERVERPROPERTY('IsClustered'), SERVERPROPERTY('nothing'), SERVERPROPERTY('InstanceDefaultBackupPath')", `LAB|0|<nil>|C:\Backup\`},
		{"SELECT DATABASEPROPERTYEX('stock','Recovery'), DATABASEPROPERTYEX('stock','Status'), DATABASEPROPERTYEX('stock','Updateability'), HAS_DBACCESS('stock')", "SIMPLE|ONLINE|READ_WRITE|1"},
		{"SELECT LEFT(@@VERSION,25), @@SERVERNAME, @@SERVICENAME, CASE WHEN @@SPID>50 THEN 1 END", "Microsoft SQL Server 2022|LAB|MSSQLSERVER|1"},
		{"SELECT login_name, is_user_process, open_transaction_count FROM sys.dm_exec_sessions WHERE session_id=@@SPID", "sa|true|0"},
		{"SELECT DATEPART(year,'2026-03-04'), MONTH('2026-03-04'), DATEPART(weekday,'2026-11-22'), DATEDIFF(minute,'2026-01-01 00:00:59','2026-01-01 00:01:00'), DATEDIFF(month,'2026-01-31','2026-02-01')", "2026|3|1|1|1"},
		{"SELECT DATALENGTH(N'abc'), REVERSE('abc'), LTRIM('  a')+'|'+RTRIM('a  ')+'|', CONCAT('a',NULL,1), SPACE(2)+'x', alias = 1", "6|cba|a|a||a1|  x|1"},
		{"SELECT COUNT(DISTINCT customer), AVG(total) FROM orders", "3|63.125000"},
		{"SELECT CAST('2026-01-01' AS datetime)+1, CAST('2026-01-02' AS datetime)-CAST('2026-01-01' AS datetime)", "2026-01-02 00:00:00 +0000 UTC|1900-01-02 00:00:00 +0000 UTC"},
		{"DECLARE @t TABLE (a int, b int); INSERT @t VALUES (1,1); UPDATE @t SET b=b+a; SELECT b FROM @t; RETURN; SELECT 2", "2"},
		{"SELECT is_in_standby, b.name FROM sys.databases d CROSS JOIN (SELECT name FROM sys.schemas) b WHERE d.name=DB_NAME()", "false|dbo"},
		{"SELECT RIGHT(CONVERT(varchar(30),CAST('2026-03-04 05:06:07' AS datetime)),7)", " 5:06AM"},
	} {
		if got := tableOf(t, c, k.text); got != k.want {
			t.Errorf("%s\n got %q\nwant %q", k.text, got, k.want)
		}
	}
	run(t, c, "TRUNCATE TABLE copy", "DROP TABLE IF EXISTS copy, nothing")
	fails(t, c, "SELECT * FROM copy", 208)
}

// The instance's files and its backups are real ones here, and outlive the process.
func TestDirectoryOutlivesTheInstance(t *testing.T) {
	dir, files := t.TempDir(), t.TempDir()
	open := func() *Lab {
		fs, err := filesystem.NewDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		l, err := Start(Options{FS: fs, Sample: true, Path: func(server string) string {
			return filepath.Join(files, path.Base(strings.ReplaceAll(server, `\`, "/")))
		}})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	l := open()
	c := connect(t, l, sa, "")
	run(t, c, "INSERT sales.dbo.customers VALUES (4,'four',NULL)", `BACKUP DATABASE sales TO DISK='C:\Backup\a.bak', DISK='C:\Backup\b.bak'`)
	at := tableOf(t, c, "SELECT CONVERT(varchar(30),GETDATE(),126)")
	run(t, c, "WAITFOR DELAY '00:00:00.020'", "DELETE sales.dbo.customers", `BACKUP LOG sales TO DISK='C:\Backup\log.trn'`)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a.bak", "b.bak", "log.trn"} {
		if info, err := os.Stat(filepath.Join(files, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	l = open()
	defer l.Close()
	c = connect(t, l, sa, "")
	if got := tableOf(t, c, "SELECT COUNT(*), (SELECT COUNT(*) FROM msdb.dbo.backupfile) FROM sales.dbo.customers"); got != "0|4" {
		t.Error(got)
	}
	fails(t, c, `RESTORE DATABASE sales FROM DISK='C:\Backup\a.bak' WITH REPLACE`, 3132, 3013)
	run(t, c, `RESTORE DATABASE sales FROM DISK='C:\Backup\a.bak', DISK='C:\Backup\b.bak' WITH REPLACE, NORECOVERY`,
		`RESTORE LOG sales FROM DISK='C:\Backup\log.trn' WITH STOPAT='`+at+`', RECOVERY`)
	if got := tableOf(t, c, "SELECT COUNT(*) FROM sales.dbo.customers"); got != "4" {
		t.Errorf("rows at %s: %s", at, got)
	}
}
