package facts

import (
	"slices"
	"strings"
	"testing"

	"holdfast/sqlguest/chain"
)

// TestM1112SetOf: tempdb, which is made anew at each start, snapshots and copies beside
// their database are none of the set; one that cannot be opened stays in it.
func TestM1112SetOf(t *testing.T) {
	db := func(id int, name, guid string) Database {
		return Database{ID: id, Name: name, Files: []File{{File: chain.File{ID: 2, GUID: guid + " log"}}, {File: chain.File{ID: 1, GUID: guid}}}}
	}
	of := func(list ...Database) string {
		except, _, err := Except([]string{"Left*"}, &Instance{}, list)
		if err != nil {
			t.Fatal(err)
		}
		return SetOf(list, except, []string{"Left*"})
	}
	base := []Database{db(1, "master", "M"), db(2, "tempdb", "T1"), db(5, "sales", "S")}
	snapshot := db(9, "picture", "P")
	snapshot.SnapshotOf = 5
	for _, x := range []struct {
		what string
		list []Database
		same bool
	}{
		{"another order", []Database{base[2], base[0], base[1]}, true},
		{"another tempdb", []Database{base[0], db(2, "tempdb", "T2"), base[2]}, true},
		{"a snapshot", append(slices.Clone(base), snapshot), true},
		{"a copy", append(slices.Clone(base), db(6, "copy", "S")), true},
		{"renamed", []Database{base[0], base[1], db(5, "sold", "S")}, true},
		{"left out", append(slices.Clone(base), db(6, "leftover", "L")), true},
		{"come", append(slices.Clone(base), db(6, "fresh", "F")), false},
		{"gone", base[:2], false},
		{"another of that name", []Database{base[0], base[1], db(5, "sales", "Z")}, false},
	} {
		if same := of(x.list...) == of(base...); same != x.same {
			t.Errorf("%s: the same set: %v", x.what, same)
		}
	}
	scheme, _, _ := strings.Cut(of(base...), ":")
	if other, _, _ := strings.Cut(SetOf(base, nil, []string{"left?"}), ":"); other == scheme {
		t.Error("runs that leave out others can be compared")
	}
	if alike, _, _ := strings.Cut(SetOf(base, nil, []string{"LEFT*", "left*"}), ":"); alike != scheme {
		t.Error("the same names in another case cannot be compared")
	}
}
