package tsql

import (
	"errors"
	"testing"

	"holdfast/sqlguest/lab/value"
)

// FuzzParse: whatever a client sends, the answer is statements or an error with SQL
// Server's number, never a panic or a loop.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"SELECT TOP (5) a.x, COUNT(*) c FROM d..t AS a LEFT JOIN [b] ON a.id=b.id WHERE x LIKE N'a%' GROUP BY a.x ORDER BY 2 DESC",
		"IF 1=1 BEGIN TRAN x WITH MARK 'd' ELSE ROLLBACK",
		"BACKUP LOG @db TO VIRTUAL_DEVICE=@d, VIRTUAL_DEVICE='x' WITH NORECOVERY, STATS=5",
		"RESTORE DATABASE x FROM DISK='a' WITH MOVE 'a' TO 'b', STOPATMARK='m' AFTER '2020-01-01', STANDBY='u'",
		"ALTER DATABASE x SET SINGLE_USER WITH ROLLBACK IMMEDIATE; CREATE TABLE t (a int PRIMARY KEY, b decimal(5,2) DEFAULT 3)",
		"DECLARE @a int=1,@t TABLE(x int); WHILE @a<3 SET @a+=1; EXEC @r=p @x=1 OUTPUT, y",
		"BEGIN TRY SELECT 1 END TRY BEGIN CATCH THROW END CATCH", "/* /* */ */ -- x\nPRINT 'a''b'", "WITH c AS (SELECT 1 a) SELECT * FROM c", "((((((", "EXEC(", "SELECT x.*, @v=1 FROM (VALUES(1),(2)) v(x)",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		statements, err := Parse(text)
		var e *value.Error
		if err != nil && (!errors.As(err, &e) || e.All[0].Number == 0 || e.All[0].Line < 1) {
			t.Fatalf("%q: %v", text, err)
		}
		for _, s := range statements {
			if at, ok := s.(interface{ At() int32 }); !ok || at.At() < 1 {
				t.Fatalf("%q: statement %T without a line", text, s)
			}
		}
		_, _ = ParseParameters(text)
	})
}
