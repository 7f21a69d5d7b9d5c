package tds

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"database/sql"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	mssql "github.com/microsoft/go-mssqldb"

	"holdfast/sqlguest/lab/value"
)

// echo is a handler that answers by the text of a batch: just enough to see every
// token on the wire.
type echo struct {
	resets, begun, committed, rolledBack, stopped atomic.Int32
	waiting                                       chan struct{} // "run wait" has begun
	ended                                         chan struct{} // a session was closed
}

func (e *echo) Login(_ context.Context, l *Login, _ net.Addr) (Session, error) {
	if l.User != "sa" || l.Password != "pässword" {
		return nil, value.Severe(18456, 14, "Login failed for user '%s'.", l.User)
	}
	return &echoSession{e}, nil
}

type echoSession struct{ e *echo }

func (s *echoSession) ID() uint16       { return 51 }
func (s *echoSession) Database() string { return "master" }
func (s *echoSession) Close() {
	select {
	case s.e.ended <- struct{}{}:
	default:
	}
}

func (s *echoSession) Reset(context.Context, *Writer) { s.e.resets.Add(1) }

func (s *echoSession) Transaction(_ context.Context, r TransactionRequest, w *Writer) error {
	switch r.Kind {
	case TransactionBegin:
		s.e.begun.Add(1)
		w.Begun(7)
	case TransactionCommit:
		s.e.committed.Add(1)
		w.Committed(7)
	case TransactionRollback:
		s.e.rolledBack.Add(1)
		w.RolledBack(7)
	}
	return nil
}

// Call answers sp_executesql with its parameters as one row.
func (s *echoSession) Call(_ context.Context, c *Call, w *Writer) (int32, error) {
	if c.Name != "sp_executesql" {
		for i := range c.Params {
			if c.Params[i].Output {
				c.Params[i].Value = int64(42)
			}
		}
		return 5, nil
	}
	var columns []value.Column
	var row []any
	for _, p := range c.Params[2:] {
		columns = append(columns, value.Column{Name: p.Name, Type: p.Type})
		row = append(row, p.Value)
	}
	w.Columns(columns)
	w.Row(row)
	w.Count(1)
	return 0, nil
}

func (s *echoSession) Batch(ctx context.Context, text string, w *Writer) error {
	switch text {
	case "run types":
		columns, row := allTypes()
		w.Columns(columns)
		w.Row(row)
		w.Row(make([]any, len(columns)))
		w.Count(2)
	case "run fail":
		return &value.Error{All: []value.Message{
			{Number: 4214, Class: 16, State: 1, Text: "BACKUP LOG cannot be performed because there is no current database backup.", Line: 3},
			{Number: 3013, Class: 16, State: 1, Text: "BACKUP LOG is terminating abnormally.", Line: 3}}}
	case "run wait":
		w.Message(value.Message{Number: 3211, State: 1, Text: "10 percent processed."})
		s.e.waiting <- struct{}{}
		<-ctx.Done()
		s.e.stopped.Add(1)
		return ctx.Err()
	case "run long":
		w.Columns([]value.Column{{Name: "v", Type: value.Text(value.Max)}})
		for range 50 {
			w.Row([]any{strings.Repeat("ü☃", 5000)})
		}
		w.Count(50)
	default:
		w.Columns([]value.Column{{Name: "text", Type: value.Text(4000)}})
		w.Row([]any{text})
		w.Count(1)
	}
	return nil
}

var someTime = time.Date(2026, 11, 22, 13, 14, 15, 123456700, time.UTC)

func allTypes() ([]value.Column, []any) {
	lsn, _ := value.ParseNumber("15000000040000037")
	guid, _ := value.ParseGUID("40700425-0080-11D2-851F-00C04FC21759")
	var columns []value.Column
	var row []any
	add := func(name string, t value.Type, v any) {
		columns, row = append(columns, value.Column{Name: name, Type: t}), append(row, v)
	}
	add("text", value.Text(20), "it's, ünï ☃")
	add("max", value.Text(value.Max), strings.Repeat("x", 9000))
	add("tiny", value.Type{Kind: value.TinyInt}, int64(200))
	add("small", value.Type{Kind: value.SmallInt}, int64(-3))
	add("int", value.Type{Kind: value.Int}, int64(-70000))
	add("big", value.Type{Kind: value.BigInt}, int64(1)<<60)
	add("bit", value.Type{Kind: value.Bit}, true)
	add("float", value.Type{Kind: value.Float}, 1.5)
	add("lsn", value.LSN, lsn)
	add("guid", value.Type{Kind: value.UniqueIdentifier}, guid)
	add("bytes", value.Type{Kind: value.VarBinary, Size: 10}, []byte{0, 1, 254})
	add("maxbytes", value.Type{Kind: value.VarBinary, Size: value.Max}, []byte{7})
	add("datetime", value.Type{Kind: value.DateTime}, value.Truncate(someTime, value.Type{Kind: value.DateTime}))
	add("datetime2", value.Type{Kind: value.DateTime2, Scale: 7}, someTime)
	add("offset", value.Type{Kind: value.DateTimeOffset, Scale: 7}, someTime.In(time.FixedZone("", -5*3600)))
	add("date", value.Type{Kind: value.Date}, time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC))
	add("variant", value.Type{Kind: value.Variant}, "16.0.1000.6")
	return columns, row
}

