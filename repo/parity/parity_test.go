package parity

import (
	"bytes"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// build makes an object of the shape with random content.
func build(t testing.TB, s Shape) []byte {
	t.Helper()
	d := make([]byte, s.DataBytes())
	_, _ = mathrand.NewChaCha8([32]byte{byte(s.K), byte(s.M)}).Read(d)
	obj, err := Protect(Header{Kind: Data, Suite: SuiteGCM, Epoch: 7, ID: [16]byte{1, 2, 3}, Shape: s}, d)
	if err != nil {
		t.Fatal(err)
	}
	if at := s.DataOffset(); !bytes.Equal(obj[at:at+len(d)], d) {
		t.Fatal("D is not where the shape says")
	}
	return obj
}

func shapeFor(t testing.TB, p Profile, n int) Shape {
	t.Helper()
	s, err := p.ShapeFor(n)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// spoil inverts a range, so that every byte of it is wrong.
func spoil(b []byte, from, n int) {
	for i := from; i < from+n; i++ {
		b[i] ^= 0xff
	}
}

// mustHeal demands the original back, and that a second heal has nothing to do.
func mustHeal(t testing.TB, what string, damaged, want []byte) {
	t.Helper()
	before := bytes.Clone(damaged)
	got, d, err := Heal(damaged)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%s: not healed: %v, %v", what, d, err)
	}
	if !bytes.Equal(before, damaged) {
		t.Fatalf("%s: heal changed its input", what)
	}
	again, d, err := Heal(got)
	if err != nil || !d.Clean() || &again[0] != &got[0] {
		t.Fatalf("%s: second heal: %v, %v", what, d, err)
	}
}

func TestShapesAreThoseOfTheFormat(t *testing.T) {
	for _, c := range []struct{ sealed, stored, pages int }{
		{1, 20480, 1}, {4096, 20480, 1}, {4097, 32768, 1}, {16384, 32768, 1}, {16385, 86016, 1}, {65536, 86016, 1},
		{65537, 286720, 1}, {1 << 20, 1122304, 1}, {32 << 20, 35725312, 9},
	} {
		s := shapeFor(t, Standard, c.sealed)
		if s.StoredBytes() != c.stored || s.Pages() != c.pages {
			t.Errorf("%d bytes: stored %d in %d pages, want %d in %d", c.sealed, s.StoredBytes(), s.Pages(), c.stored, c.pages)
		}
	}
	for p, want := range map[Profile]int{Standard: 32 << 20, Off: 32 << 20, Strong: 30 << 20, "": 32 << 20, "odd": 0} {
		if got := p.MaxBytes(); got != want {
			t.Errorf("%s: MaxBytes %d, want %d", p, got, want)
		}
	}
	wantSteps := []int{1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192}
	var steps []int
	for n := 1; n <= 192; n++ {
		if m := threeBits(n); !slices.Contains(steps, m) {
			steps = append(steps, m)
		}
	}
	if !slices.Equal(steps, wantSteps) {
		t.Errorf("steps %v", steps)
	}
	for _, bad := range []int{-1, 32<<20 + 1} {
		if _, err := Standard.ShapeFor(bad); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%d bytes: %v", bad, err)
		}
	}
	if _, err := Profile("odd").ShapeFor(1); !errors.Is(err, ErrProfile) {
		t.Errorf("odd profile: %v", err)
	}
	for _, word := range []string{"standard", "strong", "off"} {
		if p, err := ParseProfile(word); err != nil || string(p) != word {
			t.Errorf("parse %s: %v, %v", word, p, err)
		}
	}
	for _, word := range []string{"", "Standard", "odd"} {
		if _, err := ParseProfile(word); !errors.Is(err, ErrProfile) {
			t.Errorf("parse %q: %v", word, err)
		}
	}
}

func TestShapeIsTheSmallestThatHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.SampledFrom([]Profile{Standard, Strong, Off}).Draw(t, "profile")
		n := rapid.IntRange(0, p.MaxBytes()).Draw(t, "bytes")
		s, err := p.ShapeFor(n)
		if err != nil || s.DataBytes() < n {
			t.Fatalf("%d bytes in %v, %v", n, s, err)
		}
		if got, ok := ProfileOf(s); !ok || got != p {
			t.Fatalf("profile of %v: %v %v", s, got, ok)
		}
		if n > 64<<10 && s.DataBytes() > 256<<10 && s.DataBytes() > n+n/4+s.K*CellBytes {
			t.Fatalf("%d bytes take %d", n, s.DataBytes())
		}
		if n > 0 {
			if less, err := p.ShapeFor(n - 1); err != nil || less.DataBytes() > s.DataBytes() {
				t.Fatalf("%d bytes take more than %d", n-1, n)
			}
		}
	})
	for _, s := range []Shape{{}, {1, 2, 8192}, {4, 3, 4096}, {64, 4, 9 * 4096}, {64, 4, 160 * 4096}, {1, 1, 4096}, {-1, 2, 4096}, {64, 4, 4097}} {
		if p, ok := ProfileOf(s); ok {
			t.Errorf("%v is taken for %s", s, p)
		}
	}
}

