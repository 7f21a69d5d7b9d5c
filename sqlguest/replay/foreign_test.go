package replay_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/lab"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/replay"
	"holdfast/sqlguest/server"
)

// TestContinueLeavesOtherPeoplesDatabasesAlone: a restore of another database that was
// cut left no word on what it was.
func TestContinueLeavesOtherPeoplesDatabasesAlone(t *testing.T) {
	w := newWorld(t)
	s := w.live()
	full := w.back(decide.Full, "stock")
	other := start(t, lab.Options{Name: "OTHER", Now: w.clock})
	cutOff := w.jobOf(other, "stock", plan.Target{}, plan.Options{As: "sales"})
	cutOff.Streams = &cut{cutOff.Streams, full[0], 200_000}
	if _, err := cutOff.Do(t.Context()); !errors.Is(err, replay.ErrLeft) {
		t.Fatalf("%v", err)
	}
	whole := w.jobOf(other, "stock", plan.Target{}, plan.Options{As: "sales2", End: plan.NoRecovery})
	if _, err := whole.Do(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, as := range []string{"sales", "sales2"} {
		on := w.job(other, plan.Target{Point: s.full}, plan.Options{As: as})
		on.Continue = true
		if _, err := on.Do(t.Context()); err == nil || errors.Is(err, replay.ErrLeft) {
			t.Errorf("%s: %v", as, err)
		}
		other.wantState(as, "RESTORING MULTI_USER")
	}
	w.restore(other, plan.Target{Point: s.full}, plan.Options{Replace: true})
	other.want("sales", "full")
}

// TestRestrictedUserStaysWhenARestoreFails: everybody else is kept out as before.
func TestRestrictedUserStaysWhenARestoreFails(t *testing.T) {
	w := newWorld(t)
	w.live()
	w.exec("ALTER DATABASE sales SET RESTRICTED_USER")
	r := w.job(w.instance, plan.Target{}, plan.Options{Replace: true, Kick: true})
	r.Server = &faulty{Server: w.sql, at: "RESTORE DATABASE [sales] FROM", err: errFault}
	if _, err := r.Do(t.Context()); !errors.Is(err, errFault) {
		t.Fatal(err)
	}
	w.wantState("sales", "ONLINE RESTRICTED_USER")
}

// TestReplaceOfASimpleDatabaseThatIsNotOpenWarns: what is in it is lost.
func TestReplaceOfASimpleDatabaseThatIsNotOpenWarns(t *testing.T) {
	w := newWorld(t)
	s := w.live()
	w.exec("ALTER DATABASE sales SET RECOVERY SIMPLE; ALTER DATABASE sales SET OFFLINE")
	p, err := w.job(w.instance, plan.Target{Point: s.full}, plan.Options{Replace: true}).Preview(t.Context())
	w.must(err)
	if text := findings(p); !strings.Contains(text, "P-tail: database sales is OFFLINE") || p.Err() != nil {
		t.Errorf("%s", text)
	}
}

// blind is a server that does not tell what is at a path.
type blind struct{ server.Server }

func (b *blind) Query(ctx context.Context, text string, args ...server.Arg) (*server.Rows, error) {
	if strings.Contains(text, "xp_fileexist") {
		return nil, &server.Error{All: []server.Message{{Number: 229, Severity: 14, Text: "no right to it"}}}
	}
	return b.Server.Query(ctx, text, args...)
}

// TestReplaceOntoPathsThatNobodyKnowsIsRefused: WITH REPLACE overwrites whatever lies there.
func TestReplaceOntoPathsThatNobodyKnowsIsRefused(t *testing.T) {
	w := newWorld(t)
	s := w.live()
	moves := map[string]string{}
	p, err := w.job(w.instance, plan.Target{Point: s.full}, plan.Options{Replace: true}).Preview(t.Context())
	w.must(err)
	for _, f := range p.Plan.Files {
		moves[f.File] = `C:\Data\elsewhere_` + f.File + `.x`
	}
	for _, c := range []struct {
		o       plan.Options
		forbids bool
	}{{plan.Options{Replace: true, Moves: moves}, true}, {plan.Options{Replace: true}, false}, {plan.Options{As: "x", Moves: moves}, false}} {
		r := w.job(w.instance, plan.Target{Point: s.full}, c.o)
		r.Server = &blind{w.sql}
		p, err := r.Preview(t.Context())
		w.must(err)
		if err := p.Err(); (err != nil) != c.forbids {
			t.Errorf("%+v: %v", c.o, err)
		}
	}
}
