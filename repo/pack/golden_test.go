package pack

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/repo/blob"
	"holdfast/repo/parity"
	"holdfast/repo/seal"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares text with a file of testdata.
func golden(t *testing.T, file, got string) {
	t.Helper()
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != got {
		t.Errorf("%s differs; the bytes of the format have changed:\n%s", path, got)
	}
}

// With fixed keys and randomness every kind in every profile has these very
// bytes, on every platform and with or without assembly. Only uncompressed
// chunks are compared: an encoder may find shorter output one day, and readers
// will not care.
func TestGoldenObjects(t *testing.T) {
	keys := testKeys(t)
	var out strings.Builder
	line := func(name string, obj []byte) {
		fmt.Fprintf(&out, "%s %d %x\n", name, len(obj), sha256.Sum256(obj))
	}
	for _, profile := range []parity.Profile{parity.Standard, parity.Strong, parity.Off} {
		for _, kind := range parity.Kinds() {
			if kind == parity.Key {
				continue
			}
			p := Params{Keys: keys, Kind: kind, Profile: profile, NameOf: fixedName(kind.String() + "/x"), Rand: fixed(byte(kind)), Verify: VerifyFull}
			payload := mixed(0, 300)
			chunks := []Chunk{{ID: keys.ID(blob.Record, payload), Kind: blob.Record, RawBytes: 300, Data: Compress(None, blob.Record, payload, nil)}}
			o, err := Encode(p, chunks)
			if err != nil {
				t.Fatal(err)
			}
			line(fmt.Sprint(profile, " ", kind), o.Bytes)
		}
		for _, n := range []int{10_000, 60_000, 200_000, 5_000_000, 17_000_000} {
			p := Params{Keys: keys, Kind: parity.Data, Profile: profile, NameOf: packName, Rand: fixed(1)}
			o, err := Encode(p, chunksOf(keys, None, mixed(0, n), mixed(3, 1000)))
			if err != nil {
				t.Fatal(err)
			}
			line(fmt.Sprint(profile, " data of ", n), o.Bytes)
		}
	}
	ring, err := seal.NewRing(fixed(1))
	if err != nil {
		t.Fatal(err)
	}
	slot, err := EncodeSlot(goldenSlot(t, ring))
	if err != nil {
		t.Fatal(err)
	}
	line("key", slot)
	golden(t, "objects.txt", out.String())
}

