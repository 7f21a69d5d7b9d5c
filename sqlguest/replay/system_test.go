package replay_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/plan"
)

// TestModelKeepsItsTail: in FULL it has a log like every other database, and what it holds
// since its last backup is not thrown away without a word.
func TestModelKeepsItsTail(t *testing.T) {
	w := newWorld(t)
	w.exec("CREATE TABLE model.dbo.customers (id int, name nvarchar(100))")
	w.exec("INSERT INTO model.dbo.customers (id, name) VALUES (10, N'full')")
	w.back(decide.Full, "model")
	w.exec("INSERT INTO model.dbo.customers (id, name) VALUES (11, N'tail')")
	res, err := w.jobOf(w.instance, "model", plan.Target{}, plan.Options{Replace: true}).Do(t.Context())
	w.must(err)
	w.want("model", "full tail")
	w.wantState("model", "ONLINE MULTI_USER")
	if res.Tail == "" {
		t.Error("no tail was taken")
	}
}

// TestSystemDatabaseWithoutLogSaysWhatIsLost: as of every other one in SIMPLE.
func TestSystemDatabaseWithoutLogSaysWhatIsLost(t *testing.T) {
	w := newWorld(t)
	w.back(decide.Full, "msdb")
	p, err := w.jobOf(w.instance, "msdb", plan.Target{}, plan.Options{Replace: true}).Preview(t.Context())
	w.must(err)
	said := ""
	for _, f := range p.Findings {
		said += f.Rule + ": " + f.Text + "\n"
	}
	if !strings.Contains(said, "P-tail: database msdb has no log that could be backed up") {
		t.Errorf("findings:\n%s", said)
	}
}

// TestHintsOfMaster do not send in a circle: nobody's sessions are in the way, and who
// wants its name for another database is told to take another name.
func TestHintsOfMaster(t *testing.T) {
	w := newWorld(t)
	w.back(decide.Full, "master")
	p, err := w.jobOf(w.instance, "master", plan.Target{}, plan.Options{Replace: true}).Preview(t.Context())
	w.must(err)
	if text := p.Err().Error(); !strings.Contains(text, "P-master") || strings.Contains(text, "P-use") {
		t.Error(text)
	}
	w.live()
	p, err = w.job(w.instance, plan.Target{}, plan.Options{As: "master", Replace: true}).Preview(t.Context())
	w.must(err)
	hint := p.Err().(interface{ Hint() string }).Hint()
	if strings.Contains(hint, "extract") || !strings.Contains(hint, "choose another name with --as") {
		t.Error(hint)
	}
}

// TestContinueBehindWhereItStandsIsRefused before anything is sent: SQL Server would end
// it midway (4335), and the hint would send into the same wall.
func TestContinueBehindWhereItStandsIsRefused(t *testing.T) {
	w := newWorld(t)
	s := w.live()
	on := func(target plan.Target) error {
		r := w.job(w.instance, target, plan.Options{As: "copy", End: plan.NoRecovery})
		r.Continue = true
		_, err := r.Do(t.Context())
		return err
	}
	w.restore(w.instance, plan.Target{At: s.inLog.Add(30 * time.Second), Bare: true}, plan.Options{As: "copy", End: plan.NoRecovery})
	for _, target := range []plan.Target{{At: s.inLog, Bare: true}, {At: s.inLog.Add(-time.Minute), Bare: true}} {
		var miss *plan.Unreachable
		if err := on(target); !errors.As(err, &miss) || !strings.Contains(miss.Hint(), "--replace instead of --continue") {
			t.Errorf("%s: %v", target, err)
		}
	}
	w.must(on(plan.Target{Mark: "m1"}))
	for _, target := range []plan.Target{{At: s.inLog, Bare: true}, {Mark: "m1", Before: true}} {
		var miss *plan.Unreachable
		if err := on(target); !errors.As(err, &miss) {
			t.Errorf("behind the mark: %s: %v", target, err)
		}
	}
	w.wantState("copy", "RESTORING MULTI_USER")
}

// TestIdleTimeBeforeAnEmptyTailIsReached: a time of a minute ago is reached although no log
// backup covered it, whether something was written since or not.
func TestIdleTimeBeforeAnEmptyTailIsReached(t *testing.T) {
	w := newWorld(t)
	w.add(10, "full")
	w.back(decide.Full, "sales")
	w.add(11, "log")
	w.back(decide.Log, "sales")
	at := w.now.Add(time.Minute)
	w.now = w.now.Add(2 * time.Minute)
	res := w.restore(w.instance, plan.Target{At: at, Bare: true}, plan.Options{Replace: true})
	w.want("sales", "full log")
	if res.Tail == "" || !res.Moment.Equal(at) {
		t.Errorf("tail %q, moment %s", res.Tail, res.Moment)
	}
	w.restore(w.instance, plan.Target{At: at.Add(-30 * time.Second), Bare: true}, plan.Options{As: "again"})
	w.want("again", "full log")
}
