package wal

import (
	"reflect"
	"testing"
	"time"

	"holdfast/sqlguest/lab/storage/filesystem"
	"holdfast/sqlguest/lab/storage/page"
	"holdfast/sqlguest/lsn"
)

func sample() Record {
	return Record{Tx: 7, Op: Commit, Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Page: page.ID{File: 1, Page: 9}, Format: true, Undo: true,
		Ranges: []page.Range{{Offset: 5, Before: []byte("ab"), After: []byte("cd")}}, Mark: Mark{"m", "d", "u"}, Text: []byte("text"), Pages: []page.ID{{File: 3, Page: 1}}}
}

func newLog(t *testing.T, fs *filesystem.Memory) *Log {
	t.Helper()
	file, err := fs.Create("log")
	if err != nil {
		t.Fatal(err)
	}
	l, err := Create(file, lsn.LSN{})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLSNsGrowWhateverHappens(t *testing.T) {
	fs := &filesystem.Memory{}
	l := newLog(t, fs)
	last := lsn.LSN{}
	for i := range 6000 {
		at, err := l.Append(sample())
		if err != nil {
			t.Fatal(err)
		}
		if !last.Less(at) {
			t.Fatalf("record %d has %s after %s", i, at, last)
		}
		last = at
		switch i % 10 {
		case 3:
			l.CloseBlock()
		case 7: // as after a restore that stopped here
			if err := l.SetEnd(l.End()); err != nil {
				t.Fatal(err)
			}
			end := l.End()
			l.CloseBlock()
			if !end.Less(l.End()) {
				t.Fatalf("a closed block goes from %s back to %s", end, l.End())
			}
		case 9:
			if err := l.Truncate(last); err != nil {
				t.Fatal(err)
			}
		}
	}
	if last.VLF == 34 {
		t.Error("the log never came to another virtual log file")
	}
	if size, _ := l.file.Size(); size > 2<<20 {
		t.Errorf("a log that was truncated all the time has %d bytes", size)
	}
}

func TestLogEndsWhereItWasTorn(t *testing.T) {
	fs := &filesystem.Memory{}
	l := newLog(t, fs)
	for range 5 {
		if _, err := l.Append(sample()); err != nil {
			t.Fatal(err)
		}
	}
	want := l.From(lsn.LSN{})
	if err := l.file.Truncate(l.end - 3); err != nil {
		t.Fatal(err)
	}
	file, err := fs.Open("log")
	if err != nil {
		t.Fatal(err)
	}
	again, err := Open(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := again.From(lsn.LSN{}); !reflect.DeepEqual(got, want[:4]) {
		t.Fatalf("%d records after the tear, want 4", len(got))
	}
	if at, err := again.Append(sample()); err != nil || at != want[4].LSN {
		t.Errorf("the log goes on at %s (%v), want %s", at, err, want[4].LSN)
	}
}

func TestForeignFileIsNoLog(t *testing.T) {
	fs := &filesystem.Memory{}
	if err := filesystem.WriteFile(fs, "x", make([]byte, 100<<10)); err != nil {
		t.Fatal(err)
	}
	file, _ := fs.Open("x")
	if _, err := Open(file); err == nil {
		t.Error("zeros were taken for a log")
	}
	if _, err := ReadNote(file); err == nil {
		t.Error("zeros were taken for a log's header")
	}
}

func FuzzDecode(f *testing.F) {
	r := sample()
	f.Add(r.Encode(nil))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Decode(b)
		if err != nil {
			return
		}
		again, err := Decode(r.Encode(nil))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(normal(r), normal(again)) {
			t.Fatalf("%+v became %+v", r, again)
		}
	})
}

// normal makes empty and missing slices alike.
func normal(r Record) Record {
	if len(r.Text) == 0 {
		r.Text = nil
	}
	if r.Mark.Name == "" {
		r.Mark = Mark{}
	}
	return r
}
