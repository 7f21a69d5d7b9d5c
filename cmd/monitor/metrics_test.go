package monitor

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// series reads a textfile as node_exporter does: a series that comes twice, or a metric in
// two places, makes all of the file worthless.
func series(t *testing.T, file string) map[string]string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	seen, typed := map[string]string{}, map[string]bool{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		if name, is := strings.CutPrefix(line, "# TYPE "); is {
			if typed[name] {
				t.Errorf("%s comes twice", line)
			}
			typed[name] = true
		}
		if strings.HasPrefix(line, "#") {
			continue
		}
		at := strings.LastIndexByte(line, ' ')
		if at < 0 || seen[line[:at]] != "" {
			t.Fatalf("%q is no sample, or a second one of its series", line)
		}
		seen[line[:at]] = line[at+1:]
	}
	return seen
}

// TestSeriesOfASourceWithTwoPointsIsOne: a database that gets a full and a log in one run
// has one line a figure, the sum of both.
func TestSeriesOfASourceWithTwoPointsIsOne(t *testing.T) {
	r := NewReport(time.Unix(100, 0))
	sales, stock := [2]string{"source", "sql/sql01/sales"}, [2]string{"source", "sql/sql01/stock"}
	for _, n := range []float64{1000, 24} {
		r.Add("backup_bytes_added", "Bytes stored for it.", n, sales)
		r.Add("backup_bytes_read", "Bytes read from the source.", 2*n, sales)
	}
	r.Add("backup_bytes_added", "Bytes stored for it.", 7, stock)
	r.Set("state", "The last state.", 1)
	r.Set("state", "The last state.", 3)
	file := filepath.Join(t.TempDir(), "m.prom")
	for range 2 {
		if err := r.Write(file, Ending{Command: "backup sql", At: time.Unix(160, 0)}); err != nil {
			t.Fatal(err)
		}
	}
	got := series(t, file)
	for name, want := range map[string]string{
		`holdfast_backup_bytes_added{source="sql/sql01/sales"}`: "1024", `holdfast_backup_bytes_read{source="sql/sql01/sales"}`: "2048",
		`holdfast_backup_bytes_added{source="sql/sql01/stock"}`: "7", "holdfast_state": "3", `holdfast_last_exit_code{command="backup sql"}`: "0",
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %s", name, got[name], want)
		}
	}
}
