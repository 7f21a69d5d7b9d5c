package seal

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/zeebo/blake3"

	"holdfast/repo/blob"
	"holdfast/repo/parity"
)

func fixed(seed byte) *mathrand.ChaCha8 { return mathrand.NewChaCha8([32]byte{seed}) }

// cheap is the least cost that the format allows.
var cheap = KDF{Time: 1, MemoryKiB: minMemoryKiB, Threads: 1}

const slotName = "keys/0123456789abcdef"

var created = time.Date(2026, 11, 21, 22, 0, 0, 0, time.UTC)

func testRing(t testing.TB) *Ring {
	t.Helper()
	r, err := NewRing(fixed(1))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// turn adds an epoch to a ring.
func turn(t testing.TB, r *Ring, seed byte) {
	t.Helper()
	n, err := r.NewRotation(fixed(seed))
	if err == nil {
		err = r.Adopt(n)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func password(t testing.TB, s string) Secret {
	t.Helper()
	secret, err := NewPassword([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

func keyFile(t testing.TB, seed byte) Secret {
	t.Helper()
	text, err := NewKeyFile(fixed(seed))
	if err != nil {
		t.Fatal(err)
	}
	secret, err := ParseKeyFile(text)
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

// The derivations are the law: another version must get these very values.
func TestDerivationsAreThoseOfTheFormat(t *testing.T) {
	k := testRing(t).Keys()
	aead, err := k.AEAD(parity.Commit, 1, [16]byte{9})
	if err != nil {
		t.Fatal(err)
	}
	nonce := Nonce(0x01020304)
	cdc := k.CDC()
	objectID := k.ObjectID([16]byte{5}, []byte("table"))
	for name, c := range map[string]struct{ got, want string }{
		"content id": {k.ID(blob.DiskChunk, []byte("holdfast")).String(), "b20a44c42a11a142290eb1074776796dd1637a9e4bf1cee1cec4a83faa7e6ab0"},
		"object id":  {hex.EncodeToString(objectID[:]), "157552038fed7a1adc5865dded2507a4"},
		"source":     {k.SourceName("vm-1042"), "16c6701dbc0b9b11"},
		"cdc":        {hex.EncodeToString(cdc[:]), "7bde3982ba972a126fe88ea7808cd08b16684de2c594592739b1b4d6d2071a02"},
		"seal":       {hex.EncodeToString(aead.Seal(nil, nonce[:], []byte("plain"), []byte("commit/a/b"))), "f9c4b4496b60e3e1fd741971da3848c5d4f0e4585e"},
		"nonce":      {hex.EncodeToString(nonce[:]), "040302010000000000000000"},
	} {
		if c.got != c.want {
			t.Errorf("%s: %s, want %s", name, c.got, c.want)
		}
	}
}

// The content id, computed from the words of FORMAT.md §5 by another path.
func TestContentIDHashesKindLengthAndBytes(t *testing.T) {
	r := testRing(t)
	k := r.Keys()
	for _, n := range []int{0, 1, 8183, 8184, 100_000} {
		plain := bytes.Repeat([]byte{7}, n)
		text := append([]byte{byte(blob.MapNode + 1)}, binary.LittleEndian.AppendUint64(nil, uint64(n))...)
		h, err := blake3.NewKeyed(derive(r.held().id, nil, "holdfast/1 id"))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = h.Write(append(text, plain...))
		if got := k.ID(blob.MapNode+1, plain); got != blob.ID(h.Sum(nil)) {
			t.Errorf("%d bytes: %s", n, got)
		}
	}
	if k.ID(blob.DiskChunk, nil) == k.ID(blob.StreamChunk, nil) {
		t.Error("kind does not enter the id")
	}
}

func TestIDAllocatesNothing(t *testing.T) {
	k := testRing(t).Keys()
	plain := make([]byte, 128<<10)
	if n := testing.AllocsPerRun(100, func() { k.ID(blob.DiskChunk, plain) }); n > 0.5 {
		t.Errorf("%v allocations", n)
	}
}

func TestKeysDifferByKindEpochAndObject(t *testing.T) {
	r := testRing(t)
	turn(t, r, 2)
	if r.Current() != 2 {
		t.Fatalf("epoch %d", r.Current())
	}
	k := r.Keys()
	if k.Epoch() != 2 {
		t.Errorf("sealing in epoch %d", k.Epoch())
	}
	seen := map[string]string{}
	for _, kind := range parity.Kinds() {
		for epoch := uint32(1); epoch <= 2; epoch++ {
			for _, id := range [][16]byte{{}, {1}} {
				aead, err := k.AEAD(kind, epoch, id)
				if kind == parity.Key {
					if err == nil {
						t.Error("the ring seals key slots")
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				nonce := Nonce(0)
				tag := string(aead.Seal(nil, nonce[:], nil, nil))
				name := fmt.Sprint(kind, epoch, id)
				if other, ok := seen[tag]; ok {
					t.Errorf("%s and %s have one key", name, other)
				}
				seen[tag] = name
			}
		}
	}
	if _, err := k.AEAD(parity.Data, 3, [16]byte{}); !errors.Is(err, ErrUnknownEpoch) {
		t.Errorf("epoch 3: %v", err)
	}
	if a, b := testRing(t).Keys(), r.Keys(); a.ID(blob.Record, []byte("x")) != b.ID(blob.Record, []byte("x")) || a.SourceName("s") != b.SourceName("s") {
		t.Error("an epoch changed the ids")
	}
}

func TestSlotOpensWithItsSecretAlone(t *testing.T) {
	ring := testRing(t)
	turn(t, ring, 3)
	secrets := map[string]Secret{"password": password(t, "correct horse"), "key file": keyFile(t, 4)}
	wrong := []Secret{password(t, "correct horsf"), keyFile(t, 5), {}}
	for name, secret := range secrets {
		payload, err := NewSlot(fixed(6), slotName, secret, cheap, ring, "laptop of Ada", created)
		if err != nil {
			t.Fatal(err)
		}
		got, err := OpenSlot(append(payload, make([]byte, 100)...), slotName, secret)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		a, b := ring.Keys(), got.Keys()
		if a.ID(1, nil) != b.ID(1, nil) || b.Epoch() != 2 || !bytes.Equal(a.held().epochs.Load().kinds[kindEpoch{parity.Meta, 1}], b.held().epochs.Load().kinds[kindEpoch{parity.Meta, 1}]) {
			t.Errorf("%s: another ring came out", name)
		}
		for i, w := range wrong {
			if _, err := OpenSlot(payload, slotName, w); !errors.Is(err, ErrWrongKey) {
				t.Errorf("%s, wrong secret %d: %v", name, i, err)
			}
		}
		if _, err := OpenSlot(payload, "keys/fedcba9876543210", secret); !errors.Is(err, ErrSlotDamaged) {
			t.Errorf("%s under another name: %v", name, err)
		}
		info, err := ReadSlotInfo(payload)
		if err != nil || info.KeyFile != secret.IsKeyFile() || info.Label != "laptop of Ada" || !info.Created.Equal(created) || (!info.KeyFile && info.KDF != cheap) {
			t.Errorf("%s: info %+v, %v", name, info, err)
		}
	}
}

// A key-file slot is cheap to try: every bit of it is flipped. The outcome is
// the ring or an error, and never a panic or another ring.
func TestEveryBitOfASlotIsNoticed(t *testing.T) {
	secret := keyFile(t, 4)
	payload, err := NewSlot(fixed(6), slotName, secret, KDF{}, testRing(t), "x", created)
	if err != nil {
		t.Fatal(err)
	}
	payload = append(payload, 0, 0, 0)
	want := testRing(t).Keys().ID(1, nil)
	for at := range payload {
		for bit := range 8 {
			payload[at] ^= 1 << bit
			if ring, err := OpenSlot(payload, slotName, secret); err == nil {
				t.Fatalf("bit %d of byte %d: opened, same ring: %v", bit, at, ring.Keys().ID(1, nil) == want)
			} else if !errors.Is(err, ErrWrongKey) && !errors.Is(err, ErrSlotDamaged) && !errors.Is(err, ErrUnsupported) {
				t.Fatalf("bit %d of byte %d: %v", bit, at, err)
			}
			payload[at] ^= 1 << bit
		}
	}
	if _, err := OpenSlot(payload, slotName, secret); err != nil {
		t.Fatal(err)
	}
}

// forge builds a slot with any header around a wrapped part of rubbish.
func forge(h map[string]any) []byte {
	head, _ := json.Marshal(h)
	out := binary.LittleEndian.AppendUint32(nil, uint32(len(head)))
	out = append(out, head...)
	out = binary.LittleEndian.AppendUint32(out, 16)
	return append(out, make([]byte, 16)...)
}

func TestSlotLimitsAreCheckedBeforeAnyWork(t *testing.T) {
	base := func(change map[string]any) []byte {
		h := map[string]any{"version": 1, "kdf": "argon2id", "t": 1, "m_kib": 8192, "p": 1, "salt": make([]byte, 32), "commit": make([]byte, 32), "created": "2026-11-21T22:00:00Z", "label": ""}
		for k, v := range change {
			h[k] = v
		}
		return forge(h)
	}
	secret := password(t, "x")
	if _, err := OpenSlot(base(nil), slotName, secret); !errors.Is(err, ErrWrongKey) {
		t.Fatalf("base: %v", err)
	}
	for name, change := range map[string]map[string]any{
		"version 2": {"version": 2}, "no version": {"version": 0}, "scrypt": {"kdf": "scrypt"},
		"t 0": {"t": 0}, "t 17": {"t": 17}, "t huge": {"t": int64(1<<32 - 1)},
		"m small": {"m_kib": 8191}, "m huge": {"m_kib": 4194305}, "p 0": {"p": 0}, "p 17": {"p": 17}, "p 257": {"p": 257},
		"salt short": {"salt": make([]byte, 15)}, "salt long": {"salt": make([]byte, 65)}, "no salt": {"salt": nil},
	} {
		if _, err := OpenSlot(base(change), slotName, secret); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, payload := range map[string][]byte{
		"empty": nil, "short": {1, 2, 3}, "length beyond": {255, 255, 255, 255, 0}, "length 2^31": {0, 0, 0, 128},
		"no json": append([]byte{4, 0, 0, 0}, "junk\x00\x00\x00\x00"...), "tail not zero": append(base(nil), 0, 1),
		"type": base(map[string]any{"t": "many"}), "negative": base(map[string]any{"t": -1}),
	} {
		if _, err := OpenSlot(payload, slotName, secret); !errors.Is(err, ErrSlotDamaged) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := ReadSlotInfo(payload); !errors.Is(err, ErrSlotDamaged) {
			t.Errorf("%s: info: %v", name, err)
		}
	}
	if _, err := OpenSlot(base(map[string]any{"future": true}), slotName, secret); !errors.Is(err, ErrWrongKey) {
		t.Errorf("unknown field: %v", err)
	}
}

func TestNewSlotRefuses(t *testing.T) {
	ring := testRing(t)
	if _, err := NewSlot(fixed(1), slotName, Secret{}, cheap, ring, "", created); !errors.Is(err, ErrEmptyPassword) {
		t.Errorf("no secret: %v", err)
	}
	if _, err := NewSlot(fixed(1), slotName, password(t, "x"), KDF{Time: 99, MemoryKiB: 8192, Threads: 1}, ring, "", created); !errors.Is(err, ErrUnsupported) {
		t.Errorf("cost beyond limits: %v", err)
	}
	if _, err := NewSlot(fixed(1), slotName, password(t, "x"), cheap, ring, strings.Repeat("x", 5000), created); err == nil {
		t.Error("label of 5,000 bytes taken")
	}
	if _, err := NewSlot(bytes.NewReader(nil), slotName, keyFile(t, 1), cheap, ring, "", created); err == nil {
		t.Error("slot without randomness")
	}
	if _, err := NewPassword(nil); !errors.Is(err, ErrEmptyPassword) {
		t.Errorf("empty password: %v", err)
	}
	if _, err := NewRing(bytes.NewReader(make([]byte, 40))); err == nil {
		t.Error("ring without randomness")
	}
}

func TestRingDecodesStrictly(t *testing.T) {
	root := make([]byte, 32)
	for name, c := range map[string]struct {
		ring any
		want error
	}{
		"no json":     {"x", ErrSlotDamaged},
		"version":     {ringJSON{2, root, []epochJSON{{1, root}}}, ErrUnsupported},
		"no epochs":   {ringJSON{1, root, nil}, ErrSlotDamaged},
		"epoch 0":     {ringJSON{1, root, []epochJSON{{0, root}}}, ErrSlotDamaged},
		"gap":         {ringJSON{1, root, []epochJSON{{1, root}, {3, root}}}, ErrSlotDamaged},
		"short root":  {ringJSON{1, root, []epochJSON{{1, root[:31]}}}, ErrSlotDamaged},
		"no id root":  {ringJSON{1, nil, []epochJSON{{1, root}}}, ErrSlotDamaged},
		"many epochs": {ringJSON{1, root, make([]epochJSON, maxEpochs+1)}, ErrSlotDamaged},
	} {
		b, err := json.Marshal(c.ring)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeRing(b); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := testRing(t)
	for r.Current() < maxEpochs {
		turn(t, r, 1)
	}
	if _, err := r.NewRotation(fixed(1)); !errors.Is(err, ErrRingFull) {
		t.Errorf("one epoch too many: %v", err)
	}
	b, current, err := r.encode()
	if err != nil || current != maxEpochs || len(b) > maxRingBytes {
		t.Fatalf("full ring of %d bytes: %v", len(b), err)
	}
	if again, err := decodeRing(b); err != nil || again.Current() != maxEpochs {
		t.Fatal(err)
	}
}

func TestKeyFileText(t *testing.T) {
	text, err := NewKeyFile(fixed(9))
	if err != nil || len(text) != len("holdfast-key-1 ")+44+1 || text[len(text)-1] != '\n' {
		t.Fatalf("%q, %v", text, err)
	}
	want, err := ParseKeyFile(text)
	if err != nil || !want.IsKeyFile() {
		t.Fatal(err)
	}
	for _, ok := range []string{string(text[:len(text)-1]), strings.Replace(string(text), "\n", "\r\n\r\n", 1)} {
		if got, err := ParseKeyFile([]byte(ok)); err != nil || !bytes.Equal(got.held(), want.held()) {
			t.Errorf("%q: %v", ok, err)
		}
	}
	half := len(text) / 2
	for _, bad := range []string{"", "\n", "holdfast-key-2" + string(text[14:]), "holdfast-key-1 ", string(text[1:]), string(text[:50]) + "\n",
		string(text[:half]) + "\n" + string(text[half:]), string(text) + string(text), " " + string(text), "holdfast-key-1  " + string(text[15:])} {
		_, err := ParseKeyFile([]byte(bad))
		if !errors.Is(err, ErrKeyFile) {
			t.Errorf("%q: %v", bad, err)
		}
		if err != nil && strings.Contains(err.Error(), string(text[20:30])) {
			t.Errorf("the error quotes the key: %v", err)
		}
	}
}

func TestSecretsNeverPrint(t *testing.T) {
	type nested struct {
		Public any
		hidden Secret
		ring   *Ring
		keys   *Keys
	}
	ring := testRing(t)
	secret := password(t, "hunter2")
	n := nested{secret, secret, ring, ring.Keys()}
	var out bytes.Buffer
	for _, v := range []any{secret, &secret, ring, ring.Keys(), n, &n, []Secret{secret}, map[string]Secret{"a": secret}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%X"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(b)
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", v)
	}
	fmt.Fprint(&out, secret.String(), secret.GoString(), ring.String(), ring.GoString(), ring.Keys().String(), ring.Keys().GoString())
	text := out.String()
	for _, leak := range []string{"hunter2", hex.EncodeToString([]byte("hunter2")), "104 117 110", fmt.Sprint(ring.held().id), hex.EncodeToString(ring.held().id), fmt.Sprint(ring.held().sealing[1])} {
		if strings.Contains(strings.ToLower(text), strings.Trim(leak, "[]")) {
			t.Errorf("%q is printed", leak)
		}
	}
	if !strings.Contains(text, redacted) {
		t.Error("nothing is printed at all")
	}
}

func FuzzSlot(f *testing.F) {
	secret := keyFile(f, 4)
	payload, err := NewSlot(fixed(6), slotName, secret, KDF{}, testRing(f), "x", created)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(payload)
	f.Add(forge(map[string]any{"version": 1, "kdf": "keyfile", "salt": make([]byte, 32)}))
	f.Add([]byte{1, 0, 0, 0, '{'})
	f.Fuzz(func(t *testing.T, b []byte) {
		ring, err := OpenSlot(b, slotName, secret)
		if err == nil && !bytes.Equal(bytes.TrimRight(b, "\x00"), bytes.TrimRight(payload, "\x00")) {
			t.Fatalf("rubbish opens: %v", ring)
		}
		if err != nil && !errors.Is(err, ErrWrongKey) && !errors.Is(err, ErrSlotDamaged) && !errors.Is(err, ErrUnsupported) {
			t.Fatal(err)
		}
		_, _ = ReadSlotInfo(b)
		_, _ = ParseKeyFile(b)
		_, _ = decodeRing(b)
	})
}

func BenchmarkID(b *testing.B) {
	k := testRing(b).Keys()
	for _, n := range []int{4 << 10, 128 << 10, 1 << 20} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			plain := make([]byte, n)
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				k.ID(blob.DiskChunk, plain)
			}
		})
	}
}

func BenchmarkAEADKey(b *testing.B) {
	k := testRing(b).Keys()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.AEAD(parity.Data, 1, [16]byte{1}); err != nil {
			b.Fatal(err)
		}
	}
}
