package seal

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"holdfast/repo/parity"
)

const (
	boxName      = "epochs/00000002/0011223344556677/0123456789abcdef"
	decisionName = "epochs/00000002/decision"
	removalName  = "removals/00000000"
)

// slotOf wraps the ring in a slot for a key file and opens it again.
func slotOf(t testing.TB, r *Ring, name string, seed byte) (payload []byte, opened *Ring) {
	t.Helper()
	payload, err := NewSlot(fixed(seed), name, keyFile(t, seed), KDF{}, r, "", created)
	if err != nil {
		t.Fatal(err)
	}
	if opened, err = OpenSlot(payload, name, keyFile(t, seed)); err != nil {
		t.Fatal(err)
	}
	return payload, opened
}

// rotation draws the next epoch and boxes it for one vouched slot.
func rotation(t testing.TB, r *Ring, slot []byte, seed byte) (n *Rotation, box, decision []byte) {
	t.Helper()
	m, err := r.Vouched(slot, slotName)
	if err != nil {
		t.Fatal(err)
	}
	if n, err = r.NewRotation(fixed(seed)); err != nil {
		t.Fatal(err)
	}
	if box, err = n.Box(boxName, m); err != nil {
		t.Fatal(err)
	}
	if decision, err = n.Decision(decisionName); err != nil {
		t.Fatal(err)
	}
	return n, box, decision
}

// What stands in FORMAT.md §6 about rotation: another program must get these.
func TestRotationDerivationsAreThoseOfTheFormat(t *testing.T) {
	r := testRing(t)
	slot, _ := slotOf(t, r, slotName, 4)
	h, _, _, err := parseSlot(slot)
	if err != nil {
		t.Fatal(err)
	}
	_, _, decision := rotation(t, r, slot, 5)
	removal, err := r.Removal(removalName, "0123456789abcdef")
	if err != nil {
		t.Fatal(err)
	}
	sum := func(b []byte) string { s := sha256.Sum256(b); return hex.EncodeToString(s[:8]) }
	for name, c := range map[string]struct{ got, want string }{
		"recipient": {sum(h.Recipient), "337e272c2bf26c20"},
		"member":    {hex.EncodeToString(h.Member[:8]), "30335ff3b8b71696"},
		"decision":  {sum(decision), "7a77b69cdf971b5d"},
		"removal":   {sum(removal), "10e4ef6e3e6f7ee3"},
	} {
		if c.got != c.want {
			t.Errorf("%s: %s, want %s", name, c.got, c.want)
		}
	}
	if len(h.Recipient) != 1216 || h.Epoch != 1 {
		t.Errorf("recipient of %d bytes, epoch %d", len(h.Recipient), h.Epoch)
	}
}

// A slot follows a rotation by somebody who does not know its secret.
func TestBoxBringsTheNextRootToItsSlotAlone(t *testing.T) {
	r := testRing(t)
	slot, mine := slotOf(t, r, slotName, 4)
	_, other := slotOf(t, r, "keys/fedcba9876543210", 5)
	n, box, decision := rotation(t, r, slot, 6)
	d, err := mine.ReadDecision(decision, decisionName, 2)
	if err != nil || d.Rotation != n.ID() || d.Epoch != 2 {
		t.Fatalf("%+v %v", d, err)
	}
	if err := other.Grow(d, box, boxName); !errors.Is(err, ErrSlotDamaged) {
		t.Errorf("another slot's box: %v", err)
	}
	if err := mine.Grow(d, box, strings.Replace(boxName, "2/", "3/", 1)); !errors.Is(err, ErrSlotDamaged) {
		t.Errorf("a box under another name: %v", err)
	}
	if err := testRing(t).Grow(d, box, boxName); !errors.Is(err, ErrNoIdentity) {
		t.Errorf("a ring of no slot: %v", err)
	}
	keys := mine.Keys()
	if err := mine.Grow(d, box, boxName); err != nil || mine.Current() != 2 {
		t.Fatalf("own box: epoch %d, %v", mine.Current(), err)
	}
	if err := r.Adopt(n); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(mine.held().root(2), r.held().root(2)) || bytes.Equal(mine.held().root(2), r.held().root(1)) {
		t.Error("another root came out of the box")
	}
	if err := mine.Grow(d, box, boxName); err != nil || mine.Current() != 2 {
		t.Errorf("the same box again: epoch %d, %v", mine.Current(), err)
	}
	if err := testRing(t).Adopt(&Rotation{root: veil(make([]byte, 32)), epoch: 3}); !errors.Is(err, ErrUnknownEpoch) {
		t.Errorf("an epoch left out: %v", err)
	}
	// Keys that are in use grow in place.
	if _, err := keys.AEAD(parity.Data, 2, [16]byte{}); !errors.Is(err, ErrUnknownEpoch) || keys.Epoch() != 1 {
		t.Errorf("before: %v", err)
	}
	keys.Update(mine)
	if _, err := keys.AEAD(parity.Data, 2, [16]byte{}); err != nil || keys.Epoch() != 2 || keys.IsCurrent(1) || !keys.IsCurrent(2) {
		t.Errorf("after: %v", err)
	}
	keys.Update(testRing(t))
	if keys.Epoch() != 2 {
		t.Error("an older ring took an epoch away")
	}
}

