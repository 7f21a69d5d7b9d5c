package heads

import (
	"os"
	"path/filepath"
	"testing"

	"holdfast/repo/ledger"
)

func sid(src, rand byte) ledger.SID {
	hex := func(b byte) string { return string([]byte{b, b, b, b, b, b, b, b, b, b, b, b, b, b, b, b}) }
	return ledger.SID{Gen: 1, Src: hex(src), Rand: hex(rand)}
}

func TestNewestOfEachSourceIsRemembered(t *testing.T) {
	dir := t.TempDir()
	h := Open(dir, "/srv/backup")
	for _, s := range []ledger.SID{sid('a', '1'), sid('b', '2'), sid('a', '3')} {
		if err := h.Saw(s); err != nil {
			t.Fatal(err)
		}
	}
	h = Open(dir, "/srv/backup")
	if gone := h.Of(""); len(gone) != 2 {
		t.Errorf("gone: %v", gone)
	}
	if gone := h.Of(sid('a', '0').Src); len(gone) != 1 || gone[0] != sid('a', '3') {
		t.Errorf("gone of a: %v", gone)
	}
	if err := h.Drop(sid('a', '1')); err != nil || len(h.Of("")) != 2 {
		t.Errorf("one that is not the newest was dropped: %v, %v", h.Of(""), err)
	}
	if err := h.Drop(sid('a', '3')); err != nil {
		t.Fatal(err)
	}
	if left := Open(dir, "/srv/backup").Of(""); len(left) != 1 || left[0] != sid('b', '2') {
		t.Errorf("after a drop: %v", left)
	}
	none := Open("", "/srv/backup")
	if err := none.Saw(sid('a', '1')); err != nil || len(none.Of("")) != 0 {
		t.Errorf("without a folder: %v", err)
	}
}

// TestMissedPointIsRememberedBesideTheNewest: the next one does not take its place.
func TestMissedPointIsRememberedBesideTheNewest(t *testing.T) {
	dir := t.TempDir()
	h := Open(dir, "/srv/backup")
	gone := sid('a', '1')
	for _, err := range []error{h.Saw(gone), h.Miss(gone), h.Miss(gone), h.Saw(sid('a', '2'))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	h = Open(dir, "/srv/backup")
	if of, missed := h.Of(""), h.Missed(); len(of) != 1 || of[0] != sid('a', '2') || len(missed) != 1 || missed[0] != gone {
		t.Errorf("newest %v, missed %v", of, missed)
	}
	if err := h.Drop(gone); err != nil || len(h.Missed()) != 0 || len(Open(dir, "/srv/backup").Missed()) != 0 || len(h.Of("")) != 1 {
		t.Errorf("dropped: %v, missed %v, newest %v", err, h.Missed(), h.Of(""))
	}
}

// TestCopyAtAnotherPlaceHasAMemoryOfItsOwn: it is the same repository by its id, and
// lacks what was made since.
func TestCopyAtAnotherPlaceHasAMemoryOfItsOwn(t *testing.T) {
	dir := t.TempDir()
	if err := Open(dir, "/srv/backup").Saw(sid('a', '1')); err != nil {
		t.Fatal(err)
	}
	if gone := Open(dir, "/mnt/copy").Of(""); len(gone) != 0 {
		t.Errorf("the copy is said to have lost %v", gone)
	}
	if gone := Open(dir, "/srv/backup").Of(""); len(gone) != 1 {
		t.Errorf("gone at the first place: %v", gone)
	}
}

// FuzzHeads: a file that anybody may have written is begun anew or believed, and
// never more.
func FuzzHeads(f *testing.F) {
	f.Add([]byte(`{"aaaaaaaaaaaaaaaa":"00000001-aaaaaaaaaaaaaaaa-1111111111111111"}`))
	f.Add([]byte(`null`))
	f.Add([]byte(`{"x":"y"`))
	f.Fuzz(func(t *testing.T, text []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, fileName("/srv/backup")), text, 0o600); err != nil {
			t.Fatal(err)
		}
		h := Open(dir, "/srv/backup")
		for _, s := range h.Of("") {
			if _, err := ledger.ParseSID(s.String()); err != nil {
				t.Errorf("%v: %v", s, err)
			}
		}
		if err := h.Saw(sid('a', '1')); err != nil {
			t.Fatal(err)
		}
		if gone := Open(dir, "/srv/backup").Of(sid('a', '1').Src); len(gone) != 1 {
			t.Errorf("after a new one: %v", gone)
		}
	})
}
