package replay_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/lab"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/replay"
	"holdfast/sqlguest/server"
)

// pretending gives other answers than its server, which cannot be made to.
type pretending struct {
	server.Server
	edit []func(text string, rows *server.Rows)
}

func (p *pretending) Query(ctx context.Context, text string, args ...server.Arg) (*server.Rows, error) {
	rows, err := p.Server.Query(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	for _, edit := range p.edit {
		edit(text, rows)
	}
	return rows, nil
}

// put changes a column of the rows whose first text is key, in results that have it.
func put(column, key string, value any) func(string, *server.Rows) {
	return func(_ string, rows *server.Rows) {
		i := slices.Index(rows.Columns, column)
		if i < 0 {
			return
		}
		for _, row := range rows.Values {
			if key == "" || slices.Contains(row, any(key)) {
				row[i] = value
			}
		}
	}
}

// exists says of paths that contain a text: file, directory, parent.
func exists(file, directory, parent int64) func(string, *server.Rows) {
	return func(text string, rows *server.Rows) {
		if strings.Contains(text, "xp_fileexist") {
			rows.Values = [][]any{{file, directory, parent}}
		}
	}
}

// refusal is a restore that one check speaks against.
type refusal struct {
	rule, says, hint string
	o                plan.Options
	database         string // sales if empty
	edit             func(string, *server.Rows)
	change           func(r *replay.Run)
}

// refusals has one for each rule and more; sales is the id of that database.
func refusals(sales int64) []refusal {
	over := plan.Options{Replace: true}
	return []refusal{
		{rule: "P-version", says: "an older server does not restore", hint: "newer one", o: over, edit: put("version", "", "13.0.5000.0")},
		{rule: "P-standby", says: "cannot be upgraded", hint: "--state", o: plan.Options{As: "x", End: plan.Standby}, edit: put("version", "", "17.0.1000.1")},
		{rule: "S-edition", says: "managed service", o: over, edit: put("engine", "", int64(5))},
		{rule: "P-edition", says: "takes at most", o: over, edit: put("engine", "", int64(4)), change: func(r *replay.Run) {
			for i := range r.Backups {
				for k := range r.Backups[i].Files {
					r.Backups[i].Files[k].Pages = 2 << 20
				}
			}
		}},
		{rule: "Q5", says: "sysadmin", hint: "server role", o: over, edit: put("sysadmin", "", int64(0))},
		{rule: "Q17", says: "no certificate with the thumbprint AB12", hint: "CREATE CERTIFICATE", o: over, change: func(r *replay.Run) {
			for i := range r.Backups {
				r.Backups[i].Protector = "AB12"
			}
		}},
		{rule: "P-room", says: "are free", hint: "--move", o: plan.Options{As: "x"}, edit: put("available_bytes", "", int64(1000))},
		{rule: "Q23", says: "more than 259", hint: "--move", o: plan.Options{As: "x", Moves: map[string]string{"sales": `C:\` + strings.Repeat("x", 260)}}},
		{rule: "P-path", says: "no whole path", o: plan.Options{As: "x", Moves: map[string]string{"sales": `x.mdf`}}},
		{rule: "P-path", says: "directory does not exist", hint: "make the directory", o: plan.Options{As: "x"}, edit: exists(0, 0, 0)},
		{rule: "P-path", says: "which is a directory", o: plan.Options{As: "x"}, edit: exists(0, 1, 1)},
		{rule: "P-file", says: "belongs to database stock", o: plan.Options{As: "x", Moves: map[string]string{"sales": `c:\data\STOCK.mdf`}}},
		{rule: "P-file", says: "a file of nobody known", hint: "remove it", o: plan.Options{As: "x", Moves: map[string]string{"sales": `C:\Data\other.mdf`}}, edit: exists(1, 0, 1)},
		{rule: "P-move", says: `"nobody"`, o: plan.Options{As: "x", Moves: map[string]string{"nobody": `C:\Data\other.mdf`}}},
		{rule: "P-exists", says: "exists", hint: "--replace"},
		{rule: "P-restoring", says: "is RESTORING already", hint: "--continue", edit: put("state_desc", "sales", "RESTORING")},
		{rule: "P-tail", says: "is SUSPECT", hint: "NO_TRUNCATE", o: over, edit: put("state_desc", "sales", "SUSPECT")},
		{rule: "P-tail", says: "nobody can back up the tail", hint: "--no-tail", o: over, change: func(r *replay.Run) { r.Keep = nil }},
		{rule: "Q10", says: "mirrored", hint: "PARTNER OFF", o: over, edit: put("mirroring_guid", "sales", "11111111-0000-4000-8000-000000000001")},
		{rule: "X5", says: "availability group", hint: "REMOVE DATABASE", o: over, edit: put("replica_id", "sales", "11111111-0000-4000-8000-000000000001")},
		{rule: "P-snapshot", says: "has the snapshot stock", hint: "DROP DATABASE", o: over, edit: put("source_database_id", "stock", sales)},
		{rule: "P-snapshot", says: "is a database snapshot", hint: "--as", o: over, edit: put("source_database_id", "sales", int64(6))},
		{rule: "M4", says: "never restored", o: plan.Options{As: "tempdb", Replace: true}},
		{rule: "P-master", says: "single-user mode", hint: "--as NAME", database: "master", o: over},
		{rule: "P-system", says: "stays in its place", database: "model", o: plan.Options{Replace: true, Moves: map[string]string{"modeldev": `C:\m.mdf`}}},
		{rule: "P-system", says: "of build", hint: "--as", database: "msdb", o: over, edit: put("version", "", "16.0.4165.4")},
		{rule: "P-system", says: "of another server", hint: "--as", database: "msdb", o: over, change: func(r *replay.Run) { r.Place = "elsewhere" }},
		{rule: "P-continue", says: "ONLINE", hint: "leave --continue away", change: func(r *replay.Run) { r.Continue = true }},
		{rule: "P-continue", says: "there is no database nobody", o: plan.Options{As: "nobody"}, change: func(r *replay.Run) { r.Continue = true }},
		{rule: "P-undo", says: "no whole path", o: plan.Options{As: "x", End: plan.Standby, UndoFile: "u.tuf"}},
		{rule: "P-undo", says: "exists already", hint: "another --undo-file", o: plan.Options{As: "x", End: plan.Standby, UndoFile: `C:\u.tuf`, Moves: map[string]string{"sales": `C:\a`, "sales_log": `C:\b`}}, edit: exists(1, 0, 1)},
	}
}

// TestM17EachCheckRefusesWithItsRuleAndChangesNothing: one thing is wrong in each case.
func TestM17EachCheckRefusesWithItsRuleAndChangesNothing(t *testing.T) {
	w := newWorld(t)
	w.live()
	w.back(decide.Full, "model", "msdb", "master")
	states := w.state("sales")
	rows, err := w.sql.Query(t.Context(), "SELECT CAST(DB_ID('sales') AS bigint)")
	w.must(err)
	for _, x := range refusals(rows.Values[0][0].(int64)) {
		t.Run(x.rule+" "+x.says, func(t *testing.T) {
			if x.database == "" {
				x.database = "sales"
			}
			r := w.jobOf(w.instance, x.database, plan.Target{}, x.o)
			r.Server = &pretending{Server: w.sql}
			if x.edit != nil {
				r.Server.(*pretending).edit = append(r.Server.(*pretending).edit, x.edit)
			}
			if x.change != nil {
				x.change(r)
			}
			_, err := r.Do(t.Context())
			var refused *replay.Refused
			if !errors.As(err, &refused) || !errors.Is(err, replay.ErrRefused) || !strings.Contains(err.Error(), x.says) || !strings.Contains(err.Error(), "(rule "+x.rule+")") {
				t.Fatalf("%v", err)
			}
			if !strings.Contains(refused.Hint(), x.hint) {
				t.Errorf("hint %q", refused.Hint())
			}
			p, err := r.Preview(t.Context())
			if err != nil || !errors.Is(p.Err(), replay.ErrRefused) {
				t.Errorf("preview: %v, %+v", err, p)
			}
			w.wantState("sales", states)
			w.want("sales", "full log mark behind diff last tail")
			if x.o.As != "" {
				w.wantState("x", "none")
			}
		})
	}
}

// TestWarningsForbidNothing: they are told beside the result.
func TestWarningsForbidNothing(t *testing.T) {
	w := newWorld(t)
	w.live()
	w.exec("BACKUP DATABASE stock TO DISK='C:\\Backup\\stock.bak'; RESTORE DATABASE stock FROM DISK='C:\\Backup\\stock.bak' WITH REPLACE, NORECOVERY")
	r := w.job(w.instance, plan.Target{}, plan.Options{As: "copy"})
	r.Server = &pretending{w.sql, []func(string, *server.Rows){put("version", "", "17.0.1.1"), put("volume_mount_point", "", `D:\`)}}
	res, err := r.Do(t.Context())
	w.must(err)
	all := strings.Join(res.Warnings, "\n")
	for _, says := range []string{"database stock on this server is RESTORING", "no way back to the older version", "it is not known how much room there is"} {
		if !strings.Contains(all, says) {
			t.Errorf("no warning %q in\n%s", says, all)
		}
	}
}

// TestRoomOfTheDatabaseThatGoesCounts: its files make place for those that come.
func TestRoomOfTheDatabaseThatGoesCounts(t *testing.T) {
	w := newWorld(t)
	w.live()
	r := w.job(w.instance, plan.Target{}, plan.Options{Replace: true})
	r.Server = &pretending{w.sql, []func(string, *server.Rows){put("available_bytes", "", int64(100_000))}}
	_, err := r.Do(t.Context())
	w.must(err)
}

// TestSystemDatabasesAreRestoredByTheirRulesOrExtracted.
func TestSystemDatabasesAreRestoredByTheirRulesOrExtracted(t *testing.T) {
	w := newWorld(t)
	w.back(decide.Full, "master", "model", "msdb")
	for _, name := range []string{"master", "model", "msdb"} {
		as := "was_" + name
		_, err := w.jobOf(w.instance, name, plan.Target{}, plan.Options{As: as}).Do(t.Context())
		w.must(err)
		w.wantState(as, "ONLINE MULTI_USER")
		if name == "master" {
			continue
		}
		res, err := w.jobOf(w.instance, name, plan.Target{}, plan.Options{Replace: true}).Do(t.Context())
		w.must(err)
		w.wantState(name, "ONLINE MULTI_USER")
		if (res.Tail != "") != (name == "model") { // which is in FULL
			t.Errorf("%s: tail %q", name, res.Tail)
		}
	}
}

// TestAsFindsNamesThatNobodyHas: neither another database nor a file on the disk.
func TestAsFindsNamesThatNobodyHas(t *testing.T) {
	w := newWorld(t)
	w.live()
	w.exec(`CREATE DATABASE taken ON (NAME = a, FILENAME = 'C:\Data\copy.mdf') LOG ON (NAME = b, FILENAME = 'C:\Log\copy_log.ldf')`)
	w.exec(`BACKUP DATABASE stock TO DISK = 'C:\Data\copy_1.mdf'`)
	res := w.restore(w.instance, plan.Target{}, plan.Options{As: "copy"})
	var paths []string
	for _, f := range res.Plan.Files {
		paths = append(paths, f.To)
	}
	if got := strings.Join(paths, " "); got != `C:\Data\copy_1_2.mdf C:\Log\copy_log_2.ldf` {
		t.Error(got)
	}
	w.want("copy", "full log mark behind diff last")
	w.want("sales", "full log mark behind diff last tail")
}

// TestOtherServerGetsItsOwnDirectories: the paths of the source mean nothing there.
func TestOtherServerGetsItsOwnDirectories(t *testing.T) {
	w := newWorld(t)
	w.live()
	other := start(t, lab.Options{Name: "LINUX", Now: w.clock, DataDirectory: "/var/opt/mssql/data", LogDirectory: "/var/opt/mssql/log"})
	res := w.restore(other, plan.Target{}, plan.Options{})
	var paths []string
	for _, f := range res.Plan.Files {
		paths = append(paths, f.To)
	}
	if got := strings.Join(paths, " "); got != "/var/opt/mssql/data/sales.mdf /var/opt/mssql/log/sales_log.ldf" {
		t.Error(got)
	}
	other.want("sales", "full log mark behind diff last")
}

// TestFileAddedInALogIsPlacedByThatLog.
func TestFileAddedInALogIsPlacedByThatLog(t *testing.T) {
	w := newWorld(t)
	w.add(10, "full")
	w.back(decide.Full, "sales")
	w.exec(`ALTER DATABASE sales ADD FILE (NAME = more, FILENAME = 'C:\Data\more.ndf')`)
	w.add(11, "log")
	w.back(decide.Log, "sales")
	w.add(12, "tail")
	res := w.restore(w.instance, plan.Target{}, plan.Options{As: "copy"})
	if n := len(res.Plan.Files); n != 3 || res.Plan.Files[2].To != `C:\Data\copy_3.ndf` {
		t.Errorf("%+v", res.Plan.Files)
	}
	w.want("copy", "full log")
	w.restore(w.instance, plan.Target{}, plan.Options{Replace: true})
	w.want("sales", "full log tail")
}

// TestReplaceOfAnotherDatabaseIsWarnedOf, and the other one's tail is kept as its own.
func TestReplaceOfAnotherDatabaseIsWarnedOf(t *testing.T) {
	w := newWorld(t)
	w.live()
	w.back(decide.Full, "it's, ünï")
	w.exec("INSERT INTO [it's, ünï].dbo.notes VALUES (99, N'kept')")
	res, err := w.job(w.instance, plan.Target{}, plan.Options{As: "it's, ünï", Replace: true}).Do(t.Context())
	w.must(err)
	if !strings.Contains(strings.Join(res.Warnings, " "), "the tail of its log becomes a point of its own") || strings.Contains(strings.Join(res.Warnings, " "), "lost") || res.Tail == "" {
		t.Errorf("%+v", res)
	}
	w.want("it's, ünï", "full log mark behind diff last")
	r := w.jobOf(w.instance, "it's, ünï", plan.Target{Point: res.Tail}, plan.Options{As: "notes"})
	if b := r.Backups[len(r.Backups)-1]; b.Point != res.Tail || b.Kind != chain.Log || !b.Tail {
		t.Fatalf("%+v", b)
	}
	_, err = r.Do(t.Context())
	w.must(err)
	rows, err := w.sql.Query(t.Context(), "SELECT text FROM notes.dbo.notes WHERE id = 99")
	if err != nil || len(rows.Values) != 1 {
		t.Errorf("%v %v", rows, err)
	}
}
