package chunk

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/iotest"

	chunkers "github.com/PlakarKorp/go-cdc-chunkers"
	"github.com/PlakarKorp/go-cdc-chunkers/chunkers/fastcdc"
	"github.com/zeebo/blake3"
	"pgregory.net/rapid"
)

// small keeps tests quick; the masks are as spread as with large sizes.
var small = Params{Min: 1 << 10, Avg: 4 << 10, Max: 16 << 10}

func testKey(n byte) (key [32]byte) {
	for i := range key {
		key[i] = n + byte(i)
	}
	return key
}

// noise is n bytes that never change between runs.
func noise(seed uint64, n int) []byte {
	r := rand.NewPCG(seed, 7)
	b := make([]byte, n+8)
	for i := 0; i < n; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], r.Uint64())
	}
	return b[:n]
}

// cuts are the chunk lengths of data; the chunks must join to data again.
func cuts(tb interface{ Fatalf(string, ...any) }, s *Splitter, data []byte) []int {
	var lengths []int
	at := 0
	for {
		c, err := s.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			tb.Fatalf("next at %d: %v", at, err)
		}
		if len(c) == 0 || !bytes.HasPrefix(data[at:], c) {
			tb.Fatalf("chunk at %d, %d bytes long, is not what was read", at, len(c))
		}
		lengths, at = append(lengths, len(c)), at+len(c)
	}
	if at != len(data) {
		tb.Fatalf("%d bytes in chunks of %d", at, len(data))
	}
	if c, err := s.Next(); c != nil || err != io.EOF {
		tb.Fatalf("after the end: %d bytes, %v", len(c), err)
	}
	return lengths
}

// checkBounds holds all lengths but the last against p.
func checkBounds(tb interface{ Fatalf(string, ...any) }, lengths []int, p Params) {
	for i, n := range lengths {
		if n > p.Max || n < p.Min && i < len(lengths)-1 {
			tb.Fatalf("chunk %d of %d has %d bytes", i, len(lengths), n)
		}
	}
}

// ends are the chunk ends counted from the end of the data.
func ends(lengths []int) map[int]bool {
	at, m := 0, map[int]bool{}
	for _, n := range slices.Backward(lengths) {
		m[at] = true
		at += n
	}
	return m
}

func TestShiftedContentFindsItsCutsAgain(t *testing.T) {
	data := noise(1, 1<<20)
	want := ends(cuts(t, New(bytes.NewReader(data), testKey(1), small), data))
	for _, k := range []int{1, 2, 7, 63, 64, 65, 511, 512, 4095, 70000} {
		shifted := append(noise(uint64(k)+100, k), data...)
		got := ends(cuts(t, New(bytes.NewReader(shifted), testKey(1), small), shifted))
		same := 0
		for at := range want {
			if got[at] {
				same++
			}
		}
		if lost := len(want) - same; lost > 8 {
			t.Errorf("shifted by %d: %d of %d cuts lost", k, lost, len(want))
		}
	}
}

// TestCutDependsOnContentAlone: of data that begins later, by however little,
// the same cut is found, down to a cut exactly at the smallest length. Without
// the warm-up, cuts up to 64 bytes behind Min would be lost.
func TestCutDependsOnContentAlone(t *testing.T) {
	c := newCutter(newTable(testKey(1)), small, windowBytes)
	tried := 0
	for seed := range uint64(40) {
		data := noise(seed, 64<<10)
		n := c.cut(data)
		if n <= small.Min || n > small.Avg { // forced, or in reach of the other mask
			continue
		}
		tried++
		for drop := 1; drop <= n-small.Min; drop++ {
			if got := c.cut(data[drop:]); got != n-drop {
				t.Fatalf("seed %d without the first %d bytes: cut at %d, want %d", seed, drop, got, n-drop)
			}
		}
	}
	if tried < 5 {
		t.Fatalf("only %d cuts tried", tried)
	}
}

