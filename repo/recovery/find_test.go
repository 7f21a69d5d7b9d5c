package recovery_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"holdfast/repo/image"
	"holdfast/repo/recovery"
)

func points(words ...string) []recovery.Brief {
	var all []*recovery.Point
	for _, w := range words {
		id, source, _ := strings.Cut(w, " ")
		kind := recovery.VM
		if strings.HasPrefix(source, "sql/") {
			kind = recovery.SQLLog
		}
		source, identity, given := strings.Cut(source, " ")
		if !given {
			identity = source
		}
		all = append(all, &recovery.Point{ID: id, Kind: kind, Source: source, Identity: identity})
	}
	return recovery.BriefsOf(all)
}

var several = points(
	"aaaa000000000001 vm/web01",
	"aaaa100000000002 vm/db01",
	"bbbb000000000003 vm/web01",
	"cccc000000000004 image/web02",
	"dddd000000000005 sql/HOST/db01",
	"0123456789abcdef vm/x/y",
)

func TestFindResolvesWhatAnOperatorTypes(t *testing.T) {
	for spec, want := range map[string]string{
		"aaaa000000000001": "aaaa000000000001", "aaaa0": "aaaa000000000001", "aaaa1": "aaaa100000000002", "AAAA1": "aaaa100000000002", "BBBB": "bbbb000000000003",
		"0123456789ABCDEF": "0123456789abcdef", "latest": "0123456789abcdef", "latest:": "0123456789abcdef", "latest:vm/web01": "bbbb000000000003",
		"latest:web01": "bbbb000000000003", "latest:web02": "cccc000000000004", "latest:sql/HOST/db01": "dddd000000000005", "latest:HOST/db01": "dddd000000000005", "latest:host/DB01": "dddd000000000005", "latest:y": "0123456789abcdef",
	} {
		if p, err := recovery.Find(several, spec); err != nil || p.ID() != want {
			t.Errorf("find %q: %+v %v, not %s", spec, p, err, want)
		}
	}
	for spec, want := range map[string]error{
		"": recovery.ErrUnknown, "a": recovery.ErrUnknown, "aaa": recovery.ErrUnknown, "bbb": recovery.ErrUnknown, "aaaa": recovery.ErrAmbiguous,
		"eeee": recovery.ErrUnknown, "bbbb0000000000031": recovery.ErrUnknown, "latest:db01": recovery.ErrAmbiguous, "latest:nobody": recovery.ErrUnknown,
		"latest:WEB01": recovery.ErrUnknown, "latest:web0": recovery.ErrUnknown, "latest:OST/db01": recovery.ErrUnknown, "latest:VM/web01": recovery.ErrUnknown, "Latest": recovery.ErrUnknown,
		"vm/web01": recovery.ErrUnknown, "latestweb01": recovery.ErrUnknown,
	} {
		if p, err := recovery.Find(several, spec); !errors.Is(err, want) || p != nil {
			t.Errorf("find %q: %+v %v, not %v", spec, p, err, want)
		}
	}
	for _, spec := range []string{"latest", "latest:web01", "aaaa0"} {
		if _, err := recovery.Find(nil, spec); !errors.Is(err, recovery.ErrUnknown) {
			t.Errorf("find %q among nothing: %v", spec, err)
		}
	}
}

func TestMatchSourceNamesAllThatFit(t *testing.T) {
	if _, err := recovery.MatchSource(several, "db01"); !errors.Is(err, recovery.ErrAmbiguous) || !strings.Contains(err.Error(), "sql/HOST/db01 or vm/db01") {
		t.Errorf("db01: %v", err)
	}
	// A whole name wins over another's last part.
	odd := points("1111000000000001 image/web01", "1111000000000002 web01")
	if got := meant(t, odd, "web01"); got != "1111000000000002" {
		t.Errorf("web01: %q", got)
	}
	if got := meant(t, several, "web02"); got != "cccc000000000004" {
		t.Errorf("web02: %q", got)
	}
}

