package plan

import (
	"errors"
	"strings"
	"testing"
	"time"

	"holdfast/sqlguest/chain"
)

// remarked is a database that was restored back to 260 and went on with another fork: a
// mark in the log that was left, and two in the one that took its place.
func remarked() []chain.Backup {
	mark := func(block uint32, minute int) chain.Mark {
		return chain.Mark{Name: "payday", LSN: l(block), At: time.Date(2026, 3, 2, 8, minute, 0, 7e6, cet)}
	}
	on := func(fork string, b chain.Backup) chain.Backup { b.Fork, b.FirstFork = fork, fork; return b }
	s := on("BBBB2222-1", set(chain.Log, "S", 200, 400, 40))
	s.FirstFork, s.ForkPoint = "AAAA1111-1", l(260)
	old := on("AAAA1111-1", set(chain.Log, "L2", 200, 300, 20))
	old.Marks, s.Marks = []chain.Mark{mark(280, 15)}, []chain.Mark{mark(300, 33), mark(350, 36)}
	return []chain.Backup{on("AAAA1111-1", set(chain.Full, "A", 100, 110, 0)), on("AAAA1111-1", set(chain.Log, "L1", 100, 200, 10)), old, s}
}

// TestAMarkOnAnotherHistoryIsNotPassedOverSilently: the history that the database is on
// goes first, and who asks for the first one behind a time hears of an earlier one.
func TestAMarkOnAnotherHistoryIsNotPassedOverSilently(t *testing.T) {
	after := func(minute int) time.Time { return time.Date(2026, 3, 2, 8, minute, 0, 0, cet) }
	one := remarked()
	one[3].Marks = one[3].Marks[:1]
	lost := remarked()
	lost[2].Damage = "lost"
	for _, x := range []struct {
		what    string
		backups []chain.Backup
		target  Target
		fork    string
		want    string
		warning string
	}{
		{"an earlier one", remarked(), Target{Mark: "payday", After: after(12)}, "", "A L1 S?", "an earlier transaction with that mark, at 2026-03-02T08:15:00.007+01:00, is on another history: --fork AAAA1111 takes it"},
		{"taken", remarked(), Target{Mark: "payday", After: after(12)}, "AAAA1111", "A L1 L2?", ""},
		{"behind it", remarked(), Target{Mark: "payday", After: after(20)}, "", "A L1 S?", ""},
		{"by name alone", one, Target{Mark: "payday"}, "", "A L1 S?", "another transaction with that mark, at 2026-03-02T08:15:00.007+01:00, is on another history: --fork AAAA1111 takes it"},
		{"one that cannot be reached", lost, Target{Mark: "payday", After: after(12)}, "", "A L1 S?", ""},
	} {
		p, err := Make(x.target, x.backups, Options{Fork: x.fork})
		if got := told(p, err); got != x.want || strings.Join(p.Warnings, "|") != x.warning {
			t.Errorf("%s: %q, %q; want %q, %q", x.what, got, p.Warnings, x.want, x.warning)
		}
	}
	_, err := Make(Target{Mark: "payday"}, remarked(), Options{})
	var a *Ambiguous
	if !errors.As(err, &a) || len(a.Readings) != 3 || a.Readings[2].Fork != "AAAA1111-1" || a.Readings[0].Fork != "BBBB2222-1" {
		t.Fatalf("%v", err)
	}
	if text := err.Error(); !strings.Contains(text, " on fork AAAA1111") || strings.Count(text, " on fork BBBB2222") != 2 {
		t.Error(text)
	}
}
