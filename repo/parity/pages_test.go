package parity

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
)

// threePages is the smallest shape in use here with several header pages.
func threePages(t testing.TB) Shape {
	s := shapeFor(t, Standard, 10<<20)
	if s.Pages() != 3 {
		t.Fatalf("%v has %d pages", s, s.Pages())
	}
	return s
}

func TestOneBadSectorInHAndOneInHPrime(t *testing.T) {
	s := threePages(t)
	obj := build(t, s)
	for i := range s.Pages() {
		for j := range s.Pages() {
			damaged := bytes.Clone(obj)
			spoil(damaged, i*PageBytes, PageBytes)
			spoil(damaged, len(obj)-(j+1)*PageBytes, PageBytes)
			what := fmt.Sprintf("pages %d of H and %d of H′", i, j)
			if i == 0 && j == 0 {
				if got, _, err := Heal(damaged); got != nil || !errors.Is(err, ErrLost) {
					t.Fatalf("%s: %v", what, err)
				}
				continue
			}
			mustHeal(t, what, damaged, obj)
		}
	}
}

// When both copies of a page are gone its cells count as good until the row's
// parity says otherwise.
func TestLostSumsAndBadCellsInTheSameRows(t *testing.T) {
	s := threePages(t)
	obj := build(t, s)
	rows := s.Rows()
	from, _ := pageCells(1) // cell 991 and on have no sums: shard 24 row 31 and on
	inside, outside := from/rows+3, from/rows-3
	for name, c := range map[string]struct {
		cells []int
		ok    bool
	}{
		"none":                            {nil, true},
		"one with its sum":                {[]int{outside*rows + 5}, true},
		"one without":                     {[]int{inside*rows + 5}, true},
		"two without in one row":          {[]int{inside*rows + 5, (inside+2)*rows + 5}, true},
		"three without in one row":        {[]int{inside*rows + 5, (inside+2)*rows + 5, (inside+4)*rows + 5}, true},
		"one with, three without":         {[]int{outside*rows + 5, inside*rows + 5, (inside+2)*rows + 5, (inside+4)*rows + 5}, true},
		"four with":                       {[]int{rows + 5, 2*rows + 5, 3*rows + 5, 4*rows + 5}, true},
		"four with, one without":          {[]int{rows + 5, 2*rows + 5, 3*rows + 5, 4*rows + 5, inside*rows + 5}, false},
		"four without, nothing to prove":  {[]int{inside*rows + 5, (inside+1)*rows + 5, (inside+2)*rows + 5, (inside+4)*rows + 5}, false},
		"one without, in different rows":  {[]int{inside*rows + 5, inside*rows + 6, inside*rows + 7}, true},
		"with and without, several rows ": {[]int{outside*rows + 5, inside*rows + 5, inside*rows + 7, rows + 9}, true},
	} {
		t.Run(name, func(t *testing.T) {
			damaged := bytes.Clone(obj)
			spoil(damaged, PageBytes+17, 5)
			spoil(damaged, len(obj)-2*PageBytes+900, 5)
			for i, cell := range c.cells {
				spoil(damaged, s.CellOffset(cell)+40*i, 1+i*7)
			}
			if c.ok {
				mustHeal(t, name, damaged, obj)
				return
			}
			if _, d, err := Heal(damaged); !errors.Is(err, ErrLost) || d.Healable() {
				t.Fatalf("%v, %v", d, err)
			}
		})
	}
}

func TestLostSumsWithoutParityAreUnproven(t *testing.T) {
	s := shapeFor(t, Off, 10<<20)
	obj := build(t, s)
	damaged := bytes.Clone(obj)
	spoil(damaged, PageBytes, 1)
	spoil(damaged, len(obj)-2*PageBytes, 1)
	part, d, err := Heal(damaged)
	if !errors.Is(err, ErrLost) || d.Unproven == 0 || len(d.Lost) != 0 {
		t.Fatalf("%v, %v", d, err)
	}
	if at := s.DataOffset(); !bytes.Equal(part[at:at+s.DataBytes()], obj[at:at+s.DataBytes()]) {
		t.Fatal("the reader with the key does not get the data")
	}
}

