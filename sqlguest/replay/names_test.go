package replay_test

import (
	"errors"
	"strings"
	"testing"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/lab"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/replay"
	"holdfast/sqlguest/replay/origin"
)

// TestNamesThatNeedQuotingEverywhere: in brackets, in literals, in formats, in paths.
func TestNamesThatNeedQuotingEverywhere(t *testing.T) {
	w := newWorld(t)
	w.live()
	for _, name := range []string{"it's", "a]b", "100%s", "a,b", "ünï 東京", "NUL", "x/y:z", strings.Repeat("long ", 25)} {
		w.restore(w.instance, plan.Target{}, plan.Options{As: name})
		w.want(strings.ReplaceAll(name, "]", "]]"), "full log mark behind diff last")
		w.back(decide.Full, name) // its tail goes on from it
		res, err := w.job(w.instance, plan.Target{}, plan.Options{As: name, Replace: true}).Do(t.Context())
		w.must(err)
		if res.Tail == "" {
			t.Errorf("%s: no tail", name)
		}
		w.wantState(name, "ONLINE MULTI_USER")
	}
}

// TestReadOnlyAndSimpleDatabasesAreReplaced: each has a tail of its own kind, or none.
func TestReadOnlyAndSimpleDatabasesAreReplaced(t *testing.T) {
	w := newWorld(t)
	s := w.live()
	w.exec("ALTER DATABASE sales SET READ_ONLY")
	res := w.restore(w.instance, plan.Target{}, plan.Options{Replace: true})
	w.want("sales", "full log mark behind diff last tail")
	if res.Tail == "" {
		t.Error("no tail")
	}
	w.exec("ALTER DATABASE sales SET READ_WRITE WITH ROLLBACK IMMEDIATE; ALTER DATABASE sales SET RECOVERY SIMPLE")
	w.use("sales")
	res = w.restore(w.instance, plan.Target{Point: s.diff}, plan.Options{Replace: true, Kick: true})
	w.want("sales", "full log mark behind diff")
	w.wantState("sales", "ONLINE MULTI_USER")
	if res.Tail != "" || !strings.Contains(strings.Join(res.Warnings, " "), "no log that could be backed up") {
		t.Errorf("%+v", res)
	}
}

// TestUnconfirmedNewestPointIsNeverLeftOutSilently: the server that it is of is asked;
// another one cannot tell whether there is a later moment.
func TestUnconfirmedNewestPointIsNeverLeftOutSilently(t *testing.T) {
	w := newWorld(t)
	s := w.live()
	job := func(to *instance, target plan.Target, o plan.Options) *replay.Run {
		r := w.job(to, target, o)
		r.Backups[len(r.Backups)-1] = w.unconfirmed(s.last)
		return r
	}
	other := start(t, lab.Options{Name: "OTHER", Now: w.clock})
	_, err := job(other, plan.Target{}, plan.Options{}).Do(t.Context())
	var hint interface{ Hint() string }
	if !errors.Is(err, plan.ErrUnreachable) || !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "--point "+s.diff) {
		t.Errorf("elsewhere: %v", err)
	}
	other.wantState("sales", "none")
	res, err := job(other, plan.Target{}, plan.Options{Nearest: plan.Before}).Do(t.Context())
	w.must(err)
	other.want("sales", "full log mark behind diff")
	if !strings.Contains(strings.Join(res.Warnings, " "), "SQL Server has not confirmed it") {
		t.Errorf("%q", res.Warnings)
	}
	_, err = job(other, plan.Target{Point: s.diff}, plan.Options{As: "y"}).Do(t.Context())
	w.must(err)
}

// unconfirmed is a point as it was before SQL Server's word on it.
func (w *world) unconfirmed(point string) chain.Backup {
	w.t.Helper()
	e, err := w.repo.Find(w.t.Context(), point)
	w.must(err)
	b, err := chain.Parse(e.ID, e.Attrs, nil)
	w.must(err)
	return b
}

func TestM18DatabaseFilesTellWhatIsWhere(t *testing.T) {
	got := string(origin.DatabaseFiles(`HOST\X`, "a\tb", []plan.Place{{Move: plan.Move{File: "ü", To: `C:\ü.mdf`}}, {Move: plan.Move{File: "l", To: `C:\l.ldf`}, Type: 1}}))
	want := "\ufeffinstance\tdatabase\tfile\ttype\tpath\r\nHOST\\X\ta b\tü\trows\tC:\\ü.mdf\r\nHOST\\X\ta b\tl\tlog\tC:\\l.ldf\r\n"
	if got != want {
		t.Errorf("%q", got)
	}
}