// small shapes: one of each line of the format's table, of each profile.
func smallShapes(t testing.TB) []Shape {
	var out []Shape
	for _, p := range []Profile{Standard, Strong, Off} {
		for _, n := range []int{1, 16 << 10, 64 << 10, 200 << 10} {
			out = append(out, shapeFor(t, p, n))
		}
	}
	return out
}

func TestBurstOfThePromisedLengthHealsAtEveryStart(t *testing.T) {
	for _, c := range []struct{ data, burst, step int }{
		{4 << 10, 4097, 1}, {16 << 10, 4097, 3}, {64 << 10, 8193, 61}, {256 << 10, 12289, 1013}, {1 << 20, 49152, 20011},
	} {
		t.Run(fmt.Sprint(c.data), func(t *testing.T) {
			t.Parallel()
			obj := build(t, shapeFor(t, Standard, c.data))
			bad := bytes.Clone(obj)
			for at := 0; at+c.burst <= len(obj); at += c.step {
				spoil(bad, at, c.burst)
				got, d, err := Heal(bad)
				if err != nil || !bytes.Equal(got, obj) {
					t.Fatalf("burst of %d at %d: %v, %v", c.burst, at, d, err)
				}
				spoil(bad, at, c.burst)
			}
		})
	}
}

func TestFullPackHealsBurstsOf1536KiB(t *testing.T) {
	const burst = 3 << 19
	obj := build(t, shapeFor(t, Standard, 32<<20))
	bad := bytes.Clone(obj)
	r := mathrand.New(mathrand.NewPCG(1, 2))
	starts := []int{0, 1, 9*4096 - 1, len(obj) - burst, len(obj) - burst - 1, 9*4096 + 32<<20 - 5}
	for range 10 {
		starts = append(starts, r.IntN(len(obj)-burst))
	}
	for _, at := range starts {
		spoil(bad, at, burst)
		got, d, err := Heal(bad)
		if err != nil || !bytes.Equal(got, obj) {
			t.Fatalf("burst at %d: %v, %v", at, d, err)
		}
		spoil(bad, at, burst)
	}
}