func TestCutsDoNotDependOnReads(t *testing.T) {
	data := noise(3, 300<<10)
	want := cuts(t, New(bytes.NewReader(data), testKey(1), small), data)
	for name, r := range map[string]io.Reader{
		"one byte":  iotest.OneByteReader(bytes.NewReader(data)),
		"half":      iotest.HalfReader(bytes.NewReader(data)),
		"data, EOF": iotest.DataErrReader(bytes.NewReader(data)),
		"idle":      &idleReader{r: bytes.NewReader(data)},
	} {
		if got := cuts(t, New(r, testKey(1), small), data); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

// idleReader brings nothing every other time, and odd lengths between.
type idleReader struct {
	r io.Reader
	n int
}

func (r *idleReader) Read(b []byte) (int, error) {
	if r.n++; r.n%2 == 0 {
		return 0, nil
	}
	return r.r.Read(b[:min(len(b), 1+r.n*37%5000)])
}

func TestChunksJoinAndStayInBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Params{Min: 64 + rapid.IntRange(0, 2000).Draw(t, "min")}
		p.Avg = p.Min + rapid.IntRange(1, 4000).Draw(t, "avg")
		p.Max = p.Avg + rapid.IntRange(1, 9000).Draw(t, "max")
		data := noise(rapid.Uint64().Draw(t, "seed"), rapid.IntRange(0, 60000).Draw(t, "bytes"))
		got := cuts(t, New(bytes.NewReader(data), testKey(3), p), data)
		checkBounds(t, got, p)
	})
}

// TestAverageLength: the mean of FastCDC with normalization lies near Avg, and
// hardly any chunk is forced at Max.
func TestAverageLength(t *testing.T) {
	data := noise(4, 16<<20)
	got := cuts(t, New(bytes.NewReader(data), testKey(1), small), data)
	checkBounds(t, got, small)
	if mean := len(data) / len(got); mean < small.Avg*3/4 || mean > small.Avg*5/4 {
		t.Errorf("mean %d bytes, want about %d", mean, small.Avg)
	}
	forced := 0
	for _, n := range got {
		if n == small.Max {
			forced++
		}
	}
	if forced*50 > len(got) {
		t.Errorf("%d of %d chunks forced at the largest length", forced, len(got))
	}
}

func TestDifferentKeysDifferentCuts(t *testing.T) {
	data := noise(5, 1<<20)
	a := ends(cuts(t, New(bytes.NewReader(data), testKey(1), small), data))
	b := ends(cuts(t, New(bytes.NewReader(data), testKey(2), small), data))
	same := 0
	for at := range a {
		if b[at] {
			same++
		}
	}
	if same > 3 { // the end of the data, and chance
		t.Errorf("%d of %d cuts are the same under two keys", same, len(a))
	}
}

// TestGoldenCuts pins the cuts for all time: other cuts would store everything
// again. The sums are of the chunk lengths as u32.
func TestGoldenCuts(t *testing.T) {
	data := noise(6, 24<<20)
	for _, c := range []struct {
		name   string
		p      Params
		key    byte
		chunks int
		sum    string
	}{
		{"sql", SQL(), 0, 84, "c5e61eadfe8586d4"},
		{"zero value", Params{}, 0, 84, "c5e61eadfe8586d4"},
		{"files", Files(), 0, 21, "c5d4da248b8ca141"},
		{"sql, other key", SQL(), 9, 81, "46dab1a0c904ff4c"},
	} {
		h := blake3.New()
		lengths := cuts(t, New(bytes.NewReader(data), testKey(c.key), c.p), data)
		for _, n := range lengths {
			_, _ = h.Write(binary.LittleEndian.AppendUint32(nil, uint32(n)))
		}
		if sum := hex.EncodeToString(h.Sum(nil)[:8]); sum != c.sum || len(lengths) != c.chunks {
			t.Errorf("%s: %d chunks with sum %q, want %d with %q", c.name, len(lengths), sum, c.chunks, c.sum)
		}
	}
}