func TestTruncatedHeadsAndTailsHealAsFarAsParityReaches(t *testing.T) {
	for _, s := range []Shape{shapeFor(t, Standard, 1), shapeFor(t, Standard, 16<<10), shapeFor(t, Strong, 64<<10), shapeFor(t, Off, 1)} {
		t.Run(fmt.Sprint(s), func(t *testing.T) {
			obj := build(t, s)
			promised := s.DataOffset() + s.M*s.ShardBytes // H′ and every parity shard
			for cut := 1; cut <= len(obj); cut += 1 + cut%37 {
				for name, damaged := range map[string][]byte{"tail": obj[:len(obj)-cut], "head": obj[cut:]} {
					got, d, err := Heal(damaged)
					switch {
					case err == nil && !bytes.Equal(got, obj):
						t.Fatalf("%s cut by %d: healed to other bytes", name, cut)
					case err != nil && !errors.Is(err, ErrLost):
						t.Fatalf("%s cut by %d: %v", name, cut, err)
					case err != nil && cut <= promised:
						t.Fatalf("%s cut by %d: %v, %v", name, cut, d, err)
					case err == nil && d.Length != -cut:
						t.Fatalf("%s cut by %d: length off by %d", name, cut, d.Length)
					}
				}
			}
		})
	}
}

func TestBytesTooManyOrMissingInTheMiddleHeal(t *testing.T) {
	s := shapeFor(t, Standard, 200<<10)
	obj := build(t, s)
	junk := bytes.Repeat([]byte{0xa5}, 5000)
	for name, damaged := range map[string][]byte{
		"appended":         append(bytes.Clone(obj), junk...),
		"prepended":        append(bytes.Clone(junk), obj...),
		"inserted":         append(append(bytes.Clone(obj[:100_001]), junk...), obj[100_001:]...),
		"cut from middle":  append(bytes.Clone(obj[:100_001]), obj[103_000:]...),
		"appended a zero":  append(bytes.Clone(obj), 0),
		"prepended a page": append(make([]byte, PageBytes), obj...),
	} {
		if name == "cut from middle" {
			got, d, err := Heal(damaged)
			if err != nil || !bytes.Equal(got, obj) {
				t.Errorf("%s: %v, %v", name, d, err)
			}
			continue
		}
		mustHeal(t, name, damaged, obj)
	}
}

func TestHeaderRefusesWhatItDoesNotKnow(t *testing.T) {
	obj := build(t, shapeFor(t, Standard, 1))
	for name, c := range map[string]struct {
		at    int
		value byte
		want  error
	}{
		"magic":           {0, 'h', ErrBadPage},
		"version":         {8, 2, ErrUnsupported},
		"kind 0":          {9, 0, ErrUnsupported},
		"kind 12":         {9, 12, ErrUnsupported},
		"suite 0":         {10, 0, ErrUnsupported},
		"suite 2":         {10, 2, ErrUnsupported},
		"byte 11":         {11, 1, ErrUnsupported},
		"shape":           {32, 2, ErrUnsupported},
		"huge shard":      {39, 0xff, ErrUnsupported},
		"reserved first":  {40, 1, ErrUnsupported},
		"reserved last":   {127, 1, ErrUnsupported},
		"sum of no cell":  {128 + 4*3, 1, ErrUnsupported},
		"last sum unused": {checkAt - 1, 1, ErrUnsupported},
	} {
		page := bytes.Clone(obj[:PageBytes])
		page[c.at] = c.value
		sealPage(page, 0)
		if _, err := ReadHeader(page); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		both := bytes.Clone(obj)
		copy(both, page)
		copy(both[len(both)-PageBytes:], page)
		want := c.want
		if want == ErrBadPage {
			want = ErrLost
		}
		if _, _, err := Inspect(both); !errors.Is(err, want) {
			t.Errorf("%s in both copies: inspect: %v", name, err)
		}
		if fixed, _, err := Heal(both); fixed != nil || !errors.Is(err, want) {
			t.Errorf("%s in both copies: heal: %v", name, err)
		}
		copy(both[len(both)-PageBytes:], obj)
		mustHeal(t, name+" in one copy", both, obj)
	}
	for _, n := range []int{0, 1, PageBytes - 1, PageBytes + 1} {
		if _, err := ReadHeader(make([]byte, n)); !errors.Is(err, ErrBadPage) {
			t.Errorf("page of %d bytes: %v", n, err)
		}
	}
}

func TestPagesInEachOthersPlaceAreDamaged(t *testing.T) {
	s := threePages(t)
	obj := build(t, s)
	damaged := bytes.Clone(obj)
	copy(damaged[PageBytes:], obj[2*PageBytes:3*PageBytes])
	copy(damaged[2*PageBytes:], obj[PageBytes:2*PageBytes])
	if _, d, err := Inspect(damaged); err != nil || len(d.Pages) != 2 || len(d.Cells) != 0 {
		t.Fatalf("%v, %v", d, err)
	}
	mustHeal(t, "swapped pages", damaged, obj)
}

