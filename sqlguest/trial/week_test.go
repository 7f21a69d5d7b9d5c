package trial

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/repo/recovery"
	"holdfast/sqlguest"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/server"
)

var update = flag.Bool("update", false, "write the golden files anew")

// six are the databases of the week, in every recovery model and state that a backup
// has to know of.
const six = `
CREATE DATABASE orders; CREATE TABLE orders.dbo.t (id int PRIMARY KEY);
CREATE DATABASE stock; ALTER DATABASE stock SET RECOVERY SIMPLE; CREATE TABLE stock.dbo.t (id int PRIMARY KEY);
CREATE DATABASE loads; ALTER DATABASE loads SET RECOVERY BULK_LOGGED; CREATE TABLE loads.dbo.t (id int PRIMARY KEY);
CREATE DATABASE solo; CREATE TABLE solo.dbo.t (id int PRIMARY KEY); ALTER DATABASE solo SET SINGLE_USER;
CREATE DATABASE [it's, ünï 東京]; CREATE TABLE [it's, ünï 東京].dbo.t (id int PRIMARY KEY);
CREATE DATABASE archive; CREATE TABLE archive.dbo.t (id int PRIMARY KEY); ALTER DATABASE archive SET READ_ONLY;
`

// week runs backups by the clock and writes down what each decides.
type week struct {
	*world
	t    *testing.T
	said strings.Builder
	n    int
}

// at brings the clock to an hour of the week, by the server's zone.
func (w *week) at(day, hour int) {
	w.now = time.Date(2026, 10, 19+day, hour, 0, 0, 0, berlin)
}

func (w *week) back(want decide.Want) {
	when := w.look().Format("Mon 2006-01-02 15:04 -07")
	r := &sqlguest.Run{
		Server: w.sql, Label: "sql/LAB", Place: place, Transport: server.VDI, Request: decide.Request{Want: want}, Device: w.device,
		Keep: &sqlguest.Repository{Repo: w.repo, Back: func(ctx context.Context, src backup.Source) (*recovery.Point, error) {
			w.now = w.now.Add(time.Second)
			res, err := backup.Run(ctx, w.repo, src, backup.Options{Now: w.proxy})
			if res == nil {
				return nil, err
			}
			return res.Point, err
		}},
	}
	steps, err := r.All(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	var all []decide.Decision
	for _, s := range steps {
		if s.Err != nil {
			w.t.Errorf("%s %s: %v", when, s.Source, s.Err)
		}
		all = append(all, s.Decision)
	}
	fmt.Fprintf(&w.said, "%s --type %s: exit %d\n", when, want, decide.Exit(all))
	for _, s := range steps {
		fmt.Fprintf(&w.said, "  %-15s %-5s %-11s %d\n", strings.TrimPrefix(s.Source, "sql/LAB/"), s.Decision.Do, s.Decision.Rule, s.Decision.Exit)
	}
}

// TestSimulatedWeek is eight nights of --type auto and the logs between them, over the
// night in which clocks are set back, as a table of what is decided for whom, by which
// rule and with which part of the exit code.
func TestSimulatedWeek(t *testing.T) {
	w := &week{world: newWorld(t.Context(), 7, map[string]int{}, mutant{}), t: t}
	defer w.close()
	if err := safely(w.start); err != nil {
		t.Fatal(err)
	}
	w.exec("DROP DATABASE sales")
	w.zone = berlin
	w.at(0, 9)
	w.exec(six)
	for day := range 8 {
		for _, hour := range []int{10, 16} {
			w.at(day, hour)
			w.busyHour(day)
			w.back(decide.Log)
		}
		w.at(day, 22)
		if day == 4 { // in the middle of the week everybody may in again
			w.exec("ALTER DATABASE solo SET MULTI_USER")
		}
		w.busyHour(day)
		w.back(decide.Auto)
	}
	w.compare("week.golden")
	w.settled()
}

// busyHour writes to the databases that are in use; nobody works in stock before Thursday.
func (w *week) busyHour(day int) {
	w.n++
	for _, name := range []string{"orders", "loads", "[it's, ünï 東京]"} {
		w.exec(fmt.Sprintf("INSERT INTO %s.dbo.t VALUES (%d)", name, w.n))
	}
	if day > 2 {
		w.exec(fmt.Sprintf("INSERT INTO stock.dbo.t VALUES (%d)", w.n))
	}
}

func (w *week) compare(golden string) {
	path := filepath.Join("testdata", golden)
	if *update {
		if err := os.WriteFile(path, []byte(w.said.String()), 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path) //nolint:gosec // a file of this package
	if err != nil {
		w.t.Fatal(err)
	}
	got, lines := strings.Split(w.said.String(), "\n"), strings.Split(strings.ReplaceAll(string(want), "\r\n", "\n"), "\n")
	for i := range max(len(got), len(lines)) {
		var a, b string
		if i < len(got) {
			a = got[i]
		}
		if i < len(lines) {
			b = lines[i]
		}
		if a != b {
			w.t.Fatalf("%s, line %d:\ngot  %s\nwant %s", golden, i+1, a, b)
		}
	}
}

// settled looks at what a week has left: nothing unconfirmed, and of each database
// everything from its first full on can be restored.
func (w *week) settled() {
	entries, problems, err := w.repo.Points(w.t.Context())
	if err != nil || len(problems) > 0 {
		w.t.Fatal(err, problems)
	}
	ids := map[string]int{}
	for _, e := range entries {
		ids[e.Identity]++
	}
	for id := range ids {
		backups, err := (&sqlguest.Repository{Repo: w.repo}).Backups(w.t.Context(), id)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, b := range backups {
			if b.State != chain.Confirmed || b.By != chain.ByRow {
				w.t.Errorf("%s %s: %q by %q", b.Database, b.Kind, b.State, b.By)
			}
		}
		if r := chain.Describe(backups, nil); r.Broken {
			w.t.Errorf("%s: the newest window is broken", r.Database)
		}
	}
	if len(ids) != 6+3 { // master, model and msdb, too
		w.t.Errorf("%d databases have points", len(ids))
	}
}
