package pack

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"sync"
	"testing"

	"holdfast/repo/blob"
	"holdfast/repo/parity"
	"holdfast/repo/seal"
)

// fixed is a random source that a seed decides.
func fixed(seed byte) *mathrand.ChaCha8 { return mathrand.NewChaCha8([32]byte{seed}) }

func testKeys(t testing.TB) *seal.Keys {
	t.Helper()
	ring, err := seal.NewRing(fixed(1))
	if err != nil {
		t.Fatal(err)
	}
	return ring.Keys()
}

func packName(id [16]byte) string {
	return "data/0000000a-1111111111111111-2222222222222222/" + hex.EncodeToString(id[:])
}

func fixedName(name string) func([16]byte) string { return func([16]byte) string { return name } }

// mixed is n bytes of content: random, text-like or sparse, by seed.
func mixed(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := mathrand.New(mathrand.NewPCG(seed, 7))
	switch seed % 3 {
	case 0:
		for i := range b {
			b[i] = byte(r.Uint32())
		}
	case 1:
		words := []string{"recovery ", "point ", "chunk ", "pack ", "index ", "seal\n", "0x7f3a "}
		for at := 0; at < n; {
			at += copy(b[at:], words[r.IntN(len(words))])
		}
	case 2:
		for range n / 64 {
			b[r.IntN(n)] = byte(r.Uint32())
		}
	}
	return b
}

func chunksOf(keys *seal.Keys, mode Mode, plains ...[]byte) []Chunk {
	var out []Chunk
	for _, p := range plains {
		out = append(out, Chunk{
			ID: keys.ID(blob.DiskChunk, p), Kind: blob.DiskChunk, RawBytes: len(p),
			Data: Compress(mode, blob.DiskChunk, p, nil),
		})
	}
	return out
}

// fullPack is a pack of 128 KiB chunks as large as the profile allows.
func fullPack(t testing.TB, keys *seal.Keys, profile parity.Profile) (*Object, [][]byte) {
	t.Helper()
	var plains [][]byte
	var chunks []Chunk
	fill := Fill{Profile: profile}
	for i := uint64(0); ; i++ {
		p := mixed(3*i, 128<<10)
		c := chunksOf(keys, None, p)[0]
		if !fill.Fits(len(c.Data)) {
			break
		}
		fill.Add(len(c.Data))
		plains, chunks = append(plains, p), append(chunks, c)
	}
	o, err := Encode(Params{Keys: keys, Kind: parity.Data, Profile: profile, NameOf: packName, Rand: fixed(2)}, chunks)
	if err != nil {
		t.Fatal(err)
	}
	return o, plains
}

func TestPackRoundTrip(t *testing.T) {
	keys := testKeys(t)
	for _, profile := range []parity.Profile{parity.Standard, parity.Strong, parity.Off} {
		for _, mode := range []Mode{Auto, None, Fast, Max} {
			for _, sizes := range [][]int{{1}, {0, 5}, {4096, 100000, 3}, {131072, 131072, 131072, 131072, 17}, {4 << 20, 1 << 20}} {
				t.Run(fmt.Sprint(profile, mode, sizes), func(t *testing.T) {
					var plains [][]byte
					for i, n := range sizes {
						plains = append(plains, mixed(uint64(i), n))
					}
					p := Params{Keys: keys, Kind: parity.Data, Profile: profile, NameOf: packName, Rand: fixed(3), Verify: VerifyFull}
					checkPack(t, p, chunksOf(keys, mode, plains...), plains)
				})
			}
		}
	}
}