// Objects written once must stay readable: these were, by the first version.
func TestGoldenObjectsOpen(t *testing.T) {
	keys := testKeys(t)
	ring, err := seal.NewRing(fixed(1))
	if err != nil {
		t.Fatal(err)
	}
	text, err := seal.NewKeyFile(fixed(7))
	if err != nil {
		t.Fatal(err)
	}
	secret, err := seal.ParseKeyFile(text)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		o, err := EncodeRecord(Params{Keys: keys, Kind: parity.Commit, Profile: parity.Off, NameOf: fixedName(recordName), Rand: fixed(8)}, recordPayload)
		if err != nil {
			t.Fatal(err)
		}
		writeGolden(t, "commit.bin", o.Bytes)
		slot, err := EncodeSlot(goldenSlot(t, ring))
		if err != nil {
			t.Fatal(err)
		}
		writeGolden(t, "key.bin", slot)
	}
	payload, healed, err := OpenRecord(keys, recordName, parity.Commit, readGolden(t, "commit.bin"))
	if err != nil || healed || !bytes.Equal(payload, recordPayload) {
		t.Errorf("commit.bin: %q, %v", payload, err)
	}
	d, err := DecodeSlot(readGolden(t, "key.bin"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := seal.OpenSlot(d, "keys/0011223344556677", secret)
	if err != nil || got.Keys().ID(1, nil) != keys.ID(1, nil) {
		t.Errorf("key.bin: %v", err)
	}
}

func goldenSlot(t *testing.T, ring *seal.Ring) []byte {
	t.Helper()
	text, err := seal.NewKeyFile(fixed(7))
	if err != nil {
		t.Fatal(err)
	}
	secret, err := seal.ParseKeyFile(text)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := seal.NewSlot(fixed(9), "keys/0011223344556677", secret, seal.KDF{}, ring, "golden", goldenTime)
	if err != nil {
		t.Fatal(err)
	}
	return payload
}

func writeGolden(t *testing.T, file string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join("testdata", file), b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func readGolden(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Frames of each codec as encoders wrote them once.
func TestGoldenFramesDecode(t *testing.T) {
	if *update {
		var out strings.Builder
		for _, mode := range []Mode{None, Fast, Auto, Max} {
			fmt.Fprintf(&out, "%x\n", Compress(mode, blob.Record, goldenPlain, nil))
		}
		writeGolden(t, "frames.txt", []byte(out.String()))
	}
	codecs := map[byte]bool{}
	for _, line := range strings.Fields(string(readGolden(t, "frames.txt"))) {
		framed, err := hex.DecodeString(line)
		if err != nil {
			t.Fatal(err)
		}
		codecs[framed[0]] = true
		if got, err := Decompress(framed, nil); err != nil || !bytes.Equal(got, goldenPlain) {
			t.Errorf("codec %d: %v", framed[0], err)
		}
	}
	if len(codecs) != 3 {
		t.Errorf("codecs %v", codecs)
	}
}

func TestCompressChoosesByWhatPays(t *testing.T) {
	random := mixed(0, 128<<10)
	skewed := bytes.Clone(random) // no repeats, but few values: only entropy coding helps
	for i := range skewed {
		skewed[i] &= 0x37
	}
	repeats := bytes.Repeat(random[:1000], 131) // matches alone: zstd gains nothing over s2
	text := mixed(1, 128<<10)
	for name, c := range map[string]struct {
		mode  Mode
		kind  blob.Kind
		plain []byte
		want  byte
	}{
		"random":            {Auto, blob.DiskChunk, random, codecNone},
		"random, max":       {Max, blob.DiskChunk, random, codecNone},
		"random, fast":      {Fast, blob.DiskChunk, random, codecNone},
		"text":              {Auto, blob.DiskChunk, text, codecZstd},
		"text, small":       {Auto, blob.DiskChunk, text[:4000], codecZstd},
		"text, fast":        {Fast, blob.DiskChunk, text, codecS2},
		"text, none":        {None, blob.DiskChunk, text, codecNone},
		"text, max":         {Max, blob.DiskChunk, text, codecZstd},
		"text, zero mode":   {"", blob.DiskChunk, text, codecZstd},
		"skewed":            {Auto, blob.DiskChunk, skewed, codecZstd},
		"repeats":           {Auto, blob.DiskChunk, repeats, codecS2},
		"node of repeats":   {Auto, blob.MapNode, repeats[:4096], codecS2},
		"node of random":    {Auto, blob.MapNode + 1, random[:4096], codecNone},
		"tiny":              {Auto, blob.Record, text[:63], codecNone},
		"empty":             {Auto, blob.Record, nil, codecNone},
		"half compressible": {Max, blob.DiskChunk, append(bytes.Clone(random[:64<<10]), text[:64<<10]...), codecZstd},
	} {
		framed := Compress(c.mode, c.kind, c.plain, nil)
		if framed[0] != c.want {
			t.Errorf("%s: codec %d of %d bytes, want %d", name, framed[0], len(framed), c.want)
		}
		if got, err := Decompress(framed, nil); err != nil || !bytes.Equal(got, c.plain) {
			t.Errorf("%s: %v", name, err)
		}
		if len(framed) > len(c.plain)+frameBytes {
			t.Errorf("%s: grew to %d", name, len(framed))
		}
	}
}

// A chunk must not be framed in two ways, whoever framed what before.
func TestCompressDependsOnItsInputAlone(t *testing.T) {
	var plains, want [][]byte
	for i := range uint64(24) {
		plains = append(plains, mixed(i, 1000+int(i)*5000))
		want = append(want, Compress([]Mode{Auto, Max, Fast}[i/3%3], blob.DiskChunk, plains[i], nil))
	}
	var wg sync.WaitGroup
	for g := range uint64(4) {
		wg.Go(func() {
			var dst []byte
			for n := range uint64(48) {
				i := (n*(2*g+5) + g) % 24
				dst = Compress([]Mode{Auto, Max, Fast}[i/3%3], blob.DiskChunk, plains[i], dst)
				if !bytes.Equal(dst, want[i]) {
					t.Errorf("chunk %d is framed anew", i)
				}
			}
		})
	}
	wg.Wait()
}

func TestDecompressRefusesWhatDoesNotFit(t *testing.T) {
	text := mixed(1, 3000)
	for _, mode := range []Mode{None, Fast, Max} {
		framed := Compress(mode, blob.Record, text, nil)
		change := func(f func(b []byte) []byte) []byte { return f(bytes.Clone(framed)) }
		for name, b := range map[string][]byte{
			"cut":             framed[:len(framed)-1],
			"head alone":      framed[:5],
			"half a head":     framed[:4],
			"raw one less":    change(func(b []byte) []byte { b[1]--; return b }),
			"raw one more":    change(func(b []byte) []byte { b[1]++; return b }),
			"raw beyond":      change(func(b []byte) []byte { b[4] = 3; return b }),
			"unknown codec":   change(func(b []byte) []byte { b[0] = 3; return b }),
			"bytes after end": append(bytes.Clone(framed), 0),
		} {
			if _, err := Decompress(b, nil); !errors.Is(err, ErrCodec) {
				t.Errorf("%s, %s: %v", mode, name, err)
			}
		}
	}
	// A frame that unpacks to more than it says costs no more than it says.
	bomb := Compress(Max, blob.Record, make([]byte, 1<<20), nil)
	bomb[1], bomb[2], bomb[3] = 100, 0, 0
	if _, err := Decompress(bomb, nil); !errors.Is(err, ErrCodec) {
		t.Errorf("bomb: %v", err)
	}
	for _, word := range []string{"auto", "none", "fast", "max"} {
		if m, err := ParseMode(word); err != nil || string(m) != word {
			t.Errorf("%s: %v", word, err)
		}
	}
	if _, err := ParseMode(""); !errors.Is(err, ErrMode) {
		t.Error(err)
	}
}

var (
	goldenTime  = time.Date(2026, 11, 21, 22, 0, 0, 0, time.UTC)
	goldenPlain = []byte(strings.Repeat("a recovery point is what a backup leaves. ", 9) + "A point is complete, and no chain is.")
)
