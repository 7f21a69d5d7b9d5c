package chain

import "testing"

// TestAGapIsNoneWhereAnotherHistoryReachesIt: a history that left inside a log knows that
// log no more, and what the log holds before that place is the same on both.
func TestAGapIsNoneWhereAnotherHistoryReachesIt(t *testing.T) {
	a, b := set(Full, "A", 100, 110), ruled("Q21", set(Full, "B", 250, 260))
	held, left := set(Log, "L", 110, 300), spans("F1", "F2", at(260), set(Log, "S", 260, 400))
	for _, x := range []struct {
		what string
		all  []Backup
		want []string
	}{
		{"the log is there", timed(a, b, held, left), []string{"110, 260-400", "110-300"}},
		{"no log is there", timed(a, b, left), []string{"110, 260-400, gap 110-260 B"}},
		{"the log is damaged", timed(a, b, damaged(held), left), []string{"110, 260-400, gap 110-260 B", "110, 260, damage 110-300 L, broken"}},
		{"it leads from later on", timed(a, b, set(Log, "L", 150, 300), left), []string{"110, 260-400, gap 110-260 B", "110, 260-300, gap 110-260 B"}},
	} {
		var got []string
		for _, l := range Describe(x.all, nil).Lines {
			got = append(got, drawn(l.Reach))
		}
		if len(got) != len(x.want) {
			t.Errorf("%s: %q; want %q", x.what, got, x.want)
			continue
		}
		for i := range got {
			if got[i] != x.want[i] {
				t.Errorf("%s: line %d: %q; want %q", x.what, i, got[i], x.want[i])
			}
		}
	}
}