// TestTableIsTheKeyedOutputStream reads the table in another way than newTable.
func TestTableIsTheKeyedOutputStream(t *testing.T) {
	key := testKey(1)
	h, err := blake3.NewKeyed(key[:])
	if err != nil {
		t.Fatal(err)
	}
	got := newTable(key)
	raw := make([]byte, 8)
	for _, i := range []int{0, 1, 7, 8, 255} {
		d := h.Digest()
		if _, err := d.Seek(int64(i)*8, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(d, raw); err != nil {
			t.Fatal(err)
		}
		if want := binary.LittleEndian.Uint64(raw); got[i] != want {
			t.Errorf("entry %d: %x, want %x", i, got[i], want)
		}
	}
}

// TestCutsEqualAnotherFastCDC compares every cut with the FastCDC of plakar. It
// has no warm-up and another way from key to table, so those two are set alike.
func TestCutsEqualAnotherFastCDC(t *testing.T) {
	zerosInside := append(append(noise(8, 3<<20), make([]byte, 3<<20)...), noise(9, 3<<20)...)
	for name, data := range map[string][]byte{
		"noise": noise(7, 12<<20), "zeros inside": zerosInside,
		"text": bytes.Repeat([]byte("select * from t where x = 1;\n"), 100000), "short": noise(1, 900),
	} {
		for _, key := range [][]byte{nil, noise(10, 32)} {
			for _, p := range []Params{small, SQL(), Files(), {Min: 100, Avg: 1 << 10, Max: 3000}} {
				oracle, err := chunkers.NewChunker("fastcdc-v1.0.0", bytes.NewReader(data),
					&chunkers.ChunkerOpts{MinSize: p.Min, NormalSize: p.Avg, MaxSize: p.Max, Key: key})
				if err != nil {
					t.Fatal(err)
				}
				var want []int
				err = oracle.Split(func(_, n uint, _ []byte) error {
					if n > 0 {
						want = append(want, int(n))
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				got := cuts(t, newSplitter(bytes.NewReader(data), oracleTable(t, key), p, 0), data)
				if !slices.Equal(got, want) {
					t.Errorf("%s, %+v, keyed %v: %d chunks, want %d", name, p, key != nil, len(got), len(want))
				}
			}
		}
	}
}

// oracleTable is the gear table that the oracle uses for key.
func oracleTable(t *testing.T, key []byte) *table {
	if key == nil {
		g := table(fastcdc.G)
		return &g
	}
	h, err := blake3.NewKeyed(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range fastcdc.G {
		_, _ = h.Write(binary.LittleEndian.AppendUint64(nil, x))
	}
	var raw [256 * 8]byte
	if _, err := io.ReadFull(h.Digest(), raw[:]); err != nil {
		t.Fatal(err)
	}
	var g table
	for i := range g {
		g[i] = binary.LittleEndian.Uint64(raw[i*8:])
	}
	return &g
}

// TestLongZeros: a run of one byte has the same hash everywhere, so all chunks
// within it are equal, and it does not move the cuts behind it.
func TestLongZeros(t *testing.T) {
	data := slices.Concat(noise(11, 100<<10), make([]byte, 1<<20), noise(12, 100<<10))
	got := cuts(t, New(bytes.NewReader(data), testKey(1), small), data)
	checkBounds(t, got, small)
	equal := 0
	for i := 1; i < len(got); i++ {
		if got[i] == got[i-1] {
			equal++
		}
	}
	if equal < (1<<20)/small.Max-4 {
		t.Errorf("only %d chunks are like their neighbours", equal)
	}
	if all := cuts(t, New(bytes.NewReader(make([]byte, 100000)), testKey(1), small), make([]byte, 100000)); all[0] != all[len(all)-2] {
		t.Errorf("zeros are cut unevenly: %v", all)
	}
}

func TestEmptyStream(t *testing.T) {
	if got := cuts(t, New(bytes.NewReader(nil), testKey(1), SQL()), nil); len(got) != 0 {
		t.Errorf("chunks of nothing: %v", got)
	}
}

var errSource = errors.New("source went away")

// TestReadErrorIsNoEnd: a stream that breaks off must not look like one that
// ended, however the reader reports it.
func TestReadErrorIsNoEnd(t *testing.T) {
	data := noise(13, 40<<10)
	whole := cuts(t, New(bytes.NewReader(data), testKey(1), small), data)
	for broken := 0; broken <= len(data); broken += 1111 {
		for _, wrap := range []func(io.Reader) io.Reader{func(r io.Reader) io.Reader { return r }, iotest.DataErrReader, iotest.HalfReader} {
			r := wrap(io.MultiReader(bytes.NewReader(data[:broken]), iotest.ErrReader(errSource)))
			s := New(r, testKey(1), small)
			i := 0
			for ; ; i++ {
				c, err := s.Next()
				if err == nil && len(c) != whole[i] {
					t.Fatalf("broken at %d: chunk %d of %d bytes, want %d", broken, i, len(c), whole[i])
				}
				if err != nil {
					if err != errSource || c != nil {
						t.Fatalf("broken at %d: %d bytes, %v", broken, len(c), err)
					}
					break
				}
			}
			if _, err := s.Next(); err != errSource {
				t.Fatalf("asked again: %v", err)
			}
		}
	}
}

// stuckReader never brings anything.
type stuckReader struct{}

func (stuckReader) Read([]byte) (int, error) { return 0, nil }

func TestStuckReader(t *testing.T) {
	if _, err := New(stuckReader{}, testKey(1), small).Next(); err != io.ErrNoProgress {
		t.Errorf("got %v", err)
	}
}

func TestImpossibleParams(t *testing.T) {
	for _, p := range []Params{
		{Min: 63, Avg: 1024, Max: 4096}, {Min: 1024, Avg: 1024, Max: 4096}, {Min: 64, Avg: 4096, Max: 4096},
		{Min: -1, Avg: 5, Max: 9}, {Min: 1 << 20, Avg: 2 << 20, Max: 32<<20 + 1}, {Avg: 1 << 20},
	} {
		if _, err := New(bytes.NewReader(nil), testKey(1), p).Next(); !errors.Is(err, ErrParams) {
			t.Errorf("%+v: %v", p, err)
		}
	}
	for _, p := range []Params{SQL(), Files(), {Min: 64, Avg: 65, Max: 66}, {Min: 64, Avg: 31 << 20, Max: 32 << 20}} {
		if _, err := New(bytes.NewReader(nil), testKey(1), p).Next(); err != io.EOF {
			t.Errorf("%+v: %v", p, err)
		}
	}
}

func FuzzSplit(f *testing.F) {
	f.Add([]byte("holdfast"), uint16(64), uint16(1), uint16(1), byte(3))
	f.Add(noise(1, 5000), uint16(100), uint16(400), uint16(2000), byte(0))
	f.Add(make([]byte, 3000), uint16(64), uint16(64), uint16(900), byte(1))
	f.Fuzz(func(t *testing.T, data []byte, minBytes, toAvg, toMax uint16, key byte) {
		p := Params{Min: windowBytes + int(minBytes)%4096}
		p.Avg = p.Min + 1 + int(toAvg)%4096
		p.Max = p.Avg + 1 + int(toMax)%8192
		got := cuts(t, New(bytes.NewReader(data), testKey(key), p), data)
		checkBounds(t, got, p)
		if again := cuts(t, New(iotest.HalfReader(bytes.NewReader(data)), testKey(key), p), data); !slices.Equal(got, again) {
			t.Fatalf("%v, then %v", got, again)
		}
	})
}

func BenchmarkSplit(b *testing.B) {
	data := noise(14, 32<<20)
	for name, p := range map[string]Params{"sql": SQL(), "files": Files()} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				s := New(bytes.NewReader(data), testKey(1), p)
				for {
					if _, err := s.Next(); err != nil {
						break
					}
				}
			}
		})
	}
}
