package replay_test

import (
	"strings"
	"testing"
	"time"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/plan"
)

// latest is the last time that the windows of sales name.
func (w *world) latest() time.Time {
	w.t.Helper()
	list, err := w.keep().Backups(w.t.Context(), w.identity("sales"))
	w.must(err)
	var last time.Time
	for _, l := range chain.Describe(list, nil).Lines {
		for _, s := range l.Spans {
			if s.To.After(last) {
				last = s.To
			}
		}
	}
	return last
}

// TestQ27LatestTimestamp: the last time that can be restored stays one, whatever happens
// behind it: a second data file is removed, and a log, a differential or a full is taken.
func TestQ27LatestTimestamp(t *testing.T) {
	const drop = "ALTER DATABASE sales REMOVE FILE more"
	for name, then := range map[string]func(*world){
		"nothing":          func(*world) {},
		"a log":            func(w *world) { w.back(decide.Log, "sales") },
		"a file and a log": func(w *world) { w.exec(drop); w.back(decide.Log, "sales") },
		"a full and a log": func(w *world) { w.exec(drop); w.back(decide.Full, "sales"); w.back(decide.Log, "sales") },
		"a differential":   func(w *world) { w.exec(drop); w.back(decide.Diff, "sales") },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.exec(`ALTER DATABASE sales ADD FILE (NAME = more, FILENAME = 'D:\more.ndf')`)
			w.add(10, "full")
			w.back(decide.Full, "sales")
			w.add(11, "log")
			w.back(decide.Log, "sales")
			at := w.latest()
			w.now = w.now.Add(time.Minute)
			w.add(12, "later")
			then(w)
			w.restore(w.instance, plan.Target{At: at, Bare: true}, plan.Options{As: "x"})
			w.want("x", "full log")
			if files := strings.Join(w.databaseFiles("x"), " "); !strings.Contains(files, ".ndf") {
				t.Errorf("its files are %s", files)
			}
			w.restore(w.instance, plan.Target{}, plan.Options{Replace: true})
			w.want("sales", "full log later")
			w.restore(w.instance, plan.Target{At: at, Bare: true}, plan.Options{Replace: true})
			w.want("sales", "full log")
		})
	}
}
