package backups

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"holdfast/sqlguest/lab/backups/stream"
	"holdfast/sqlguest/lab/storage"
	"holdfast/sqlguest/lab/storage/filesystem"
	"holdfast/sqlguest/lab/storage/message"
	"holdfast/sqlguest/lab/value"
	"holdfast/sqlguest/server"
)

// clock is a server's local time; every look moves it on.
type clock struct {
	mu   sync.Mutex
	now  time.Time
	step time.Duration
}

func (c *clock) look() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(c.step)
	return c.now
}

// bench is a server with one database to work on, and the backups taken of it.
type bench struct {
	t     testing.TB
	s     *Server
	clock *clock
	db    string
	taken []*kept
}

// kept is a backup's streams: all that a restore may use.
type kept struct {
	streams [][]byte
	h       stream.Header
}

func newServer(t testing.TB, seed uint64) (*Server, *clock) {
	t.Helper()
	c := &clock{now: time.Date(2026, 3, 2, 8, 0, 0, 0, time.FixedZone("", 3600)), step: 500 * time.Millisecond}
	s, err := New(Options{FS: &filesystem.Memory{}, Now: c.look, Seed: seed})
	if err != nil {
		t.Fatal(err)
	}
	return s, c
}

func newBench(t testing.TB, seed uint64, m storage.Model) *bench {
	t.Helper()
	s, c := newServer(t, seed)
	if _, err := s.Create(CreateOptions{Name: "sales", Model: m}); err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, s: s, clock: c, db: "sales"}
	b.do(func(tx *storage.Tx) error {
		_, err := tx.CreateTable("t", []value.Column{{Name: "id"}, {Name: "v"}}, "")
		return err
	})
	return b
}

func (b *bench) database() *storage.Database {
	b.t.Helper()
	db, err := b.s.Database(b.db)
	if err != nil {
		b.t.Fatal(err)
	}
	return db
}

// do runs a transaction and commits it.
func (b *bench) do(work func(tx *storage.Tx) error) storage.Commit {
	b.t.Helper()
	tx, err := b.database().Begin(context.Background(), "")
	if err != nil {
		b.t.Fatal(err)
	}
	if err := work(tx); err != nil {
		b.t.Fatal(err)
	}
	c, err := tx.Commit()
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

// insert adds one row and commits.
func (b *bench) insert(id int, text string) storage.Commit {
	b.t.Helper()
	return b.do(func(tx *storage.Tx) error {
		_, err := tx.Insert("t", []any{int64(id), text})
		return err
	})
}

func sinks(n int) ([]Device, []*bytes.Buffer) {
	var devices []Device
	var buffers []*bytes.Buffer
	for i := range n {
		buffers = append(buffers, &bytes.Buffer{})
		devices = append(devices, Device{Name: fmt.Sprintf("{device-%d}", i), W: buffers[i]})
	}
	return devices, buffers
}

// try takes a backup on n devices and completes it.
func (b *bench) try(o BackupOptions, n int) (*kept, []server.Message, error) {
	b.t.Helper()
	if o.Database == "" {
		o.Database = b.db
	}
	devices, buffers := sinks(n)
	run, err := b.s.BeginBackup(context.Background(), o, devices)
	if err != nil {
		return nil, nil, err
	}
	messages, err := run.Complete()
	if err != nil {
		return nil, nil, err
	}
	k := &kept{h: run.Header}
	for _, buf := range buffers {
		k.streams = append(k.streams, buf.Bytes())
	}
	b.taken = append(b.taken, k)
	return k, messages, nil
}

func (b *bench) backup(o BackupOptions) *kept {
	b.t.Helper()
	k, _, err := b.try(o, 1)
	if err != nil {
		b.t.Fatal(err)
	}
	return k
}

func (b *bench) full() *kept { b.t.Helper(); return b.backup(BackupOptions{Kind: Full}) }
func (b *bench) diff() *kept { b.t.Helper(); return b.backup(BackupOptions{Kind: Differential}) }
func (b *bench) log() *kept  { b.t.Helper(); return b.backup(BackupOptions{Kind: Log}) }

// sources are a kept backup's streams as devices to read.
func (k *kept) sources() []Device {
	var out []Device
	for i, b := range k.streams {
		out = append(out, Device{Name: fmt.Sprintf("{source-%d}", i), R: bytes.NewReader(b)})
	}
	return out
}

// restore runs a RESTORE of a kept backup on a server.
func restore(s *Server, k *kept, o RestoreOptions) ([]server.Message, error) {
	if o.Database == "" {
		o.Database = "sales"
	}
	o.Log = k.h.BackupType == stream.TypeLog
	return s.Restore(context.Background(), o, k.sources())
}

// must restores and wants success.
func (b *bench) must(s *Server, k *kept, o RestoreOptions) []server.Message {
	b.t.Helper()
	out, err := restore(s, k, o)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

// refused wants an error of a number, with the cause first and 3013 last.
func refused(t testing.TB, err error, number int32) {
	t.Helper()
	var e *server.Error
	if !errors.As(err, &e) || !e.Has(number) {
		t.Fatalf("want %d, got %v", number, err)
	}
	if n := len(e.All); n < 2 || e.All[n-1].Number != 3013 || e.All[0].Number == 3013 {
		t.Fatalf("messages in the wrong order: %v", e.All)
	}
}

func has(messages []server.Message, number int32) bool {
	return (&server.Outcome{Messages: messages}).Has(number)
}

// rows reads the table as a map.
func rows(t testing.TB, s *Server, name string) map[int64]string {
	t.Helper()
	db, err := s.Database(name)
	if err != nil {
		t.Fatal(err)
	}
	list, err := db.Scan(context.Background(), "t")
	if err != nil {
		if message.Has(err, 208) {
			return nil
		}
		t.Fatal(err)
	}
	out := map[int64]string{}
	for _, r := range list {
		out[r.Values[0].(int64)] = r.Values[1].(string)
	}
	return out
}

// ids wants exactly these rows.
func ids(t testing.TB, s *Server, name string, want ...int) {
	t.Helper()
	got := rows(t, s, name)
	ok := len(got) == len(want)
	for _, id := range want {
		_, there := got[int64(id)]
		ok = ok && there
	}
	if !ok {
		t.Fatalf("rows %v, want %v", got, want)
	}
}

// brokenWriter takes so many bytes and then fails.
type brokenWriter struct{ left int }

func (w *brokenWriter) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, io.ErrClosedPipe
	}
	return len(p), nil
}
