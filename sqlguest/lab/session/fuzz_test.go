package session

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"holdfast/sqlguest/lab/backups"
	"holdfast/sqlguest/lab/media"
	"holdfast/sqlguest/lab/storage/filesystem"
)

// instance is one without a network, with a table to work on.
func instance(tb testing.TB) *Instance {
	tb.Helper()
	now := func() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }
	fs := &filesystem.Memory{}
	srv, err := backups.New(backups.Options{FS: fs, Now: now})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = srv.Close() })
	l := New(Options{Server: func() *backups.Server { return srv }, Now: now, Started: now, Edition: "Developer Edition (64-bit)",
		Media:  func() media.Options { return media.Options{FS: fs} },
		Volume: func(string) (string, int64, int64, string) { return `C:\`, 1, 2, "NTFS" }, Log: slog.New(slog.DiscardHandler)})
	if _, err := srv.Create(backups.CreateOptions{Name: "master"}); err != nil {
		tb.Fatal(err)
	}
	if err := l.Run(context.Background(), "CREATE TABLE t (a INT PRIMARY KEY, b NVARCHAR(50), c DATETIME, d DECIMAL(9,2), e UNIQUEIDENTIFIER, f VARBINARY(9), g BIT); INSERT t VALUES (1,'x',0,1.5,NEWID(),0x01,1),(2,NULL,NULL,NULL,NULL,NULL,NULL)"); err != nil {
		tb.Fatal(err)
	}
	return l
}

// FuzzRun: no text makes the server fall over, whatever the types that meet in it.
func FuzzRun(f *testing.F) {
	for _, text := range []string{
		"SELECT a+b, c-1, d*2, e, f+0x02, ~g FROM t WHERE g=1 AND b LIKE '%' ESCAPE '!'",
		"SELECT COUNT(*), SUM(d), MAX(c), MIN(e), AVG(a) FROM t GROUP BY g HAVING COUNT(*)>0 ORDER BY 1",
		"SELECT CASE WHEN a=1 THEN c ELSE d END, CAST(f AS int), CONVERT(varchar(30),c,126), IIF(a>1,b,e) FROM t",
		"SELECT 1 WHERE (1=1)=1", "SELECT NOT 1", "SELECT MAX(g), ISNULL(c,b), COALESCE(f,e) FROM t",
		"UPDATE t SET b=d, d=a, g=c WHERE a IN (SELECT a FROM t)", "INSERT t SELECT a+10,e,c,d,e,f,g FROM t", "DELETE t WHERE EXISTS (SELECT 1 FROM t x WHERE x.a=t.a)",
		"DECLARE @x sql_variant = SERVERPROPERTY('x'), @d date='2020-01-01'; SELECT @x, @d, DATEDIFF(day,@d,GETDATE()), DATEADD(year,9999,@d)",
		"SELECT x.* FROM t CROSS APPLY (SELECT TOP 1 b FROM t y WHERE y.a=t.a) x JOIN (VALUES (1,'a'),(2,NULL)) v(p,q) ON v.p=x.b",
		"BACKUP DATABASE master TO DISK='a'; RESTORE HEADERONLY FROM DISK='a'; BEGIN TRAN; SAVE TRAN x; ROLLBACK", "EXEC sp_executesql N'SELECT @a', N'@a float', @a='x'",
		"SELECT SUBSTRING('abc',-1,99999999999), LEFT(b,a), REPLICATE('x',-1), QUOTENAME(b,'('), CHARINDEX('',b,5), STUFF(b,1,1,'') FROM t",
		"SELECT -9223372036854775807-1, CAST(1e300 AS int), 1%0, CAST(-1 AS tinyint), ABS(-2147483648)",
	} {
		f.Add(text)
	}
	l := instance(f)
	f.Fuzz(func(t *testing.T, text string) {
		upper := strings.ToUpper(text)
		if strings.Contains(upper, "WAITFOR") || strings.Contains(upper, "WHILE") || strings.Contains(upper, "REPLICATE") {
			return // a loop is no finding
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_ = l.Run(ctx, text)
	})
}
