package storage

import (
	"context"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"holdfast/sqlguest/lab/storage/filesystem"
	"holdfast/sqlguest/lab/storage/message"
	"holdfast/sqlguest/lab/storage/page"
	"holdfast/sqlguest/lab/value"
	"holdfast/sqlguest/lsn"
)

// machine is an Env of memory, a clock that goes on by a second a look, and GUIDs
// by seed.
func machine(seed uint64) (Env, *filesystem.Memory) {
	fs := &filesystem.Memory{}
	r := rand.New(rand.NewPCG(seed, 1))
	now := time.Date(2026, 3, 1, 8, 0, 0, 0, time.FixedZone("", 3600))
	return Env{FS: fs,
		Now: func() time.Time { now = now.Add(time.Second); return now },
		GUID: func() (g value.GUID) {
			for i := range g {
				g[i] = byte(r.Uint32())
			}
			return g
		}}, fs
}

func create(t testing.TB, env Env, m Model) *Database {
	t.Helper()
	db, err := Create(env, CreateOptions{Name: "sales", ID: 5, Model: m,
		Data: []File{{Logical: "sales", Physical: `C:\Data\sales.mdf`}}, Log: File{Logical: "sales_log", Physical: `C:\Data\sales.ldf`}})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

var columns = []value.Column{{Name: "id", Type: value.Type{Kind: value.Int}}, {Name: "name", Type: value.Type{Kind: value.NVarChar, Size: 100}, Nullable: true}}

func begin(t testing.TB, db *Database) *Tx {
	t.Helper()
	tx, err := db.Begin(context.Background(), "")
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestEveryValueComesBackFromItsPage(t *testing.T) {
	env, _ := machine(1)
	db := create(t, env, Full)
	number, _ := value.ParseNumber("-12.340")
	row := []any{nil, true, false, int64(-7), 1.5, "ünï", []byte{0, 1}, value.GUID{1, 2}, number,
		time.Date(2026, 2, 3, 4, 5, 6, 700, time.UTC), time.Date(2026, 2, 3, 4, 5, 6, 7, time.FixedZone("", -5400))}
	tx := begin(t, db)
	must[Table](t)(tx.CreateTable("all", columns, "note"))
	must[RowID](t)(tx.Insert("ALL", row))
	must[Commit](t)(tx.Commit())
	got := must[[]Row](t)(db.Scan(context.Background(), "all"))
	if len(got) != 1 || len(got[0].Values) != len(row) {
		t.Fatalf("rows: %v", got)
	}
	for i, v := range got[0].Values {
		if a, ok := v.(time.Time); ok {
			if !a.Equal(row[i].(time.Time)) {
				t.Errorf("value %d: %v, want %v", i, a, row[i])
			}
		} else if !reflect.DeepEqual(v, row[i]) {
			t.Errorf("value %d: %v, want %v", i, v, row[i])
		}
	}
}

// TestCrashKeepsCommittedAndUndoesTheRest runs random transactions against a map,
// takes crash copies of the files in the middle of them and opens the copies.
func TestCrashKeepsCommittedAndUndoesTheRest(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 2))
		env, fs := machine(seed)
		db := create(t, env, Model(1+r.IntN(3)))
		tx := begin(t, db)
		must[Table](t)(tx.CreateTable("t", columns, ""))
		must[Commit](t)(tx.Commit())
		oracle := map[int64]string{}
		for range 12 {
			work := map[int64]string{}
			for k, v := range oracle {
				work[k] = v
			}
			tx := begin(t, db)
			crash := r.IntN(12)
			for step := range 12 {
				writeSomething(t, r, tx, work)
				if step == crash {
					checkCopy(t, env, fs, oracle)
				}
			}
			if r.IntN(3) == 0 {
				if err := tx.Rollback(); err != nil {
					t.Fatal(err)
				}
			} else {
				must[Commit](t)(tx.Commit())
				oracle = work
			}
			if r.IntN(4) == 0 {
				if err := db.Checkpoint(); err != nil {
					t.Fatal(err)
				}
			}
			same(t, must[[]Row](t)(db.Scan(context.Background(), "t")), oracle)
		}
	}
}