// The place of storage puts a root of its own into a box, or a decision of its
// own beside it.
func TestPlaceOfStorageCannotHandOutARootOfItsOwn(t *testing.T) {
	r := testRing(t)
	slot, mine := slotOf(t, r, slotName, 4)
	_, _, decision := rotation(t, r, slot, 6)
	foreign, err := NewRing(fixed(50))
	if err != nil {
		t.Fatal(err)
	}
	m, err := r.Vouched(slot, slotName) // its recipient is public
	if err != nil {
		t.Fatal(err)
	}
	n, err := foreign.NewRotation(fixed(51))
	if err != nil {
		t.Fatal(err)
	}
	forgedBox, err := n.Box(boxName, m)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := n.Decision(decisionName)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mine.ReadDecision(forged, decisionName, 2); !errors.Is(err, ErrForged) {
		t.Errorf("a forged decision: %v", err)
	}
	if _, err := mine.ReadDecision(decision, "epochs/00000003/decision", 2); !errors.Is(err, ErrForged) {
		t.Errorf("a decision under another name: %v", err)
	}
	d, err := mine.ReadDecision(decision, decisionName, 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := mine.Grow(d, forgedBox, boxName); !errors.Is(err, ErrSlotDamaged) || mine.Current() != 1 {
		t.Errorf("a forged box: %v, epoch %d", err, mine.Current())
	}
	if _, err := mine.ReadDecision(decision, decisionName, 4); !errors.Is(err, ErrUnknownEpoch) {
		t.Errorf("a decision beyond the ring: %v", err)
	}
}

// Somebody who had a key once knows the id root and the old roots. With them
// alone he brings no slot into the next rotation.
func TestHolderOfOldRootsCannotBringASlotIn(t *testing.T) {
	r := testRing(t)
	slot, past := slotOf(t, r, slotName, 4)
	removed, _ := slotOf(t, r, "keys/fedcba9876543210", 5)
	n, box, _ := rotation(t, r, slot, 6)
	if err := r.Adopt(n); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Vouched(slot, slotName); !errors.Is(err, ErrNotVouched) {
		t.Errorf("a slot of epoch 1 without a box: %v", err)
	}
	if m, err := r.VouchedBy(slot, slotName, box); err != nil || m.slot != slotName {
		t.Errorf("a slot of epoch 1 with its box: %v", err)
	}
	if _, err := r.VouchedBy(removed, "keys/fedcba9876543210", box); !errors.Is(err, ErrNotVouched) {
		t.Errorf("a slot with another's box: %v", err)
	}
	if _, err := r.VouchedBy(slot, "keys/fedcba9876543210", box); !errors.Is(err, ErrNotVouched) {
		t.Errorf("a slot under another name with a box: %v", err)
	}
	// A slot made with the old ring that claims to be of epoch 2.
	late, _ := slotOf(t, past, slotName, 7)
	if _, err := r.VouchedBy(late, slotName, box); !errors.Is(err, ErrNotVouched) {
		t.Errorf("another slot under the name of one that has a box: %v", err)
	}
	h, _, wrapped, err := parseSlot(late)
	if err != nil {
		t.Fatal(err)
	}
	h.Epoch = 2
	head, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Vouched(joinParts(head, wrapped), slotName); !errors.Is(err, ErrNotVouched) {
		t.Errorf("a slot that lies about its epoch: %v", err)
	}
	// A box of his own, sealed to himself, with a root that he does not know.
	n2, err := past.NewRotation(fixed(60))
	if err != nil {
		t.Fatal(err)
	}
	his, err := n2.Box(boxName, Member{slotName, h.Recipient})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.VouchedBy(late, slotName, his); !errors.Is(err, ErrNotVouched) {
		t.Errorf("a box made with an old ring: %v", err)
	}
	if _, err := past.Vouched(slotOfEpoch2(t, r), slotName); !errors.Is(err, ErrUnknownEpoch) {
		t.Errorf("a slot newer than the ring: %v", err)
	}
}

func slotOfEpoch2(t *testing.T, r *Ring) []byte { slot, _ := slotOf(t, r, slotName, 8); return slot }

// A slot written before rotation existed has neither recipient nor voucher.
func TestSlotWithoutRecipientOpensAndIsNotVouchedFor(t *testing.T) {
	r, secret := testRing(t), keyFile(t, 4)
	h, err := newHeader(fixed(4), secret, KDF{}, "old", created)
	if err != nil {
		t.Fatal(err)
	}
	keys := h.stretch(secret)
	h.Commit = keys.commit
	head, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(head, []byte("recipient")) || bytes.Contains(head, []byte("epoch")) {
		t.Fatalf("header %s", head)
	}
	plain, _, err := r.encode()
	if err != nil {
		t.Fatal(err)
	}
	aead, err := newGCM(keys.kek)
	if err != nil {
		t.Fatal(err)
	}
	slot := joinParts(head, aead.Seal(nil, make([]byte, NonceBytes), plain, slotAD(slotName, head)))
	ring, err := OpenSlot(slot, slotName, secret)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Vouched(slot, slotName); !errors.Is(err, ErrNotVouched) {
		t.Errorf("vouched: %v", err)
	}
	if err := ring.Grow(Decision{Epoch: 2}, nil, boxName); !errors.Is(err, ErrNoIdentity) {
		t.Errorf("grow: %v", err)
	}
	if info, err := ReadSlotInfo(slot); err != nil || info.Epoch != 0 {
		t.Errorf("%+v %v", info, err)
	}
}

// Every bit of a box, a decision and a claim is guarded.
func TestEveryBitOfARotationIsNoticed(t *testing.T) {
	r := testRing(t)
	slot, mine := slotOf(t, r, slotName, 4)
	_, box, decision := rotation(t, r, slot, 6)
	removal, err := r.Removal(removalName, "0123456789abcdef")
	if err != nil {
		t.Fatal(err)
	}
	d, err := mine.ReadDecision(decision, decisionName, 2)
	if err != nil {
		t.Fatal(err)
	}
	flip := func(what string, payload []byte, step int, open func() error) {
		for at := 0; at < len(payload)*8; at += step {
			payload[at/8] ^= 1 << (at % 8)
			err := open()
			payload[at/8] ^= 1 << (at % 8)
			if !errors.Is(err, ErrForged) && !errors.Is(err, ErrSlotDamaged) && !errors.Is(err, ErrUnsupported) {
				t.Fatalf("%s, bit %d: %v", what, at, err)
			}
		}
	}
	flip("decision", decision, 1, func() error { _, err := r.ReadDecision(decision, decisionName, 2); return err })
	flip("removal", removal, 1, func() error { _, err := r.ReadRemoval(removal, removalName); return err })
	flip("box", box, 7, func() error { return mine.Grow(d, box, boxName) })
	if slot, err := r.ReadRemoval(removal, removalName); err != nil || slot != "0123456789abcdef" {
		t.Errorf("%s %v", slot, err)
	}
	if _, err := r.ReadRemoval(removal, "removals/00000001"); !errors.Is(err, ErrForged) {
		t.Errorf("a claim under another number: %v", err)
	}
	if err := mine.Grow(d, box, boxName); err != nil {
		t.Fatal(err)
	}
}

// The ring grows while others seal and read with it.
func TestRingGrowsUnderItsUsers(t *testing.T) {
	r := testRing(t)
	keys := r.Keys()
	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() {
			for range 50 {
				epoch := keys.Epoch()
				if _, err := keys.AEAD(parity.Data, epoch, [16]byte{byte(i)}); err != nil {
					t.Error(err)
				}
				if _, err := r.vouch(r.Current(), slotName, nil); err != nil {
					t.Error(err)
				}
				keys.Update(r)
			}
		})
	}
	for i := range 20 {
		turn(t, r, byte(i))
	}
	group.Wait()
	keys.Update(r)
	if keys.Epoch() != 21 {
		t.Errorf("epoch %d", keys.Epoch())
	}
}

