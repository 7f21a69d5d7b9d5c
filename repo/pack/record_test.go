package pack

import (
	"bytes"
	"errors"
	"os"
	"runtime/debug"
	"testing"

	"holdfast/repo/blob"
	"holdfast/repo/parity"
	"holdfast/repo/seal"
)

const recordName = "commit/1111111111111111/0000000a-1111111111111111-2222222222222222"

var recordPayload = []byte(`{"version":1,"point":{"time":"2026-11-21T22:00:00Z","items":["disk-2000","disk-2001"]}}`)

// small is one small object of a kind, the name it has, and how to read it.
type small struct {
	kind parity.Kind
	name string
	obj  []byte
	want []byte
	read func(obj []byte) ([]byte, error)
}

func smallObject(t testing.TB, keys *seal.Keys, kind parity.Kind) small {
	t.Helper()
	s := small{kind: kind, name: kind.String() + "/x", want: recordPayload}
	p := Params{Keys: keys, Kind: kind, NameOf: fixedName(s.name), Rand: fixed(byte(kind))}
	var o *Object
	var err error
	switch {
	case kind == parity.Key:
		return slotObject(t)
	case kind.IsPack():
		o, err = Encode(p, chunksOf(keys, Auto, recordPayload, []byte("second")))
		s.read = func(obj []byte) ([]byte, error) {
			e := o.Entries[0]
			plain, _, err := OpenChunkIn(keys, refOf(o, e), e.Stored, obj, e.ID, e.Kind)
			return plain, err
		}
	default:
		o, err = EncodeRecord(p, recordPayload)
		s.read = func(obj []byte) ([]byte, error) {
			payload, _, err := OpenRecord(keys, s.name, kind, obj)
			return payload, err
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	s.obj = o.Bytes
	return s
}

func slotObject(t testing.TB) small {
	t.Helper()
	obj, err := EncodeSlot(recordPayload)
	if err != nil {
		t.Fatal(err)
	}
	return small{kind: parity.Key, obj: obj, want: recordPayload, read: func(obj []byte) ([]byte, error) {
		d, err := DecodeSlot(obj)
		return bytes.TrimRight(d, "\x00"), err
	}}
}

func refOf(o *Object, e Entry) Ref {
	return Ref{Name: o.Name, Kind: o.Header.Kind, Epoch: o.Header.Epoch, ID: o.ID, Offset: e.Offset}
}

func TestEveryKindRoundTrips(t *testing.T) {
	keys := testKeys(t)
	for _, kind := range parity.Kinds() {
		s := smallObject(t, keys, kind)
		if got, err := s.read(s.obj); err != nil || !bytes.Equal(got, s.want) {
			t.Errorf("%s: %q, %v", kind, got, err)
		}
	}
	for _, payload := range [][]byte{{}, {0}, bytes.Repeat([]byte("a"), 1<<20)} {
		o, err := EncodeRecord(Params{Keys: keys, Kind: parity.Ledger, NameOf: fixedName("ledger/00000000")}, payload)
		if err != nil {
			t.Fatal(err)
		}
		got, healed, err := OpenRecord(keys, o.Name, parity.Ledger, o.Bytes)
		if err != nil || healed || !bytes.Equal(got, payload) {
			t.Errorf("%d bytes: %v", len(payload), err)
		}
	}
}

// Every bit of one small object of each kind: the reader gets the right bytes,
// and the key-less heal the original object. Sums, parity and back pages of all
// sealed kinds are alike, so they are done for commit and key slot alone;
// HOLDFAST_LONG=1 does all of all.
func TestEveryBitOfASmallObjectOfEachKind(t *testing.T) {
	percent := debug.SetGCPercent(1000) // millions of small objects in a small heap
	t.Cleanup(func() { debug.SetGCPercent(percent) })
	keys := testKeys(t)
	for _, kind := range parity.Kinds() {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			s := smallObject(t, keys, kind)
			all := kind == parity.Key || kind == parity.Commit || os.Getenv("HOLDFAST_LONG") != ""
			bad := bytes.Clone(s.obj)
			for at := range s.obj {
				if inFieldsOrD := at < 128 || at/4096 == 1; !all && !inFieldsOrD {
					continue
				}
				for bit := range 8 {
					bad[at] ^= 1 << bit
					if got, err := s.read(bad); err != nil || !bytes.Equal(got, s.want) {
						t.Fatalf("bit %d of byte %d: read %q, %v", bit, at, got, err)
					}
					if fixed, d, err := parity.Heal(bad); err != nil || d.Clean() || !bytes.Equal(fixed, s.obj) {
						t.Fatalf("bit %d of byte %d: heal: %v, %v", bit, at, d, err)
					}
					bad[at] ^= 1 << bit
				}
			}
		})
	}
}

