package picture_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/picture"
)

var update = flag.Bool("update", false, "write the golden files anew")

func size(n int64) string { return fmt.Sprintf("%.1f KiB", float64(n)/1024) }

func chart(d *database) *picture.Chart {
	return &picture.Chart{Source: "sql/sql01/sales", Identity: "sql:x", Report: chain.Describe(d.taken, nil)}
}

// begin is a full and five logs.
func begin(d *database) {
	d.full(5, nil)
	for range 5 {
		d.pass(600)
		d.end += 20
		d.log(2, nil)
	}
}

// stories are histories with something to tell.
var stories = map[string]func(*database){
	"empty": func(*database) {},
	"whole": begin,
	"differentials": func(d *database) {
		for range 3 {
			begin(d)
			d.pass(3600)
			d.diff(3, nil)
			d.log(1, nil)
		}
	},
	"gap": func(d *database) {
		begin(d)
		d.end, d.logFrom = d.end+30, d.end+30
		d.pass(900)
		d.end += 10
		d.log(2, nil)
		d.taken[len(d.taken)-1].Rule, d.taken[len(d.taken)-1].Reason = "S-log", "it continues ours"
	},
	"mended": func(d *database) {
		begin(d)
		d.end, d.logFrom = d.end+40, d.end+30
		d.pass(900)
		d.log(2, nil)
		d.pass(60)
		d.full(9, nil)
		d.pass(900)
		d.end += 9
		d.log(2, nil)
	},
	"fork": func(d *database) {
		begin(d)
		d.restore(d.end - 30)
		d.pass(1200)
		d.end += 20
		d.log(2, nil)
		d.pass(1200)
		d.full(9, nil)
	},
	"abandoned": func(d *database) {
		begin(d)
		s := *d
		s.after = len(d.taken)
		d.snapshot = &s
		for range 2 {
			d.pass(600)
			d.end += 20
			d.log(2, nil)
		}
		d.revert()
		d.pass(600)
		d.end += 20
		d.log(2, nil)
	},
	"foreign": func(d *database) {
		begin(d)
		d.base, d.baseAt = "A SET OF SOMEBODY ELSE'S", d.end
		d.pass(600)
		d.diff(4, nil)
	},
	"damaged": func(d *database) {
		begin(d)
		d.pass(600)
		d.end += 20
		d.log(2, func(b *chain.Backup) { b.Damage = "3 of its chunks are lost" })
		d.pass(600)
		d.end += 20
		d.log(2, func(b *chain.Backup) { b.BulkLogged = true })
	},
	"unsettled": func(d *database) {
		begin(d)
		d.pass(600)
		d.log(2, func(b *chain.Backup) {
			b.State, b.Why = chain.Denied, []string{"SQL Server gave it up: there is no room left on the volume (SQL Server error 112)"}
		})
		d.pass(600)
		d.log(2, func(b *chain.Backup) { b.State, b.Finished = chain.Unconfirmed, time.Time{} })
	},
	"bulk": func(d *database) {
		begin(d)
		d.pass(600)
		d.end += 20
		d.log(2, func(b *chain.Backup) { b.BulkLogged = true })
		d.pass(600)
		d.end += 20
		d.log(2, nil)
		d.pass(600)
		d.full(2, func(b *chain.Backup) { b.CopyOnly = true })
	},
	"hostile": func(d *database) {
		d.full(5, nil)
		d.taken[0].Reason = "Q20: <script>alert('&\"')</script>"
		d.taken[0].Damage = "line\nbreak \x1b[31m"
	},
	"500 logs": func(d *database) {
		d.full(5, nil)
		for range 500 {
			d.pass(900)
			d.end += 20
			d.log(2, nil)
		}
	},
}

// lives are the charts of the stories.
func lives() map[string]*picture.Chart {
	charts := map[string]*picture.Chart{}
	for name, live := range stories {
		d := newDatabase()
		live(d)
		charts[name] = chart(d)
	}
	hostile := charts["hostile"]
	hostile.Source, hostile.Earlier = "sql/a<b>&'\"c/\u202eевіл\x00", true
	return charts
}

func TestPictureInTheTerminal(t *testing.T) {
	charts := lives()
	var names []string
	for name := range charts {
		names = append(names, name)
	}
	slices.Sort(names)
	var all bytes.Buffer
	for _, name := range names {
		fmt.Fprintf(&all, "==== %s\n", name)
		if err := picture.Text(&all, charts[name], size); err != nil {
			t.Fatal(err)
		}
	}
	for _, line := range strings.Split(all.String(), "\n") {
		if n := len([]rune(line)); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	golden(t, "terminal.txt", all.Bytes())
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs from what is shown now; look, then run with -update:\n%s", file, got)
	}
}