func TestSheetKeyIsReadHoweverItIsTyped(t *testing.T) {
	rows, err := NewSheetKey(fixed(9))
	if err != nil {
		t.Fatal(err)
	}
	typed := strings.Join(rows[:], "\n")
	want, err := ParseKeyFile([]byte(typed))
	if err != nil || !want.IsKeyFile() {
		t.Fatalf("%q: %v", typed, err)
	}
	lookAlikes := strings.NewReplacer("0", "O", "1", "l")
	for _, text := range []string{
		strings.ToLower(typed), lookAlikes.Replace(typed), strings.ReplaceAll(typed, " ", ""), strings.ReplaceAll(typed, " ", "-"),
		"row 1: " + rows[0] + "\nRow 2:" + rows[1] + "\n  row 3:  " + rows[2] + "\nrow 4:\t" + rows[3],
		"SHEET\nPlace: /srv\n\n  row 1: " + rows[0] + "\r\n  row 2: " + rows[1] + "\n  row 3: " + rows[2] + "\n  row 4: " + rows[3] + "\n\nMore words.\n",
		strings.Join(rows[:], " ") + "\r\n", "\ufeff" + strings.ReplaceAll(typed, "\n", "\r\n") + "\n\n",
	} {
		got, err := ParseKeyFile([]byte(text))
		if err != nil || !bytes.Equal(got.held(), want.held()) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// Every wrong character and every exchange of neighbours is told, by its row,
// and never by quoting the key.
func TestTypingErrorsOnASheetAreNoticed(t *testing.T) {
	rows, err := NewSheetKey(fixed(10))
	if err != nil {
		t.Fatal(err)
	}
	right, err := ParseKeyFile([]byte(strings.Join(rows[:], " ")))
	if err != nil {
		t.Fatal(err)
	}
	chars := strings.ReplaceAll(strings.Join(rows[:], ""), " ", "")
	wrong := func(text string, row int) {
		t.Helper()
		_, err := ParseKeyFile([]byte(text))
		if !errors.Is(err, ErrMistyped) || !errors.Is(err, ErrKeyFile) || row >= 0 && !strings.Contains(err.Error(), fmt.Sprintf("row %d", row+1)) {
			t.Errorf("%q, row %d: %v", text, row+1, err)
		}
		for _, group := range strings.Fields(strings.Join(rows[:], " ")) {
			if err != nil && strings.Contains(err.Error(), group) {
				t.Errorf("the error quotes the key: %v", err)
			}
		}
	}
	missed := 0
	for at := range chars {
		for _, c := range "0123456789ABCDEFGHJKMNPQRSTVWXYZ" {
			if text := chars[:at] + string(c) + chars[at+1:]; text != chars {
				if got, err := ParseKeyFile([]byte(text)); err == nil && !bytes.Equal(got.held(), right.held()) {
					missed++ // one in 65,536
				}
			}
		}
		if at%16 != 15 && chars[at] != chars[at+1] {
			b := []byte(chars)
			b[at], b[at+1] = b[at+1], b[at]
			wrong(string(b), at/16)
		}
	}
	if missed > 1 {
		t.Errorf("%d wrong characters are not noticed", missed)
	}
	swapped := slices.Clone(rows[:])
	swapped[1], swapped[2] = swapped[2], swapped[1]
	wrong(strings.Join(swapped, "\n"), 1)
	wrong(strings.Join(rows[:3], "\n"), -1)
	wrong(strings.Join(rows[:], "\n")+rows[0], -1)
	for _, none := range []string{"", "correct horse battery staple", "password-number-one", strings.Join(rows[:], "\n") + "?"} {
		if _, err := ParseKeyFile([]byte(none)); !errors.Is(err, ErrKeyFile) || errors.Is(err, ErrMistyped) {
			t.Errorf("%q: %v", none, err)
		}
	}
}

func FuzzRotation(f *testing.F) {
	r := testRing(f)
	slot, mine := slotOf(f, r, slotName, 4)
	n, box, decision := rotation(f, r, slot, 6)
	removal, err := r.Removal(removalName, "0123456789abcdef")
	if err != nil {
		f.Fatal(err)
	}
	d, err := r.ReadDecision(decision, decisionName, 2)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range [][]byte{box, decision, removal, slot, joinParts([]byte(`{"version":1}`), nil), []byte("0000 0000 0000 0000")} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		same := func(of []byte) bool {
			return bytes.Equal(bytes.TrimRight(b, "\x00"), bytes.TrimRight(of, "\x00"))
		}
		if _, err := r.ReadDecision(b, decisionName, 2); err == nil && !same(decision) {
			t.Fatal("rubbish decides")
		}
		if _, err := r.ReadRemoval(b, removalName); err == nil && !same(removal) {
			t.Fatal("rubbish removes")
		}
		if _, err := r.Vouched(b, slotName); err == nil && !same(slot) && len(b) < len(slot)/2 {
			t.Fatal("rubbish is vouched for")
		}
		_, _ = r.VouchedBy(slot, slotName, b)
		_, _ = parseSheetKey(b)
		// A box is sealed with randomness of its own: there are others that are right.
		if err := mine.Grow(d, b, boxName); err == nil && !bytes.Equal(mine.held().root(2), n.root()) {
			t.Fatal("a box brings another root")
		}
	})
}