// writeSomething makes one random change, in the table and in the map beside it.
func writeSomething(t *testing.T, r *rand.Rand, tx *Tx, oracle map[int64]string) {
	t.Helper()
	rows := must[[]Row](t)(tx.Scan("t"))
	text := strings.Repeat(string(rune('a'+r.IntN(26))), r.IntN(900))
	switch {
	case len(rows) == 0 || r.IntN(2) == 0:
		id := int64(r.Uint32())
		if r.IntN(4) == 0 {
			if err := tx.BulkInsert("t", [][]any{{id, text}, {id + 1<<32, text}}); err != nil {
				t.Fatal(err)
			}
			oracle[id+1<<32] = text
		} else {
			must[RowID](t)(tx.Insert("t", []any{id, text}))
		}
		oracle[id] = text
	case r.IntN(3) == 0:
		victim := rows[r.IntN(len(rows))]
		if err := tx.Delete("t", victim.ID); err != nil {
			t.Fatal(err)
		}
		delete(oracle, victim.Values[0].(int64))
	default:
		victim := rows[r.IntN(len(rows))]
		must[RowID](t)(tx.Update("t", victim.ID, []any{victim.Values[0], text}))
		oracle[victim.Values[0].(int64)] = text
	}
}

func same(t *testing.T, rows []Row, oracle map[int64]string) {
	t.Helper()
	if len(rows) != len(oracle) {
		t.Fatalf("%d rows, want %d", len(rows), len(oracle))
	}
	for _, r := range rows {
		if want, ok := oracle[r.Values[0].(int64)]; !ok || want != r.Values[1].(string) {
			t.Fatalf("row %v: want %q (%v)", r.Values[0], want, ok)
		}
	}
}

func checkCopy(t *testing.T, env Env, fs *filesystem.Memory, oracle map[int64]string) {
	t.Helper()
	clone, err := fs.Clone()
	if err != nil {
		t.Fatal(err)
	}
	env.FS = clone
	db, err := Open(env, `C:\Data\sales.mdf`, `C:\Data\sales.ldf`, nil)
	if err != nil {
		t.Fatal(err)
	}
	same(t, must[[]Row](t)(db.Scan(context.Background(), "t")), oracle)
	tx := begin(t, db)
	must[RowID](t)(tx.Insert("t", []any{int64(1), "after"}))
	must[Commit](t)(tx.Commit())
}

func TestDropTableGivesItsPagesBack(t *testing.T) {
	env, _ := machine(3)
	db := create(t, env, Simple)
	size := uint32(0)
	for round := range 5 {
		tx := begin(t, db)
		must[Table](t)(tx.CreateTable("big", columns, ""))
		for i := range 40 {
			must[RowID](t)(tx.Insert("big", []any{int64(i), strings.Repeat("x", 3000)}))
		}
		if err := tx.DropTable("big"); err != nil {
			t.Fatal(err)
		}
		must[Commit](t)(tx.Commit())
		if now := db.Info().Files[0].Pages; round == 0 {
			size = now
		} else if now != size {
			t.Fatalf("file grew from %d to %d pages", size, now)
		}
	}
}

func TestFilesAreAddedEmptiedAndRemoved(t *testing.T) {
	env, fs := machine(4)
	db := create(t, env, Full)
	ctx := context.Background()
	if err := db.AddFile(ctx, File{Logical: "more", Physical: `D:\more.ndf`}); err != nil {
		t.Fatal(err)
	}
	if err := db.AddFile(ctx, File{Logical: "MORE", Physical: `D:\more2.ndf`}); !message.Has(err, 1828) {
		t.Fatalf("same logical name: %v", err)
	}
	tx := begin(t, db)
	must[Table](t)(tx.CreateTable("t", columns, ""))
	oracle := map[int64]string{}
	for i := range int64(30) {
		oracle[i] = strings.Repeat("y", 2500)
		must[RowID](t)(tx.Insert("t", []any{i, oracle[i]}))
	}
	must[Commit](t)(tx.Commit())
	if err := db.RemoveFile(ctx, "more"); !message.Has(err, 5042) {
		t.Fatalf("remove a file in use: %v", err)
	}
	if err := db.ShrinkFile(ctx, "more", 0, true); err != nil {
		t.Fatal(err)
	}
	if err := db.RemoveFile(ctx, "more"); err != nil {
		t.Fatal(err)
	}
	if fs.Exists(`D:\more.ndf`) {
		t.Error("the file is still there")
	}
	same(t, must[[]Row](t)(db.Scan(ctx, "t")), oracle)
	if err := db.RemoveFile(ctx, "sales"); !message.Has(err, 5020) {
		t.Fatalf("remove the primary file: %v", err)
	}
	checkCopy(t, env, fs, oracle)
}