// meant are the ids of points that a word means.
func meant(t *testing.T, all []recovery.Brief, spec string) string {
	s, err := recovery.MatchSource(all, spec)
	switch {
	case errors.Is(err, recovery.ErrAmbiguous):
		return "ambiguous"
	case errors.Is(err, recovery.ErrUnknown):
		return "unknown"
	case err != nil:
		t.Error(err)
	}
	var ids []string
	for i := range all {
		if s.Has(&all[i]) {
			ids = append(ids, all[i].ID())
		}
	}
	return strings.Join(ids, " ")
}

// One database through its VM and as an instance, renamed, made anew: its points are
// found by any of its names, and those of another that has the name now are not.
func TestSourceOfADatabaseIsItsIdentity(t *testing.T) {
	all := points("a1 sql/sql01/sales 1", "a2 sql/SQL01/sales 1", "a3 sql/sql01/sales 1",
		"b1 sql/sql01/shop 2", "b2 sql/SQL01/shop 3",
		"c1 sql/sql01/was 4", "c2 sql/sql01/is 4", "d1 sql/sql01/gone 5", "d2 sql/sql01/stays 5", "d3 sql/sql01/gone 6",
		"e1 sql/sql01/Case 7", "e2 sql/sql01/case 8", "f1 sql/db02/other 9", "f2 sql/sql01/other 10", "g1 sql/sql01/a/b 11", "h1 vm/Vm 12")
	for spec, want := range map[string]string{
		"sales": "a1 a2 a3", "SALES": "a1 a2 a3", "sql01/sales": "a1 a2 a3", "SQL01/sales": "a1 a2 a3", "sql/Sql01/Sales": "a1 a2 a3",
		"shop": "b1 b2", "SQL01/shop": "b1 b2",
		"was": "c1 c2", "sql/sql01/is": "c1 c2",
		"gone": "d3", "stays": "d1 d2",
		"case": "e2", "SQL01/Case": "e1", "CASE": "ambiguous",
		"other": "ambiguous", "db02/other": "f1", "DB02/OTHER": "f1",
		"a/b": "g1", "b": "g1", "Sql01/a/b": "g1", "01/sales": "unknown", "": "unknown",
		"Vm": "h1", "vm": "unknown",
	} {
		if got := meant(t, all, spec); got != want {
			t.Errorf("%q means %q, want %q", spec, got, want)
		}
	}
}

func TestItemsAndDisks(t *testing.T) {
	var none *recovery.Point
	if none.Item("x") != nil {
		t.Error("an item of no point")
	}
	p := &recovery.Point{Items: []recovery.Item{{Name: "vmx", Inline: []byte("x")}, {Name: "disk-2000", Disk: &image.Map{}}, {Name: "disk-2001", Disk: &image.Map{}}}}
	if p.Item("disk-2001") != &p.Items[2] || p.Item("disk") != nil {
		t.Errorf("items: %+v %+v", p.Item("disk-2001"), p.Item("disk"))
	}
	if disks := p.Disks(); len(disks) != 2 || disks[0].Name != "disk-2000" || p.Items[0].IsDisk() {
		t.Errorf("disks: %+v", disks)
	}
}

func FuzzFind(f *testing.F) {
	for _, spec := range []string{"", "latest", "latest:", "latest:web01", "latest:vm/", "latest:/", "aaaa", "AAAA1", "0123456789abcdef", "\xff\xfe\xfd\xfc", "latest:latest:"} {
		f.Add(spec)
	}
	f.Fuzz(func(t *testing.T, spec string) {
		p, err := recovery.Find(several, spec)
		switch {
		case err != nil:
			if p != nil || !errors.Is(err, recovery.ErrUnknown) && !errors.Is(err, recovery.ErrAmbiguous) {
				t.Fatalf("%q: %+v %v", spec, p, err)
			}
		case !slices.Contains(several, *p):
			t.Fatalf("%q found a point that is not there", spec)
		case !strings.HasPrefix(spec, "latest") && (len(spec) < 4 || !strings.HasPrefix(p.ID(), strings.ToLower(spec))):
			t.Fatalf("%q found %s", spec, p.ID())
		}
	})
}
