package page

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"holdfast/sqlguest/lab/value"
	"holdfast/sqlguest/lsn"
)

// TestRowsLiveThroughAnyOrderOfChanges compares a page with a map, and what Diff
// says with what it does when it is applied and undone.
func TestRowsLiveThroughAnyOrderOfChanges(t *testing.T) {
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 1))
		p := make(Page, Bytes)
		p.Init(ID{1, 20}, 7)
		rows := map[int][]byte{}
		for range 300 {
			before := append(Page(nil), p...)
			row := bytes.Repeat([]byte{byte(r.Uint32())}, r.IntN(400))
			i := r.IntN(p.Slots() + 1)
			switch _, there := rows[i]; {
			case r.IntN(2) == 0:
				if i, ok := p.Insert(row); ok {
					rows[i] = row
				}
			case there && r.IntN(2) == 0:
				p.Delete(i)
				delete(rows, i)
			case there:
				if p.Replace(i, row) {
					rows[i] = row
				}
			}
			ranges := Diff(before, p)
			p.Stamp(lsn.LSN{VLF: 1, Block: r.Uint32(), Slot: 1})
			again, back := append(Page(nil), before...), append(Page(nil), p...)
			again.Apply(ranges, false)
			again.Stamp(p.LSN())
			back.Apply(ranges, true)
			back.Stamp(before.LSN())
			before.Stamp(before.LSN())
			if !bytes.Equal(again, p) || !bytes.Equal(back, before) {
				t.Fatalf("seed %d: a change does not redo or undo", seed)
			}
		}
		for i := range p.Slots() {
			row, ok := p.Row(i)
			if want, there := rows[i]; ok != there || !bytes.Equal(row, want) {
				t.Fatalf("seed %d: slot %d has %d bytes (%v), want %d (%v)", seed, i, len(row), ok, len(want), there)
			}
		}
	}
}

func TestDamageShows(t *testing.T) {
	p := make(Page, Bytes)
	if !p.Intact() {
		t.Error("an empty page is intact")
	}
	p.Init(ID{1, 3}, 1)
	p.Stamp(lsn.LSN{VLF: 1})
	for _, at := range []int{0, 20, 22, 33, 4000, Bytes - 1} {
		p[at] ^= 4
		if p.Intact() {
			t.Errorf("byte %d is damaged and nobody sees it", at)
		}
		p[at] ^= 4
	}
	if !p.Intact() || p.ID() != (ID{1, 3}) {
		t.Error("the page is whole again")
	}
}

func FuzzDecodeRow(f *testing.F) {
	n, _ := value.ParseNumber("1.50")
	row, err := EncodeRow([]any{nil, true, int64(-1), 2.5, "text", []byte{1}, value.GUID{}, n, time.Unix(1, 2).UTC()})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(row)
	f.Add([]byte{1, 99})
	f.Fuzz(func(t *testing.T, b []byte) {
		values, err := DecodeRow(b)
		if err != nil {
			return
		}
		again, err := EncodeRow(values)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeRow(again); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzPageOfAnyBytes(f *testing.F) {
	p := make(Page, Bytes)
	p.Init(ID{1, 1}, 1)
	p.Insert([]byte("row"))
	f.Add([]byte(p[:64]), 0)
	f.Fuzz(func(_ *testing.T, head []byte, slot int) {
		p := make(Page, Bytes)
		copy(p, head)
		p.Row(slot) // reads, and does not fall over
		p.Intact()
	})
}