func TestStatesRefuse(t *testing.T) {
	env, _ := machine(5)
	db := create(t, env, Full)
	ctx := context.Background()
	if err := db.SetReadOnly(ctx, true); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Begin(ctx, ""); !message.Has(err, 3906) {
		t.Fatalf("write to a read-only database: %v", err)
	}
	if err := db.SetReadOnly(ctx, false); err != nil {
		t.Fatal(err)
	}
	tx := begin(t, db)
	if err := db.SetOffline(); !message.Has(err, 5064) {
		t.Fatalf("offline with a transaction open: %v", err)
	}
	if _, ok := db.Seize(); ok {
		t.Fatal("seized while a transaction is open")
	}
	short, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := db.Begin(short, ""); err == nil {
		t.Fatal("two writers at once")
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := db.SetOffline(); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Begin(ctx, ""); !message.Has(err, 942) {
		t.Fatalf("write to an offline database: %v", err)
	}
	if err := db.SetOnline(); err != nil {
		t.Fatal(err)
	}
	must[Commit](t)(begin(t, db).Commit())
}

func TestLogIsTruncatedAsTheModelSays(t *testing.T) {
	env, _ := machine(6)
	for _, m := range []Model{Full, Simple} {
		db := create(t, Env{FS: &filesystem.Memory{}, Now: env.Now, GUID: env.GUID}, m)
		tx := begin(t, db)
		must[Table](t)(tx.CreateTable("t", columns, ""))
		must[Commit](t)(tx.Commit())
		b, err := db.BeginData(false, false)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Complete(Base{GUID: env.GUID(), LSN: b.Checkpoint}); err != nil {
			t.Fatal(err)
		}
		before := db.Info().LogBytes
		for i := range int64(50) {
			tx := begin(t, db)
			must[RowID](t)(tx.Insert("t", []any{i, "z"}))
			must[Commit](t)(tx.Commit())
		}
		if err := db.Checkpoint(); err != nil {
			t.Fatal(err)
		}
		after := db.Info()
		if grown := after.LogBytes > before+50*60; grown != (m == Full) {
			t.Errorf("%s: log went from %d to %d bytes", m, before, after.LogBytes)
		}
		if m == Full && after.LogReuseWaitDesc != "LOG_BACKUP" {
			t.Errorf("log waits for %s", after.LogReuseWaitDesc)
		}
	}
}

func TestDamagedPageIsNotRead(t *testing.T) {
	env, fs := machine(7)
	db := create(t, env, Full)
	tx := begin(t, db)
	must[Table](t)(tx.CreateTable("t", columns, ""))
	must[RowID](t)(tx.Insert("t", []any{int64(1), "one"}))
	must[Commit](t)(tx.Commit())
	file, _ := fs.Open(`C:\Data\sales.mdf`)
	tab := must[Table](t)(db.Table("t"))
	if _, err := file.WriteAt([]byte{0xff}, int64(tab.first.Page)*page.Bytes+200); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Scan(context.Background(), "t"); !message.Has(err, 824) {
		t.Fatalf("scan of a damaged page: %v", err)
	}
}

func TestLocalTimeIsRoundedAsDatetime(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 5_000_000, time.FixedZone("", 7200))
	if got := Local(at); !got.Equal(time.Date(2026, 1, 2, 3, 4, 5, 7_000_000, time.UTC)) {
		t.Errorf("got %v", got)
	}
	if got := Local(at.Add(994 * time.Millisecond)); !got.Equal(time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC)) {
		t.Errorf("got %v", got)
	}
}

func TestForksOfAPath(t *testing.T) {
	a, b := value.GUID{1}, value.GUID{2}
	path := []Fork{{GUID: a}, {GUID: b, Start: lsn.LSN{VLF: 5}}}
	for _, c := range []struct {
		at         lsn.LSN
		before, on value.GUID
	}{{lsn.LSN{VLF: 4}, a, a}, {lsn.LSN{VLF: 5}, a, b}, {lsn.LSN{VLF: 6}, b, b}} {
		if ForkBefore(path, c.at) != c.before || ForkAt(path, c.at) != c.on {
			t.Errorf("%s: %v %v", c.at, ForkBefore(path, c.at), ForkAt(path, c.at))
		}
	}
}