// certificate makes one for loopback.
func certificate(t *testing.T) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "lab"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func serve(t *testing.T, e Encryption) (*echo, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &echo{waiting: make(chan struct{}, 1), ended: make(chan struct{}, 1)}
	s := NewServer(Options{Handler: h, Encryption: e, Certificate: certificate(t), Version: [4]byte{16, 0, 3, 232}})
	done := make(chan error, 1)
	go func() { done <- s.Serve(t.Context(), l) }()
	t.Cleanup(func() {
		_ = l.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return h, l.Addr().String()
}

func dsn(address, password, encrypt string) string {
	u := url.URL{Scheme: "sqlserver", User: url.UserPassword("sa", password), Host: address,
		RawQuery: url.Values{"encrypt": {encrypt}, "TrustServerCertificate": {"true"}, "dial timeout": {"5"}}.Encode()}
	return u.String()
}

func open(t *testing.T, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlserver", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func TestEveryEncryptionSettingOfServerAndClient(t *testing.T) {
	for _, e := range []Encryption{EncryptLogin, EncryptAll, EncryptNone, EncryptMust} {
		_, address := serve(t, e)
		for _, client := range []string{"disable", "false", "true"} {
			t.Run(fmt.Sprintf("%d %s", e, client), func(t *testing.T) {
				var got string
				err := open(t, dsn(address, "pässword", client)).QueryRowContext(t.Context(), "hello ü").Scan(&got)
				refused := e == EncryptMust && client == "disable" || e == EncryptNone && client == "true"
				if refused != (err != nil) {
					t.Fatalf("refused: want %v, got %v", refused, err)
				}
				if !refused && got != "hello ü" {
					t.Errorf("got %q", got)
				}
			})
		}
	}
}

func TestWrongPasswordIs18456(t *testing.T) {
	_, address := serve(t, EncryptLogin)
	err := open(t, dsn(address, "wrong", "false")).PingContext(t.Context())
	var e mssql.Error
	if !errors.As(err, &e) || e.Number != 18456 || e.Class != 14 {
		t.Fatalf("got %v", err)
	}
}

func TestAllTypesArriveAndSoDoNulls(t *testing.T) {
	_, address := serve(t, EncryptLogin)
	rows, err := open(t, dsn(address, "pässword", "false")).QueryContext(t.Context(), "run types")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, want := allTypes()
	n := 0
	for ; rows.Next(); n++ {
		got := make([]any, len(columns))
		to := make([]any, len(columns))
		for i := range got {
			to[i] = &got[i]
		}
		if err := rows.Scan(to...); err != nil {
			t.Fatal(err)
		}
		for i, c := range columns {
			if n == 1 {
				if got[i] != nil {
					t.Errorf("%s: NULL arrived as %v", c.Name, got[i])
				}
				continue
			}
			if !same(got[i], want[i]) {
				t.Errorf("%s: got %v (%T), want %v", c.Name, got[i], got[i], want[i])
			}
		}
	}
	if err := rows.Err(); err != nil || n != 2 {
		t.Fatalf("%d rows, %v", n, err)
	}
}

// same compares what the driver made of a value with the value.
func same(got, want any) bool {
	switch w := want.(type) {
	case time.Time:
		g, ok := got.(time.Time)
		return ok && g.Equal(w)
	case value.Number:
		return fmt.Sprintf("%s", got) == w.String()
	case value.GUID:
		b, ok := got.([]byte)
		var u mssql.UniqueIdentifier
		return ok && u.Scan(b) == nil && u.String() == w.String()
	case []byte:
		b, ok := got.([]byte)
		return ok && string(b) == string(w)
	}
	return got == want
}

func TestParametersComeBackAsTheyWere(t *testing.T) {
	_, address := serve(t, EncryptLogin)
	db := open(t, dsn(address, "pässword", "false"))
	at := time.Date(2026, 3, 4, 5, 6, 7, 800, time.FixedZone("", 3600))
	long := strings.Repeat("é", 5000)
	var s, l string
	var i int64
	var b bool
	var f float64
	var raw []byte
	var when time.Time
	var null sql.NullString
	err := db.QueryRowContext(t.Context(), "run echo", sql.Named("s", "it's"), sql.Named("l", long), sql.Named("i", int64(-5)), sql.Named("b", true),
		sql.Named("f", 2.25), sql.Named("raw", []byte{1, 2}), sql.Named("when", at), sql.Named("null", sql.NullString{})).
		Scan(&s, &l, &i, &b, &f, &raw, &when, &null)
	if err != nil {
		t.Fatal(err)
	}
	if s != "it's" || l != long || i != -5 || !b || f != 2.25 || string(raw) != "\x01\x02" || !when.Equal(at) || null.Valid {
		t.Errorf("got %q %d %v %v %v %v %v", s, i, b, f, raw, when, null)
	}
}

func TestBothErrorsOfAStatementArriveTogether(t *testing.T) {
	_, address := serve(t, EncryptLogin)
	_, err := open(t, dsn(address, "pässword", "false")).ExecContext(t.Context(), "run fail")
	var e mssql.Error
	if !errors.As(err, &e) || len(e.All) != 2 || e.All[0].Number != 4214 || e.All[1].Number != 3013 || e.All[0].LineNo != 3 {
		t.Fatalf("got %#v", err)
	}
}

func TestCancelStopsTheStatementAndKeepsTheConnection(t *testing.T) {
	h, address := serve(t, EncryptLogin)
	db := open(t, dsn(address, "pässword", "false"))
	db.SetMaxOpenConns(1)
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		<-h.waiting
		cancel()
	}()
	if _, err := conn.ExecContext(ctx, "run wait"); err == nil {
		t.Fatal("no error")
	}
	var got string
	if err := conn.QueryRowContext(t.Context(), "run after").Scan(&got); err != nil || got != "run after" {
		t.Fatalf("the connection is lost: %v", err)
	}
	if h.stopped.Load() != 1 {
		t.Error("the statement was not stopped")
	}
}

func TestTransactionsResetsAndTheEndOfASession(t *testing.T) {
	h, address := serve(t, EncryptLogin)
	db := open(t, dsn(address, "pässword", "false"))
	db.SetMaxOpenConns(1)
	for _, commit := range []bool{true, false} {
		tx, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if commit {
			err = tx.Commit()
		} else {
			err = tx.Rollback()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if h.begun.Load() != 2 || h.committed.Load() != 1 || h.rolledBack.Load() != 1 {
		t.Errorf("begun %d, committed %d, rolled back %d", h.begun.Load(), h.committed.Load(), h.rolledBack.Load())
	}
	if h.resets.Load() == 0 {
		t.Error("a connection from the pool was not reset")
	}
}

func TestLongAnswersAreSplitIntoPackets(t *testing.T) {
	_, address := serve(t, EncryptAll)
	rows, err := open(t, dsn(address, "pässword", "true")).QueryContext(t.Context(), "run long")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	n := 0
	for ; rows.Next(); n++ {
		var s string
		if err := rows.Scan(&s); err != nil || s != strings.Repeat("ü☃", 5000) {
			t.Fatalf("row %d: %d characters, %v", n, len(s), err)
		}
	}
	if n != 50 || rows.Err() != nil {
		t.Errorf("%d rows, %v", n, rows.Err())
	}
}

func TestProcedureGivesStatusAndOutput(t *testing.T) {
	_, address := serve(t, EncryptLogin)
	var out int64
	var status mssql.ReturnStatus
	_, err := open(t, dsn(address, "pässword", "false")).ExecContext(t.Context(), "sp_something", sql.Named("x", sql.Out{Dest: &out}), &status)
	if err != nil || out != 42 || status != 5 {
		t.Fatalf("output %d, status %d, %v", out, status, err)
	}
}

// keep is a dialer that remembers its last connection.
type keep struct{ last net.Conn }

func (k *keep) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, network, address)
	k.last = c
	return c, err
}

func TestCutConnectionStopsTheStatement(t *testing.T) {
	h, address := serve(t, EncryptLogin)
	connector, err := mssql.NewConnector(dsn(address, "pässword", "false"))
	if err != nil {
		t.Fatal(err)
	}
	k := &keep{}
	connector.Dialer = k
	conn, err := sql.OpenDB(connector).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	failed := make(chan error, 1)
	go func() {
		_, err := conn.ExecContext(t.Context(), "run wait")
		failed <- err
	}()
	<-h.waiting
	if err := k.last.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; err == nil {
		t.Error("no error")
	}
	<-h.ended // only a statement that was stopped lets its session close
	if h.stopped.Load() != 1 {
		t.Error("the statement was not stopped")
	}
}
