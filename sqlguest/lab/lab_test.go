package lab

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"

	mssql "github.com/microsoft/go-mssqldb"
)

// start starts an instance for one test; its clock stands where it is put.
func start(t *testing.T, opt Options) *Lab {
	t.Helper()
	l, err := Start(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func connect(t *testing.T, l *Lab, login Login, database string) *sql.DB {
	t.Helper()
	u := url.URL{Scheme: "sqlserver", User: url.UserPassword(login.Name, login.Password), Host: l.Address(),
		RawQuery: url.Values{"encrypt": {"false"}, "TrustServerCertificate": {"true"}, "database": {database}}.Encode()}
	db, err := sql.Open("sqlserver", u.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

var sa = Login{Name: "sa"}

// one is a session that stays the same.
func one(t *testing.T, l *Lab) *sql.Conn {
	t.Helper()
	c, err := connect(t, l, sa, "").Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// table writes a query's rows as lines of values with | between them.
func tableOf(t *testing.T, q queryer, text string, args ...any) string {
	t.Helper()
	got, err := rowsOf(t.Context(), q, text, args...)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return got
}

func rowsOf(ctx context.Context, q queryer, text string, args ...any) (string, error) {
	rows, err := q.QueryContext(ctx, text, args...)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return "", err
	}
	var lines []string
	for rows.Next() {
		values, to := make([]any, len(names)), make([]any, len(names))
		for i := range values {
			to[i] = &values[i]
		}
		if err := rows.Scan(to...); err != nil {
			return "", err
		}
		var parts []string
		for _, v := range values {
			if b, ok := v.([]byte); ok {
				v = string(b)
			}
			parts = append(parts, fmt.Sprint(v))
		}
		lines = append(lines, strings.Join(parts, "|"))
	}
	return strings.Join(lines, "\n"), rows.Err()
}

// run runs statements that must succeed.
func run(t *testing.T, q queryer, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if _, err := q.ExecContext(t.Context(), text); err != nil {
			t.Fatalf("%s: %v", text, all(err))
		}
	}
}

// all writes every message of an error.
func all(err error) string {
	var e mssql.Error
	if !errors.As(err, &e) {
		return fmt.Sprint(err)
	}
	var parts []string
	for _, m := range e.All {
		parts = append(parts, fmt.Sprintf("%d %s", m.Number, m.Message))
	}
	return strings.Join(parts, "; ")
}

// fails runs a statement that must fail with these numbers, in order.
func fails(t *testing.T, q queryer, text string, numbers ...int32) {
	t.Helper()
	_, err := rowsOf(t.Context(), q, text)
	var e mssql.Error
	if !errors.As(err, &e) {
		t.Errorf("%s: got %v, want %v", text, err, numbers)
		return
	}
	var got []int32
	for _, m := range e.All {
		got = append(got, m.Number)
	}
	if fmt.Sprint(got) != fmt.Sprint(numbers) {
		t.Errorf("%s: got %s, want %v", text, all(err), numbers)
	}
}

func demand(t *testing.T, reason string) {
	t.Helper()
	if os.Getenv("HOLDFAST_DEMAND_PARTS") == "1" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}

func TestSelect(t *testing.T) {
	db := connect(t, start(t, Options{Sample: true}), sa, "sales")
	for _, c := range []struct{ text, want string }{
		{"SELECT 1 AS a, N'x' AS b, NULL AS c", "1|x|<nil>"},
		{"SELECT 7/2, 7%2, 7.0/2, 1+2*3, -(3), 'a'+'b'", "3|1|3.500000|7|-3|ab"},
		{"SELECT name FROM customers WHERE id>1 ORDER BY id DESC", "東京商事\nO'Hara"},
		{"SELECT TOP 2 id FROM dbo.customers ORDER BY name", "1\n2"},
		{"SELECT TOP (1) id FROM sales.dbo.customers c ORDER BY c.id DESC", "3"},
		{"SELECT COUNT(*), SUM(total), MIN(id), MAX(id) FROM orders", "100|6312.50|1|100"},
		{"SELECT customer, COUNT(*) n FROM orders GROUP BY customer HAVING COUNT(*)>33 ORDER BY n DESC, customer", "2|34"},
		{"SELECT c.name, COUNT(o.id) FROM customers c LEFT JOIN orders o ON o.customer=c.id AND o.id<3 GROUP BY c.name ORDER BY 2 DESC, 1", "O'Hara|1\n東京商事|1\nGrünwald & Söhne|0"},
		{"SELECT DISTINCT customer FROM orders ORDER BY customer", "1\n2\n3"},
		{"SELECT id FROM customers WHERE since IS NULL UNION ALL SELECT 9 ORDER BY id", "3\n9"},
		{"SELECT 1 UNION SELECT 1", "1"},
		{"SELECT CASE WHEN id=1 THEN 'one' ELSE 'more' END FROM customers WHERE id<3", "one\nmore"},
		{"SELECT id FROM customers c WHERE EXISTS (SELECT 1 FROM orders o WHERE o.customer=c.id AND o.total>124)", "2"},
		{"SELECT id FROM customers WHERE id IN (SELECT customer FROM orders WHERE id<=2) AND id NOT IN (3)", "2"},
		{"SELECT c.id, x.n FROM customers c CROSS APPLY (SELECT TOP 1 o.id n FROM orders o WHERE o.customer=c.id ORDER BY o.id) x ORDER BY 1", "1|3\n2|1\n3|2"},
		{"SELECT c.id, x.n FROM customers c OUTER APPLY (SELECT TOP 1 o.id n FROM orders o WHERE o.customer=c.id AND o.id=2) x ORDER BY 1", "1|<nil>\n2|<nil>\n3|2"},
		{"SELECT d.n+1 FROM (SELECT id*10 AS n FROM customers) AS d WHERE d.n BETWEEN 10 AND 20", "11\n21"},
		{"SELECT a.x FROM (VALUES (1,'a'),(2,'b')) AS a(x,y) WHERE y='B'", "2"},
		{"WITH big AS (SELECT id FROM orders WHERE total>120) SELECT COUNT(*) FROM big", "4"},
		{"SELECT (SELECT MAX(id) FROM orders)", "100"},
		{"SELECT name FROM customers WHERE name LIKE N'%[^a-z]Hara' OR name LIKE 'G_ün%'", "Grünwald & Söhne\nO'Hara"},
		{"SELECT CONVERT(varchar(26), CONVERT(numeric(25,0), '15000000040000037'))", "15000000040000037"},
		{"SELECT CONVERT(varchar(30), CAST('2026-03-04T05:06:07' AS datetime), 126), CONVERT(varchar(8), CAST('2026-03-04' AS datetime), 112)", "2026-03-04T05:06:07|20260304"},
		{"SELECT CONVERT(varchar(10), 0x01AF, 1), CONVERT(varbinary(2), '0x01AF', 1)", "0x01AF|\x01\xaf"},
		{"SELECT ISNULL(NULL,5), COALESCE(NULL,NULL,'z'), NULLIF(1,1), IIF(1=1,'y','n')", "5|z|<nil>|y"},
		{"SELECT LEN('ab  '), LEFT('hello',2), RIGHT('hello',2), SUBSTRING('hello',2,3), REPLACE('aXa','x','-'), UPPER('ü'), CHARINDEX('l','hello')", "2|he|lo|ell|a-a|Ü|3"},
		{"SELECT QUOTENAME('a]b'), QUOTENAME('x','''')", "[a]]b]|'x'"},
		{"SELECT DATEDIFF(day,'2026-01-01','2026-03-01'), DATEADD(month,1,CAST('2026-01-31' AS date))", "59|2026-02-28 00:00:00 +0000 UTC"},
		{"SELECT 1 WHERE NULL=NULL", ""},
		{"SELECT c.* FROM customers AS c WITH (NOLOCK) WHERE c.id=2 AND NOT c.id<>2 -- a comment\n/* and /* nested */ one */", "2|O'Hara|2021-11-30 00:00:00 +0000 UTC"},
		{"SELECT TRY_CONVERT(int,'x'), CAST('12' AS int)+1, CAST(1.5 AS int), 5 & 3, 5 | 2", "<nil>|13|1|1|7"},
		{"SELECT [name] AS [a name] FROM [sales].[dbo].\"customers\" WHERE id=1", "Grünwald & Söhne"},
		{"SELECT text FROM [it's, ünï].dbo.notes WHERE id=1", "a name with ' and , and ü"},
		{"SELECT b.id FROM customers a RIGHT JOIN (VALUES (1),(77)) b(id) ON a.id=b.id ORDER BY 1", "1\n77"},
	} {
		if got := tableOf(t, db, c.text); got != c.want {
			t.Errorf("%s\n got %q\nwant %q", c.text, got, c.want)
		}
	}
}

func TestErrorsHaveSQLServersNumbers(t *testing.T) {
	db := connect(t, start(t, Options{Sample: true}), sa, "sales")
	for text, number := range map[string]int32{
		"SELECT FROM customers": 156,
		"SELECT 1 +":            102,
		"SELECT 'x":             105,
		"SELECT nothing FROM customers WHERE 1=0": 207,
		"SELECT * FROM nothing":                   208,
		"SELECT x.id FROM customers c":            4104,
		"SELECT id FROM customers a, customers b": 209,
		"SELECT @x":                                     137,
		"SELECT 1/0":                                    8134,
		"SELECT CAST('x' AS int)":                       245,
		"SELECT CAST(300 AS tinyint)":                   8115,
		"SELECT name FROM customers GROUP BY id":        8120,
		"SELECT nofunction(1)":                          195,
		"USE nowhere":                                   911,
		"CREATE TABLE customers (a int)":                2714,
		"DROP TABLE nothing":                            3701,
		"CREATE DATABASE sales":                         1801,
		"DROP DATABASE sales":                           3702,
		"DROP DATABASE master":                          3708,
		"INSERT INTO customers VALUES (1,'again',NULL)": 2627,
		"INSERT INTO customers (id) VALUES (5)":         515,
		"INSERT INTO stock.dbo.items (id,name) VALUES (9,REPLICATE('x',101))": 2628,
		"INSERT INTO customers (id,name) VALUES (1)":                          109,
		"INSERT INTO orders (id,customer,total) VALUES (1,1,1)":               544,
		"UPDATE sys.databases SET name='x'":                                   259,
		"COMMIT TRAN":                                                         3902,
		"ROLLBACK TRAN":                                                       3903,
		"EXEC sp_nothing":                                                     2812,
		"SELECT (SELECT id FROM customers)":                                   512,
		"SELECT id FROM customers UNION ALL SELECT 1,2":                       205,
		"THROW 50001, 'own', 1":                                               50001,
		"RAISERROR('number %d of %s', 16, 1, 5, 'five')":                      50000,
		"SAVE TRAN x":                                                         40510,
		"KILL 9999":                                                           6106,
	} {
		fails(t, db, text, number)
	}
	var e mssql.Error
	if _, err := db.ExecContext(t.Context(), "RAISERROR('number %d of %s', 16, 1, 5, 'five')"); !errors.As(err, &e) || e.Message != "number 5 of five" {
		t.Errorf("RAISERROR's text: %v", err)
	}
}

func TestChangesVariablesAndFlow(t *testing.T) {
	c := one(t, start(t, Options{Sample: true}))
	run(t, c, "USE sales", "CREATE TABLE t (a INT PRIMARY KEY, b NVARCHAR(20) NULL, c DATETIME NOT NULL DEFAULT GETDATE(), d UNIQUEIDENTIFIER DEFAULT NEWID())",
		"INSERT INTO t (a,b) VALUES (1,'x'),(2,'y')", "INSERT INTO t (a,b) SELECT id+10, name FROM customers WHERE id<3",
		"UPDATE t SET b=b+'!' WHERE a<10", "UPDATE x SET b=cu.name FROM t x JOIN customers cu ON cu.id+10=x.a WHERE cu.id=1", "DELETE FROM t WHERE a=12", "DELETE TOP (1) FROM t WHERE a=2")
	if got := tableOf(t, c, "SELECT a,b FROM t ORDER BY a"); got != "1|x!\n11|Grünwald & Söhne" {
		t.Error(got)
	}
	for _, k := range []struct{ text, want string }{
		{"DECLARE @a int = 2, @s nvarchar(max) = N''; WHILE @a<6 BEGIN SET @a += 1; IF @a=4 CONTINUE; IF @a=6 BREAK ELSE SET @s = @s + CAST(@a AS varchar(5)) END; SELECT @s, @a", "35|6"},
		{"DECLARE @n int, @m int; SELECT @n = COUNT(*), @m = MAX(id) FROM customers; SELECT @n, @m, @@ROWCOUNT", "3|3|1"},
		{"BEGIN TRY SELECT CAST('x' AS int) END TRY BEGIN CATCH SELECT ERROR_NUMBER(), ERROR_MESSAGE() END CATCH", "245|Conversion failed when converting the varchar value 'x' to data type int."},
		{"BEGIN TRY BEGIN TRY RAISERROR('in',16,1) END TRY BEGIN CATCH THROW END CATCH END TRY BEGIN CATCH SELECT ERROR_MESSAGE() END CATCH", "in"},
		{"DECLARE @r int; EXEC sp_executesql N'SELECT @o = @i * 2', N'@i int, @o int OUTPUT', @i = 21, @o = @r OUTPUT; SELECT @r", "42"},
		{"EXEC('SELECT 5')", "5"},
		{"DECLARE @t TABLE (x int, y varchar(5)); INSERT @t VALUES (1,'a'),(2,'b'); DELETE FROM @t WHERE x=1; SELECT * FROM @t", "2|b"},
		{"IF EXISTS (SELECT 1 FROM sys.tables WHERE name='t') SELECT 'yes' ELSE SELECT 'no'", "yes"},
		{"SELECT 1/0; SELECT @@ERROR", "8134"},
		{"SELECT OBJECT_ID('dbo.nothing'), CASE WHEN OBJECT_ID('[sales].dbo.[customers]') IS NULL THEN 0 ELSE 1 END", "<nil>|1"},
	} {
		got, err := rowsOf(t.Context(), c, k.text)
		if k.want == "8134" {
			var e mssql.Error
			if !errors.As(err, &e) || e.Number != 8134 {
				t.Errorf("%s: %v", k.text, err)
			}
			continue
		}
		if err != nil || got != k.want {
			t.Errorf("%s\n got %q %v\nwant %q", k.text, got, err, k.want)
		}
	}
}

func TestTransactions(t *testing.T) {
	l := start(t, Options{Sample: true})
	a, b := one(t, l), one(t, l)
	run(t, a, "USE sales", "BEGIN TRAN", "INSERT INTO customers VALUES (4,'new',NULL)")
	if got := tableOf(t, a, "SELECT COUNT(*), @@TRANCOUNT FROM customers"); got != "4|1" {
		t.Errorf("own change: %s", got)
	}
	run(t, b, "USE sales", "SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED")
	if got := tableOf(t, b, "SELECT COUNT(*) FROM customers"); got != "4" {
		t.Errorf("read uncommitted: %s", got)
	}
	run(t, a, "ROLLBACK")
	if got := tableOf(t, b, "SELECT COUNT(*) FROM customers"); got != "3" {
		t.Errorf("after rollback: %s", got)
	}
	fails(t, a, "INSERT INTO customers VALUES (7,'kept?',NULL),(1,'twice',NULL)", 2627)
	if got := tableOf(t, a, "SELECT COUNT(*) FROM customers"); got != "3" {
		t.Errorf("half a statement stayed: %s", got)
	}
	tx, err := a.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(t.Context(), "INSERT INTO sales.dbo.customers VALUES (5,'five',NULL)"); err != nil {
		t.Fatal(err)
	}
	fails(t, txQueryer{tx}, "BACKUP DATABASE sales TO DISK='NUL'", 3021, 3013)
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	run(t, a, "SET XACT_ABORT ON")
	fails(t, a, "BEGIN TRAN; DELETE FROM sales.dbo.customers; SELECT 1/0; SELECT 2", 8134)
	if got := tableOf(t, a, "SELECT COUNT(*), @@TRANCOUNT FROM sales.dbo.customers"); got != "4|0" {
		t.Errorf("XACT_ABORT: %s", got)
	}
}

type txQueryer struct{ *sql.Tx }

func TestMarkedTransactionIsInTheHistory(t *testing.T) {
	c := one(t, start(t, Options{Sample: true}))
	run(t, c, "BEGIN TRAN deploy WITH MARK 'before the release'; UPDATE sales.dbo.customers SET since=NULL; COMMIT TRAN deploy")
	if got := tableOf(t, c, "SELECT database_name, mark_name, description, user_name FROM msdb.dbo.logmarkhistory"); got != "sales|deploy|before the release|sa" {
		t.Error(got)
	}
}
