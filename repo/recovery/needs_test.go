package recovery_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"holdfast/repo/recovery"
)

// TestNeedsOfAPoint: a differential needs its full and a log all that leads to it,
// through every step; nothing else comes along, nor does what is chosen itself.
func TestNeedsOfAPoint(t *testing.T) {
	full, diff, log := db+"sql-full ", db+"sql-diff ", db+"sql-log "
	points := briefs(series("f1"+full, "l1"+log+"f1", "f2"+full, "d2"+diff+"f2", "l2"+log+"l1", "l3"+log+"l2",
		"o1 sql/x/other sql-full", "v1 vm/v vm", "v2 vm/v vm v1", "d9"+diff+"f8-gone"))
	for chosen, want := range map[string]string{
		"d2":       "f2<d2 short:",
		"f2":       "short:",
		"v2":       "short:",
		"l1":       "f1<l1 short:",
		"d2 f2 v2": "short:",
		"d9":       "short: d9",
		"d9 d2":    "f2<d2 short: d9",
	} {
		need := recovery.Needs(points, func(id string) bool { return slices.Contains(strings.Fields(chosen), id) }, nil)
		if got := spell(need); got != want {
			t.Errorf("%s: %q, not %q", chosen, got, want)
		}
	}
	l3 := recovery.Needs(points, func(id string) bool { return id == "l3" }, nil)
	if _, takes := l3.By["l2"]; !takes || len(l3.Short) > 0 {
		t.Errorf("a log and the one before it: %v", l3)
	}
	if _, foreign := l3.By["o1"]; foreign {
		t.Errorf("a log needs another database: %v", l3)
	}
}

// TestNeedsOfAChainThatCannotBeTold: parents then tell what goes together.
func TestNeedsOfAChainThatCannotBeTold(t *testing.T) {
	points := briefs(series("f1"+db+"sql-full", "d1"+db+"sql-diff f1"))
	lost := func(string, []string) (recovery.Chain, error) { return nil, errors.New("a point cannot be read") }
	if got := spell(recovery.Needs(points, func(id string) bool { return id == "d1" }, lost)); got != "f1<d1 short:" {
		t.Errorf("%q", got)
	}
}

func spell(n recovery.Need) string {
	var list []string
	for _, id := range slices.Sorted(maps.Keys(n.By)) {
		list = append(list, id+"<"+n.By[id])
	}
	return strings.TrimSpace(strings.Join(list, " ") + " short: " + strings.Join(n.Short, " "))
}