// checkPack encodes and reads back by every way there is.
func checkPack(t *testing.T, p Params, chunks []Chunk, plains [][]byte) {
	t.Helper()
	o, err := Encode(p, chunks)
	if err != nil {
		t.Fatal(err)
	}
	before := bytes.Clone(o.Bytes)
	h, entries, err := OpenTable(p.Keys, o.Name, o.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if h != o.Header || !slices.Equal(entries, o.Entries) || o.Sum != Sum(entries) || int(o.Count) != len(entries) {
		t.Fatalf("table differs from what was encoded")
	}
	for i, e := range entries {
		ref := Ref{Name: o.Name, Kind: h.Kind, Epoch: h.Epoch, ID: h.ID, Offset: e.Offset}
		got, err := OpenChunk(p.Keys, ref, o.Bytes[e.Offset:e.Offset+e.Stored], e.ID, e.Kind)
		if err != nil || !bytes.Equal(got, plains[i]) {
			t.Fatalf("chunk %d: %d bytes, %v", i, len(got), err)
		}
	}
	n := 0
	err = VerifyAll(p.Keys, o.Name, o.Bytes, func(e Entry, plain []byte, err error) error {
		if err != nil || !bytes.Equal(plain, plains[n]) {
			t.Fatalf("walk: chunk %d differs: %v", n, err)
		}
		n++
		return nil
	})
	if err != nil || n != len(plains) {
		t.Fatalf("walk saw %d of %d chunks: %v", n, len(plains), err)
	}
	if !bytes.Equal(before, o.Bytes) {
		t.Fatal("reading changed the object")
	}
	if _, d, err := parity.Inspect(o.Bytes); err != nil || !d.Clean() {
		t.Fatalf("inspect: %v, %v", d, err)
	}
}

func TestPackOf16384TinyChunks(t *testing.T) {
	keys := testKeys(t)
	var plains [][]byte
	var fill Fill
	for i := range MaxChunks {
		plains = append(plains, mixed(uint64(3*i), 60))
	}
	chunks := chunksOf(keys, Auto, plains...)
	for i := range chunks {
		if !fill.Fits(len(chunks[i].Data)) {
			t.Fatalf("fill refuses chunk %d", i)
		}
		fill.Add(len(chunks[i].Data))
	}
	if fill.Fits(1) {
		t.Fatal("fill takes more chunks than a pack holds")
	}
	if got := SealedSize(chunks); got != fill.SealedBytes() {
		t.Fatalf("SealedSize %d, Fill %d", got, fill.SealedBytes())
	}
	p := Params{Keys: keys, Kind: parity.Data, NameOf: packName, Rand: fixed(3)}
	checkPack(t, p, chunks, plains)
	if _, err := Encode(p, append(chunks, chunks[0])); !errors.Is(err, ErrFormat) {
		t.Fatalf("one chunk too many: %v", err)
	}
}

func TestFullPackReadsThroughABurstOf1536KiB(t *testing.T) {
	const burst = 3 << 19
	keys := testKeys(t)
	o, plains := fullPack(t, keys, parity.Standard)
	if len(o.Bytes) != 35_725_312 {
		t.Fatalf("a full pack has %d bytes", len(o.Bytes))
	}
	bad := bytes.Clone(o.Bytes)
	for i := range burst {
		bad[5<<20+i] ^= 0xff
	}
	_, entries, err := OpenTable(keys, o.Name, bad)
	if err != nil || len(entries) != len(plains) {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for g := range 4 { // readers share keys, pools and bytes
		wg.Go(func() {
			for i := g; i < len(entries); i += 4 {
				e := entries[i]
				got, err := OpenChunk(keys, refOf(o, e), bad[e.Offset:e.Offset+e.Stored], e.ID, e.Kind)
				if i%31 == g && errors.Is(err, ErrSeal) {
					var healed bool
					got, healed, err = OpenChunkIn(keys, refOf(o, e), e.Stored, bad, e.ID, e.Kind)
					if !healed {
						t.Errorf("chunk %d: not healed", i)
					}
				}
				if err == nil && !bytes.Equal(got, plains[i]) || err != nil && !errors.Is(err, ErrSeal) {
					t.Errorf("chunk %d: %d bytes, %v", i, len(got), err)
				}
			}
		})
	}
	wg.Wait()
	fixed, d, err := parity.Heal(bad)
	if err != nil || !bytes.Equal(fixed, o.Bytes) {
		t.Fatalf("%v, %v", d, err)
	}
}

func TestFillIsExact(t *testing.T) {
	keys := testKeys(t)
	p := Params{Keys: keys, Kind: parity.Data, NameOf: packName, Rand: fixed(3)}
	body := parity.Standard.MaxBytes() - overheadPerPack - overheadPerChunk - frameBytes
	for _, c := range []struct {
		raw  int
		fits bool
	}{{body, true}, {body + 1, false}} {
		chunks := chunksOf(keys, None, make([]byte, c.raw))
		var fill Fill
		if got := fill.Fits(len(chunks[0].Data)); got != c.fits {
			t.Fatalf("%d bytes: Fits = %v", c.raw, got)
		}
		_, err := Encode(p, chunks)
		if c.fits && err != nil || !c.fits && !errors.Is(err, parity.ErrTooLarge) {
			t.Fatalf("%d bytes: %v", c.raw, err)
		}
	}
}

func TestEncodeRefusesWhatTheFormatForbids(t *testing.T) {
	keys := testKeys(t)
	good := chunksOf(keys, None, []byte("hello"))[0]
	with := func(change func(*Chunk)) []Chunk { c := good; change(&c); return []Chunk{c} }
	cases := map[string]struct {
		kind   parity.Kind
		chunks []Chunk
	}{
		"no chunks":            {parity.Data, nil},
		"zero id":              {parity.Data, with(func(c *Chunk) { c.ID = blob.ID{} })},
		"unknown content kind": {parity.Data, with(func(c *Chunk) { c.Kind = 0x77 })},
		"raw length differs":   {parity.Data, with(func(c *Chunk) { c.RawBytes++ })},
		"disk chunk in commit": {parity.Commit, []Chunk{good}},
		"two records":          {parity.Commit, []Chunk{good, good}},
		"key slot":             {parity.Key, []Chunk{good}},
	}
	for name, c := range cases {
		if _, err := Encode(Params{Keys: keys, Kind: c.kind, NameOf: packName}, c.chunks); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Encode(Params{Keys: keys, Kind: parity.Data, NameOf: packName}, with(func(c *Chunk) { c.Data = nil })); !errors.Is(err, ErrCodec) {
		t.Errorf("no frame: %v", err)
	}
	if _, err := Encode(Params{Keys: keys, Kind: parity.Data, NameOf: packName, Epoch: 9}, []Chunk{good}); !errors.Is(err, seal.ErrUnknownEpoch) {
		t.Errorf("unknown epoch: %v", err)
	}
	if _, err := Encode(Params{Keys: keys, Kind: parity.Data}, []Chunk{good}); err == nil {
		t.Error("no name: no error")
	}
}

func BenchmarkEncode(b *testing.B) {
	keys := testKeys(b)
	for _, verify := range []Verify{VerifyTenth, VerifyFull} {
		b.Run(map[Verify]string{VerifyTenth: "tenth", VerifyFull: "full"}[verify], func(b *testing.B) {
			var chunks []Chunk
			raw := 0
			for i := range uint64(250) {
				chunks = append(chunks, chunksOf(keys, Auto, mixed(i*3, 128<<10))...)
				raw += 128 << 10
			}
			b.SetBytes(int64(raw))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Encode(Params{Keys: keys, Kind: parity.Data, NameOf: packName, Verify: verify}, chunks); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkOpenChunk(b *testing.B) {
	keys := testKeys(b)
	for seed, name := range []string{"random", "text", "sparse"} {
		b.Run(name, func(b *testing.B) {
			o, err := Encode(Params{Keys: keys, Kind: parity.Data, NameOf: packName}, chunksOf(keys, Auto, mixed(uint64(seed), 128<<10)))
			if err != nil {
				b.Fatal(err)
			}
			e := o.Entries[0]
			ref := Ref{Name: o.Name, Kind: parity.Data, Epoch: o.Header.Epoch, ID: o.ID, Offset: e.Offset}
			b.SetBytes(128 << 10)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := OpenChunk(keys, ref, o.Bytes[e.Offset:e.Offset+e.Stored], e.ID, e.Kind); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCompress(b *testing.B) {
	for seed, name := range []string{"random", "text", "sparse"} {
		for _, mode := range []Mode{Auto, Fast, Max, None} {
			b.Run(name+"/"+string(mode), func(b *testing.B) {
				plain := mixed(uint64(seed), 128<<10)
				var out []byte
				b.SetBytes(128 << 10)
				b.ReportAllocs()
				for b.Loop() {
					out = Compress(mode, blob.DiskChunk, plain, out)
				}
				b.ReportMetric(float64(len(plain))/float64(len(out)), "ratio")
			})
		}
	}
}
