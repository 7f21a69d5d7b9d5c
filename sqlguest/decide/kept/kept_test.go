package kept

import (
	"strings"
	"testing"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/decide"
)

// file is a kept file of a backup that is not among ours.
func file(kind chain.Kind, number string, first, last uint32, row bool) File {
	b := ours(kind, number, first, last, now)
	header := msdbRow(b)
	k := File{Device: b.Device, Header: &header}
	if row {
		k.Row = &header
	}
	return k
}

func copied(r *chain.Row) *chain.Row { c := *r; return &c }

// TestSQL16Keep has a case for every way in which a file can end. Our newest log ends at
// 300; where SQL Server stands is said.
func TestSQL16Keep(t *testing.T) {
	unread := File{Device: "{DE000000-0000-0000-0000-000000000077}"}
	known := file(chain.Log, "04", 200, 300, true)
	other := file(chain.Log, "11", 300, 400, true)
	other.Row, other.Header = copied(other.Row), copied(other.Row)
	other.Row.Family, other.Header.Family = "F9", "F9"
	swapped := file(chain.Log, "11", 300, 400, true)
	swapped.Row = copied(swapped.Row)
	swapped.Row.Last = at(390)
	withRow := File{Device: unread.Device, Row: swapped.Row}
	running, writing := file(chain.Log, "11", 300, 400, false), unread
	running.Running, writing.Running = true, true
	copyOnly := file(chain.Full, "12", 290, 310, true)
	copyOnly.Row.CopyOnly = true
	for name, c := range map[string]struct {
		files []File
		stand uint32
		base  string
		want  string // "take DEVICE", "drop …", "stay …" with the last two digits, in order
	}{
		"log with msdb's row":                     {[]File{file(chain.Log, "11", 300, 400, true)}, 400, set1, "take 11"},
		"log by its header and its place":         {[]File{file(chain.Log, "11", 300, 400, false)}, 400, set1, "take 11"},
		"whole, and the server stands before":     {[]File{file(chain.Log, "11", 300, 400, false)}, 300, set1, "take 11"},
		"whole, and set back further":             {[]File{file(chain.Log, "11", 300, 400, false)}, 200, set1, "take 11"},
		"msdb's row, and a log of ours covers it": {[]File{file(chain.Log, "11", 200, 290, true)}, 300, set1, "take 11"},
		"log after which others came":             {[]File{file(chain.Log, "11", 300, 400, false)}, 500, set1, "stay 11"},
		"logs vouch for those before them":        {[]File{file(chain.Log, "12", 400, 500, false), file(chain.Log, "11", 300, 400, false)}, 500, set1, "take 11, take 12"},
		"log in a gap between others":             {[]File{file(chain.Log, "12", 400, 500, true), file(chain.Log, "11", 320, 400, false)}, 900, set1, "take 11, take 12"},
		"the point is here":                       {[]File{known}, 300, set1, "drop 04"},
		"log that is still being taken":           {[]File{running}, 300, set1, "stay 11"},
		"row of another backup":                   {[]File{swapped}, 400, set1, "stay 11"},
		"nobody can read it":                      {[]File{unread}, 300, set1, "drop 77"},
		"somebody may be writing it":              {[]File{writing}, 300, set1, "stay 77"},
		"unread, and a log is missing":            {[]File{unread}, 400, set1, "stay 77"},
		"unread, and msdb knows it":               {[]File{withRow}, 300, set1, "stay 77"},
		"row of another family":                   {[]File{other}, 400, set1, "stay 11"},
		"full that is the base":                   {[]File{file(chain.Full, "13", 290, 310, true)}, 300, "5E000000-0000-0000-0000-000000000013", "take 13"},
		"full that is no base any more":           {[]File{file(chain.Full, "13", 290, 310, true)}, 300, set1, "drop 13"},
		"differential":                            {[]File{file(chain.Diff, "14", 290, 310, true)}, 300, set1, "drop 14"},
		"copy-only full":                          {[]File{copyOnly}, 300, "5E000000-0000-0000-0000-000000000012", "drop 12"},
		"full without a row that is no base":      {[]File{file(chain.Full, "13", 290, 310, false)}, 300, set1, "drop 13"},
	} {
		w := newWorld()
		w.db().LastLog, w.db().Base = at(c.stand), c.base
		var got []string
		for _, f := range Decide(c.files, w.ours, w.db()) {
			what := "stay"
			if f.Take {
				what = "take"
			} else if f.Drop {
				what = "drop"
			}
			got = append(got, what+" "+strings.TrimSuffix(f.Device, "}")[len(f.Device)-3:])
			if f.Decision.Rule != decide.RuleKept || f.Decision.Reason == "" || f.Take != (f.Confirmation.State == chain.Confirmed) && what != "stay" {
				t.Errorf("%s: %+v", name, f)
			}
		}
		if all := strings.Join(got, ", "); all != c.want {
			t.Errorf("%s: %s, want %s", name, all, c.want)
		}
	}
}

// TestKeptFileOfAPointInDoubtStays: the point has its bytes, and is denied, unconfirmed
// or damaged.
func TestKeptFileOfAPointInDoubtStays(t *testing.T) {
	for _, spoil := range []func(*chain.Backup){
		func(b *chain.Backup) { b.State = chain.Denied },
		func(b *chain.Backup) { b.State = chain.Unconfirmed },
		func(b *chain.Backup) { b.Damage = "a pack is lost" },
	} {
		w := newWorld()
		spoil(&w.ours[3])
		if f := Decide([]File{file(chain.Log, "04", 200, 300, true)}, w.ours, w.db()); len(f) != 1 || f[0].Take || f[0].Drop {
			t.Errorf("%+v", f)
		}
	}
}

// TestParentOfALog is the log that ends where it begins, else the data backup that it
// opens on.
func TestParentOfALog(t *testing.T) {
	w := newWorld()
	for first, want := range map[uint32]string{300: "04", 215: "03", 105: "01", 350: ""} {
		log := ours(chain.Log, "20", first, first+40, now)
		if got := ParentOf(&log, w.ours); got != want {
			t.Errorf("parent of a log from %d is %q, want %q", first, got, want)
		}
	}
}

// TestUnreadFileBehindAnIdleFull: nothing was written between a full and the first log, so
// that the log lies in the full. Nothing is missing; where it reaches beyond, it is.
func TestUnreadFileBehindAnIdleFull(t *testing.T) {
	for first, drop := range map[uint32]bool{100: true, 105: true, 99: false} {
		w := newWorld()
		w.without("03", "04")
		log := &w.ours[1]
		log.First, log.Last = at(first), at(110) // the full is 100 to 110
		w.db().LastLog = at(110)
		f := Decide([]File{{Device: "{DE000000-0000-0000-0000-000000000077}"}}, w.ours, w.db())
		if len(f) != 1 || f[0].Drop != drop {
			t.Errorf("log from %d: %+v", first, f)
		}
	}
}