// scatter draws n different sectors of an object.
func scatter(r *mathrand.Rand, sectors, n int, out []int) []int {
	out = out[:0]
	for len(out) < n {
		if s := r.IntN(sectors); !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// heals says by arithmetic whether these bad sectors of a shape heal: at most
// m a row, and no header page bad in both places (which often heals too).
func heals(s Shape, sectors []int, bad []uint8) bool {
	clear(bad)
	p, rows := s.Pages(), s.Rows()
	for i, sector := range sectors {
		c := sector - p
		if c >= 0 && c < s.Cells() {
			if bad[c%rows]++; int(bad[c%rows]) > s.M {
				return false
			}
			continue
		}
		if slices.Contains(sectors[:i], 2*p+s.Cells()-1-sector) {
			return false
		}
	}
	return true
}

func TestSixteenBadSectorsOfAFullPackHealInMoreThan999Of1000Draws(t *testing.T) {
	s := shapeFor(t, Standard, 32<<20)
	sectors := s.StoredBytes() / CellBytes
	r := mathrand.New(mathrand.NewPCG(3, 4))
	bad := make([]uint8, s.Rows())
	var draw []int
	lost, draws := 0, 100_000
	for range draws {
		if draw = scatter(r, sectors, 16, draw); !heals(s, draw, bad) {
			lost++
		}
	}
	if lost*1000 > draws {
		t.Fatalf("%d of %d draws lost", lost, draws)
	}
	t.Logf("%d of %d draws lost", lost, draws)
	obj := build(t, s)
	damaged := bytes.Clone(obj)
	for range 10 {
		draw = scatter(r, sectors, 16, draw)
		for _, sector := range draw {
			spoil(damaged, sector*CellBytes, CellBytes)
		}
		got, d, err := Heal(damaged)
		if promised := heals(s, draw, bad); promised && (err != nil || !bytes.Equal(got, obj)) {
			t.Fatalf("sectors %v: %v, %v", draw, d, err)
		}
		copy(damaged, obj)
	}
}

func TestSixteenBadSectorsHealForReal(t *testing.T) {
	s := shapeFor(t, Standard, 4<<20)
	obj := build(t, s)
	damaged := bytes.Clone(obj)
	r := mathrand.New(mathrand.NewPCG(5, 6))
	bad := make([]uint8, s.Rows())
	healed := 0
	for range 200 {
		draw := scatter(r, s.StoredBytes()/CellBytes, 16, nil)
		for _, sector := range draw {
			spoil(damaged, sector*CellBytes, CellBytes)
		}
		got, d, err := Heal(damaged)
		switch {
		case err == nil && !bytes.Equal(got, obj):
			t.Fatalf("sectors %v: healed to other bytes", draw)
		case err == nil:
			healed++
		case heals(s, draw, bad):
			t.Fatalf("sectors %v: %v, %v", draw, d, err)
		}
		copy(damaged, obj)
	}
	if healed < 190 {
		t.Fatalf("only %d of 200 healed", healed)
	}
}

// FORMAT.md: any m bad cells of a row heal, m+1 are lost, named, and no other
// cell is touched.
func TestOneBadCellTooManyIsLostPrecisely(t *testing.T) {
	for _, s := range smallShapes(t) {
		t.Run(fmt.Sprint(s), func(t *testing.T) {
			obj := build(t, s)
			r := mathrand.New(mathrand.NewPCG(uint64(s.K), uint64(s.M)))
			for range 20 {
				row := r.IntN(s.Rows())
				var cells []int
				for _, shard := range r.Perm(s.K + s.M)[:s.M+1] {
					cells = append(cells, shard*s.Rows()+row)
				}
				damaged := bytes.Clone(obj)
				for _, c := range cells {
					damaged[s.CellOffset(c)+r.IntN(CellBytes)] ^= 1 << r.IntN(8)
				}
				checkLost(t, obj, damaged, cells)
				heal := s.CellOffset(cells[0])
				copy(damaged[heal:heal+CellBytes], obj[heal:])
				mustHeal(t, "m bad cells", damaged, obj)
			}
		})
	}
}

func checkLost(t *testing.T, obj, damaged []byte, cells []int) {
	t.Helper()
	slices.Sort(cells)
	h, seen, err := Inspect(damaged)
	if err != nil || seen.Healable() || !slices.Equal(seen.Lost, cells) {
		t.Fatalf("inspect: %v lost, want %v: %v", seen.Lost, cells, err)
	}
	part, d, err := Heal(damaged)
	slices.Sort(d.Lost)
	if !errors.Is(err, ErrLost) || !slices.Equal(d.Lost, cells) {
		t.Fatalf("heal: %v lost, want %v: %v", d.Lost, cells, err)
	}
	for c := range h.Shape.Cells() {
		at := h.Shape.CellOffset(c)
		if same := bytes.Equal(part[at:at+CellBytes], obj[at:at+CellBytes]); same == slices.Contains(cells, c) {
			t.Fatalf("cell %d: same = %v", c, same)
		}
	}
}

func TestRandomDamageWithinParityHealsBitIdentically(t *testing.T) {
	shapes := smallShapes(t)
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.SampledFrom(shapes).Draw(t, "shape")
		obj := buildRapid(t, s)
		damaged := bytes.Clone(obj)
		r := mathrand.New(mathrand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		for row := range s.Rows() {
			for _, shard := range r.Perm(s.K + s.M)[:r.IntN(s.M+1)] {
				at := s.CellOffset(shard*s.Rows() + row)
				spoil(damaged, at+r.IntN(CellBytes), 1)
			}
		}
		spoil(damaged, r.IntN(s.DataOffset()), 1)
		got, d, err := Heal(damaged)
		if err != nil || !bytes.Equal(got, obj) {
			t.Fatalf("not healed: %v, %v", d, err)
		}
	})
}

func buildRapid(t *rapid.T, s Shape) []byte {
	obj, err := Protect(Header{Kind: Commit, Suite: SuiteGCM, Shape: s}, []byte("some data"))
	if err != nil {
		t.Fatal(err)
	}
	return obj
}

func TestEveryByteOfAnObjectHeals(t *testing.T) {
	for _, n := range []int{1, 10 << 10} {
		obj := build(t, shapeFor(t, Standard, n))
		bad := bytes.Clone(obj)
		for at := range len(obj) {
			bad[at] ^= 1 << (at % 8)
			got, d, err := Heal(bad)
			if err != nil || d.Clean() || !bytes.Equal(got, obj) {
				t.Fatalf("bit %d of byte %d: %v, %v", at%8, at, d, err)
			}
			bad[at] ^= 1 << (at % 8)
		}
	}
}

func BenchmarkInspect(b *testing.B) {
	obj := build(b, shapeFor(b, Standard, 32<<20))
	b.SetBytes(int64(len(obj)))
	for b.Loop() {
		if _, d, err := Inspect(obj); err != nil || !d.Clean() {
			b.Fatal(d, err)
		}
	}
}

func BenchmarkFinish(b *testing.B) {
	s := shapeFor(b, Standard, 32<<20)
	obj, _ := Alloc(s)
	b.SetBytes(int64(len(obj)))
	for b.Loop() {
		if err := Finish(obj, Header{Kind: Data, Suite: SuiteGCM, Shape: s}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHeal(b *testing.B) {
	for name, damage := range map[string]func(obj []byte){
		"bit":   func(obj []byte) { obj[1<<20] ^= 1 },
		"burst": func(obj []byte) { spoil(obj, 1<<20, 3<<19) },
	} {
		b.Run(name, func(b *testing.B) {
			obj := build(b, shapeFor(b, Standard, 32<<20))
			damage(obj)
			b.SetBytes(int64(len(obj)))
			for b.Loop() {
				if _, _, err := Heal(obj); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkHealSmall(b *testing.B) {
	obj := build(b, shapeFor(b, Standard, 1))
	obj[5000] ^= 1
	b.SetBytes(int64(len(obj)))
	for b.Loop() {
		if _, _, err := Heal(obj); err != nil {
			b.Fatal(err)
		}
	}
}