// Without parity a flip cannot heal, and then there is an error, never other bytes.
func TestEveryByteOfAnObjectWithoutParity(t *testing.T) {
	keys := testKeys(t)
	o, err := EncodeRecord(Params{Keys: keys, Kind: parity.Commit, NameOf: fixedName(recordName), Profile: parity.Off, Rand: fixed(4)}, recordPayload)
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for at := range o.Bytes {
		o.Bytes[at] ^= 1 << (at % 8)
		got, _, err := OpenRecord(keys, recordName, parity.Commit, o.Bytes)
		switch {
		case err == nil && !bytes.Equal(got, recordPayload):
			t.Fatalf("byte %d: other bytes read", at)
		case err != nil && !errors.Is(err, ErrDamaged):
			t.Fatalf("byte %d: %v", at, err)
		case err != nil:
			refused++
		}
		o.Bytes[at] ^= 1 << (at % 8)
	}
	if refused < 150 {
		t.Fatalf("only %d bytes mattered", refused)
	}
}

func flipped(obj []byte, offsets ...int) []byte {
	b := bytes.Clone(obj)
	for _, at := range offsets {
		b[at] ^= 1
	}
	return b
}

// forge changes a byte of D and makes sums and parity fit.
func forge(t *testing.T, obj []byte, at int) []byte {
	t.Helper()
	h, err := parity.FindHeader(obj)
	if err != nil {
		t.Fatal(err)
	}
	b, err := parity.Protect(h, flipped(obj[4096:8192], at))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestReadersTellRotFromTampering(t *testing.T) {
	keys := testKeys(t)
	s := smallObject(t, keys, parity.Commit)
	flip := func(offsets ...int) []byte { return flipped(s.obj, offsets...) }
	forged := func(at int) []byte { return forge(t, s.obj, at) }
	other, err := seal.NewRing(fixed(99))
	if err != nil {
		t.Fatal(err)
	}
	footer := 8192 - 5
	for name, c := range map[string]struct {
		keys   *seal.Keys
		name   string
		kind   parity.Kind
		obj    []byte
		want   error
		healed bool
	}{
		"whole":                       {keys, s.name, s.kind, s.obj, nil, false},
		"rot in the chunk":            {keys, s.name, s.kind, flip(4100), nil, true},
		"rot in footer and a copy":    {keys, s.name, s.kind, flip(footer, footer+4096), nil, true},
		"rot in page 0":               {keys, s.name, s.kind, flip(20), nil, false},
		"torn tail":                   {keys, s.name, s.kind, s.obj[:9000], nil, true},
		"torn head":                   {keys, s.name, s.kind, s.obj[9000:], nil, true},
		"rot in all copies":           {keys, s.name, s.kind, flip(footer, footer+4096, footer+8192), ErrDamaged, false},
		"rot in all, but not in use":  {keys, s.name, s.kind, flip(6000, 6000+4096, 6000+8192), nil, false},
		"rot in both pages 0":         {keys, s.name, s.kind, flip(20, len(s.obj)-4000), ErrDamaged, false},
		"empty":                       {keys, s.name, s.kind, nil, ErrDamaged, false},
		"rubbish":                     {keys, s.name, s.kind, make([]byte, 20480), ErrDamaged, false},
		"forged chunk":                {keys, s.name, s.kind, forged(3), ErrTampered, false},
		"forged footer":               {keys, s.name, s.kind, forged(4090), ErrTampered, false},
		"another's name":              {keys, s.name + "y", s.kind, s.obj, ErrTampered, false},
		"another's keys":              {other.Keys(), s.name, s.kind, s.obj, ErrTampered, false},
		"as another kind":             {keys, s.name, parity.Forget, s.obj, ErrFormat, false},
		"a key slot":                  {keys, s.name, s.kind, slotObject(t).obj, ErrFormat, false},
		"a pack":                      {keys, "data/x", parity.Data, smallObject(t, keys, parity.Data).obj, ErrFormat, false},
		"forged, and rot on top":      {keys, s.name, s.kind, append([]byte{0}, forged(3)[1:]...), ErrTampered, false},
		"rot in chunk, name swapped ": {keys, s.name + "y", s.kind, flip(4100), ErrTampered, false},
	} {
		before := bytes.Clone(c.obj)
		got, healed, err := OpenRecord(c.keys, c.name, c.kind, c.obj)
		if !errors.Is(err, c.want) || healed != c.healed || (c.want == nil && !bytes.Equal(got, s.want)) || (c.want != nil && got != nil) {
			t.Errorf("%s: %q, healed %v, %v", name, got, healed, err)
		}
		if !bytes.Equal(before, c.obj) {
			t.Errorf("%s: reading changed the object", name)
		}
	}
}

func TestOpenChunkChecksEverything(t *testing.T) {
	keys := testKeys(t)
	o, err := Encode(Params{Keys: keys, Kind: parity.Data, NameOf: packName, Rand: fixed(3)}, chunksOf(keys, Auto, mixed(0, 5000), mixed(1, 5000)))
	if err != nil {
		t.Fatal(err)
	}
	e, next := o.Entries[0], o.Entries[1]
	sealed := o.Bytes[e.Offset : e.Offset+e.Stored]
	ref := refOf(o, e)
	with := func(change func(*Ref)) Ref { r := ref; change(&r); return r }
	for name, c := range map[string]struct {
		ref    Ref
		sealed []byte
		id     blob.ID
		kind   blob.Kind
		want   error
	}{
		"as it is":       {ref, sealed, e.ID, e.Kind, nil},
		"short":          {ref, sealed[:len(sealed)-1], e.ID, e.Kind, ErrSeal},
		"empty":          {ref, nil, e.ID, e.Kind, ErrSeal},
		"other offset":   {with(func(r *Ref) { r.Offset++ }), sealed, e.ID, e.Kind, ErrSeal},
		"other name":     {with(func(r *Ref) { r.Name += "0" }), sealed, e.ID, e.Kind, ErrSeal},
		"other object":   {with(func(r *Ref) { r.ID[3]++ }), sealed, e.ID, e.Kind, ErrSeal},
		"other kind":     {with(func(r *Ref) { r.Kind = parity.Meta }), sealed, e.ID, e.Kind, ErrSeal},
		"other epoch":    {with(func(r *Ref) { r.Epoch++ }), sealed, e.ID, e.Kind, seal.ErrUnknownEpoch},
		"other id":       {ref, sealed, next.ID, e.Kind, ErrContent},
		"other content":  {ref, sealed, e.ID, blob.StreamChunk, ErrContent},
		"next one's":     {ref, o.Bytes[next.Offset : next.Offset+next.Stored], e.ID, e.Kind, ErrSeal},
		"the zero id":    {ref, sealed, blob.ID{}, e.Kind, ErrContent},
		"key slot kind ": {with(func(r *Ref) { r.Kind = parity.Key }), sealed, e.ID, e.Kind, seal.ErrUnknownEpoch},
	} {
		if got, err := OpenChunk(keys, c.ref, c.sealed, c.id, c.kind); !errors.Is(err, c.want) || (got == nil) != (c.want != nil) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	if _, _, err := OpenChunkIn(keys, ref, 1<<31, o.Bytes, e.ID, e.Kind); !errors.Is(err, ErrTampered) {
		t.Errorf("range outside the object: %v", err)
	}
}

func TestPartlyLostPackTellsWhichChunksAreGone(t *testing.T) {
	keys := testKeys(t)
	var plains [][]byte
	for i := range uint64(20) {
		plains = append(plains, mixed(i*3, 30_000))
	}
	o, err := Encode(Params{Keys: keys, Kind: parity.Data, NameOf: packName, Rand: fixed(3)}, chunksOf(keys, None, plains...))
	if err != nil {
		t.Fatal(err)
	}
	s := o.Header.Shape
	bad := bytes.Clone(o.Bytes)
	for shard := range s.M + 1 { // the first cell of the first m+1 shards: one row
		bad[s.CellOffset(shard*s.Rows())] ^= 1
	}
	fixed, d, err := parity.Heal(bad)
	if !errors.Is(err, parity.ErrLost) || len(d.Lost) != s.M+1 {
		t.Fatalf("%v, %v", d, err)
	}
	gone := map[int]bool{}
	for _, c := range d.Lost {
		for i, e := range o.Entries {
			if at := uint32(s.CellOffset(c)); e.Offset < at+parity.CellBytes && at < e.Offset+e.Stored {
				gone[i] = true
			}
		}
	}
	i := 0
	err = VerifyAll(keys, o.Name, fixed, func(e Entry, plain []byte, err error) error {
		// A lost cell need not spoil each chunk it touches, but no other may be spoiled.
		if (err != nil && !gone[i]) || (err == nil && !bytes.Equal(plain, plains[i])) {
			t.Errorf("chunk %d: %v", i, err)
		}
		if errors.Is(err, ErrSeal) {
			delete(gone, i)
		}
		i++
		return nil
	})
	if !errors.Is(err, ErrSeal) || i != 20 {
		t.Errorf("%d chunks, %v", i, err)
	}
	stop := errors.New("stop")
	if err := VerifyAll(keys, o.Name, fixed, func(Entry, []byte, error) error { return stop }); err != stop {
		t.Errorf("walk did not stop: %v", err)
	}
	if _, _, err := OpenTable(keys, o.Name, bad); err != nil {
		t.Errorf("table: %v", err)
	}
}
