package sqlguest

import (
	"errors"
	"slices"
	"testing"

	"holdfast/sqlguest/facts"
)

// TestDatabasesThatDifferInCaseAreTwo: a server with a case-sensitive collation has
// both, and each is what it is.
func TestDatabasesThatDifferInCaseAreTwo(t *testing.T) {
	at := &facts.Instance{Name: `SQL01\CS`}
	all := []facts.Database{{ID: 5, Name: "Sales", Family: "F1", GUID: "G1"}, {ID: 6, Name: "sales", Family: "F2", GUID: "G2"}, {ID: 7, Name: "Stock", Family: "F3", GUID: "G3"}}
	for _, c := range []struct {
		only, except []string
		want         []string
	}{
		{nil, nil, []string{"Sales", "sales", "Stock"}},
		{[]string{"sales"}, nil, []string{"sales"}},
		{[]string{"Sales"}, nil, []string{"Sales"}},
		{[]string{"STOCK"}, nil, []string{"Stock"}},
		{nil, []string{"sales"}, []string{"Sales", "-sales", "Stock"}},
		{[]string{"SALES"}, nil, nil},
		{[]string{"sale"}, nil, nil},
		{nil, []string{"SALES"}, nil},
		{nil, []string{"sale", "nobody's", "stoc", "?", "["}, []string{"Sales", "sales", "Stock"}},
		{nil, []string{"SALE?"}, []string{"-Sales", "-sales", "Stock"}},
		{nil, []string{"s*k", "*a*s"}, []string{"-Sales", "-sales", "-Stock"}},
		{[]string{"Stock", "sal*"}, nil, nil},
	} {
		r := &Run{Databases: c.only, Exclude: c.except, Label: "sql/CS"}
		jobs, err := r.choose(at, all)
		var got []string
		for _, j := range jobs {
			name := j.name
			if j.request.Excluded {
				name = "-" + name
			}
			got = append(got, name)
		}
		if !slices.Equal(got, c.want) || (err != nil) != (c.want == nil) || err != nil && !errors.Is(err, ErrNoDatabase) {
			t.Errorf("only %q except %q: %q, want %q (%v)", c.only, c.except, got, c.want, err)
		}
	}
	if PlaceOf(at) != `sql01\cs` {
		t.Errorf("place %q", PlaceOf(at))
	}
}