func TestProtectRefusesImpossibleObjects(t *testing.T) {
	s := shapeFor(t, Standard, 1)
	for name, h := range map[string]Header{
		"kind":          {Kind: 99, Suite: SuiteGCM, Shape: s},
		"unsealed data": {Kind: Data, Suite: SuiteNone, Shape: s},
		"sealed slot":   {Kind: Key, Suite: SuiteGCM, Shape: s},
		"shape":         {Kind: Data, Suite: SuiteGCM, Shape: Shape{2, 2, CellBytes}},
	} {
		if _, err := Protect(h, nil); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
	good := Header{Kind: Data, Suite: SuiteGCM, Shape: s}
	if _, err := Protect(good, make([]byte, CellBytes+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too much data: %v", err)
	}
	if err := Finish(make([]byte, 10), good); err == nil {
		t.Error("finished an object of 10 bytes")
	}
}

func FuzzHeader(f *testing.F) {
	f.Add(build(f, shapeFor(f, Standard, 1))[:PageBytes])
	f.Add(build(f, shapeFor(f, Strong, 100<<10))[:PageBytes])
	f.Add(make([]byte, PageBytes))
	f.Fuzz(func(t *testing.T, page []byte) {
		if len(page) == PageBytes { // give mutations a chance to be read
			copy(page, magic)
			sealPage(page, 0)
		}
		h, err := ReadHeader(page)
		if err != nil {
			if !errors.Is(err, ErrBadPage) && !errors.Is(err, ErrUnsupported) {
				t.Fatal(err)
			}
			return
		}
		again := make([]byte, fieldsEnd)
		h.put(again)
		if !bytes.Equal(again, page[:fieldsEnd]) {
			t.Fatalf("header %+v does not write what was read", h)
		}
	})
}

func FuzzHeal(f *testing.F) {
	shape := shapeFor(f, Standard, 5000)
	obj := build(f, shape)
	f.Add([]byte{}, 0)
	f.Add([]byte("junk"), 5000)
	f.Add(bytes.Repeat([]byte{1}, 9000), 100)
	f.Fuzz(func(t *testing.T, junk []byte, at int) {
		damaged := bytes.Clone(obj)
		at = int(uint(at) % uint(len(obj)))
		copy(damaged[at:], junk)
		if len(junk) > 2 { // also move the end about
			cut := int(binary.LittleEndian.Uint16(junk)) % len(damaged)
			damaged = append(damaged[:cut], damaged[min(cut+int(junk[2]), len(damaged)):]...)
		}
		fixed, d, err := Heal(damaged)
		if err == nil && !bytes.Equal(fixed, obj) {
			t.Fatalf("healed to other bytes: %v", d)
		}
		if err != nil && !errors.Is(err, ErrLost) && !errors.Is(err, ErrUnsupported) {
			t.Fatal(err)
		}
		if _, _, err := Heal(junk); err == nil && !bytes.Equal(junk, obj) {
			if again, d, err := Heal(junk); err != nil || len(again) == 0 {
				t.Fatal(d, err)
			}
		}
	})
}

func TestDamageSaysWhatItIs(t *testing.T) {
	if got := (Damage{}).String(); got != "clean" {
		t.Error(got)
	}
	got := Damage{Length: -3, Pages: []int{1}, Cells: []int{4, 5}, Lost: []int{5}, Unproven: 2}.String()
	if got != "2 bad cells, 1 bad header pages, length off by -3 bytes, 1 cells lost, 2 unproven" {
		t.Error(got)
	}
}

func TestKindsHaveTheNamesOfTheFormat(t *testing.T) {
	want := "[data meta index config key session commit confirm forget ledger label]"
	if got := fmt.Sprint(Kinds()); got != want {
		t.Error(got)
	}
	if Kind(0).Known() || Kind(12).Known() || Kind(200).String() != "kind-200" {
		t.Error("unknown kinds are known")
	}
}

func TestEncodersAreSharedSafely(t *testing.T) {
	s := shapeFor(t, Standard, 100<<10)
	want := build(t, s)
	damaged := bytes.Clone(want)
	spoil(damaged, s.CellOffset(3), 100)
	done := make(chan error)
	for range 8 {
		go func() {
			fixed, _, err := Heal(damaged)
			if err == nil && !bytes.Equal(fixed, want) {
				err = errors.New("healed to other bytes")
			}
			done <- err
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
