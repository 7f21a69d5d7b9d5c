package ledger

import (
	"errors"
	"strings"
	"testing"

	"holdfast/repo/backend"
)

const sidText = "0000002a-0123456789abcdef-fedcba9876543210"

func TestNamesRoundTrip(t *testing.T) {
	sid, err := ParseSID(sidText)
	if err != nil {
		t.Fatal(err)
	}
	if sid.Gen != 42 || sid.String() != sidText {
		t.Fatalf("parsed %+v, written %s", sid, sid)
	}
	for _, name := range []string{CommitName(sid), ConfirmName(sid), ForgetName(sid)} {
		got, err := ParseSlot(name)
		if err != nil || got != sid {
			t.Errorf("%s: %v %v", name, got, err)
		}
	}
	for _, name := range []string{BeatName(sid, 3), IndexName(sid, 3), LabelName(sid, 3)} {
		got, n, err := ParseNumbered(name)
		if err != nil || got != sid || n != 3 {
			t.Errorf("%s: %v %d %v", name, got, n, err)
		}
	}
	pack := PackName(Meta, sid, [16]byte{1, 2})
	got, id, err := ParsePack(pack)
	if err != nil || got != sid || id != [16]byte{1, 2} {
		t.Errorf("%s: %v %v %v", pack, got, id, err)
	}
	if g, err := ParseLedger(LedgerName(42)); err != nil || g != 42 {
		t.Errorf("ledger: %d %v", g, err)
	}
	if n, err := ParseRoll(RollName(0x1f)); err != nil || n != 0x1f || RollName(n) != "sessions/0000001f" {
		t.Errorf("%s: %d %v", RollName(0x1f), n, err)
	}
	for _, name := range []string{BeatName(sid, 1), "sessions/1f", "sessions/0000001F", "ledger/0000001f", "sessions/"} {
		if _, err := ParseRoll(name); !errors.Is(err, ErrName) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{CommitName(sid), BeatName(sid, 1), RollName(2), LabelName(sid, 1), pack, LedgerName(1)} {
		if !backend.ValidName(name) {
			t.Errorf("%s is no valid object name", name)
		}
	}
}

func TestKeyNamesRoundTrip(t *testing.T) {
	const rotation, slot = "0123456789abcdef", "fedcba9876543210"
	box := BoxName(3, rotation, slot)
	if e, r, s, err := ParseBox(box); err != nil || e != 3 || r != rotation || s != slot || box != "epochs/00000003/0123456789abcdef/fedcba9876543210" {
		t.Errorf("%s: %d %s %s %v", box, e, r, s, err)
	}
	if n, err := ParseRemoval(RemovalName(12)); err != nil || n != 12 {
		t.Errorf("%s: %d %v", RemovalName(12), n, err)
	}
	for _, name := range []string{box, DecisionName(3), RemovalName(12), Keys + slot} {
		if !backend.ValidName(name) || !IsOurs(name) || !IsOurs(Spare(name)) || !HasSpare(name) || !IsKeyObject(name) {
			t.Errorf("%s is not stored twice as an object of the keys", name)
		}
	}
	for _, name := range []string{DecisionName(3), "epochs/3/" + rotation + "/" + slot, "epochs/+0000003/" + rotation + "/" + slot, box + "/x", box + "0", "x" + box} {
		if _, _, _, err := ParseBox(name); !errors.Is(err, ErrName) {
			t.Errorf("box %q: %v", name, err)
		}
	}
	for _, name := range []string{"removals/1", "removals/0000000a", "removals/-0000001", "00000001"} {
		if _, err := ParseRemoval(name); !errors.Is(err, ErrName) {
			t.Errorf("removal %q: %v", name, err)
		}
	}
	if IsKeyObject(ConfigObject) || IsKeyObject(LedgerName(1)) || NeedsSpare(LedgerName(1)) || !HasSpare(LedgerName(1)) || HasSpare("ledger/note") {
		t.Error("objects that the ring seals are taken for objects of the keys")
	}
}

func TestMalformedNamesAreRefused(t *testing.T) {
	for _, text := range []string{"", "x", sidText + "0", strings.ToUpper(sidText), strings.Replace(sidText, "-", "_", 1), strings.Replace(sidText, "a", "g", 1)} {
		if _, err := ParseSID(text); !errors.Is(err, ErrName) {
			t.Errorf("sid %q: %v", text, err)
		}
	}
	for _, name := range []string{"commit/" + sidText, "commit/ffffffffffffffff/" + sidText, "commit/a/b/c"} {
		if _, err := ParseSlot(name); !errors.Is(err, ErrName) {
			t.Errorf("slot %q: %v", name, err)
		}
	}
	for _, name := range []string{"sessions/" + sidText + "/1", "sessions/" + sidText + "/0000000x", "sessions"} {
		if _, _, err := ParseNumbered(name); !errors.Is(err, ErrName) {
			t.Errorf("numbered %q: %v", name, err)
		}
	}
	for _, name := range []string{"ledger/1", "ledger/0000000G", "x/00000001"} {
		if _, err := ParseLedger(name); !errors.Is(err, ErrName) {
			t.Errorf("ledger %q: %v", name, err)
		}
	}
	for _, name := range []string{"data/" + sidText + "/00", "index/" + sidText + "/" + strings.Repeat("0", 32)} {
		if _, _, err := ParsePack(name); !errors.Is(err, ErrName) {
			t.Errorf("pack %q: %v", name, err)
		}
	}
}

func TestVoidIsBelowTheHorizonAndNotAPoint(t *testing.T) {
	sid, _ := ParseSID(sidText)
	for _, c := range []struct {
		entry Entry
		void  bool
	}{
		{Entry{Horizon: 42}, false}, // at the horizon is not below it
		{Entry{Horizon: 43}, true},
		{Entry{Horizon: 43, Points: PileOf(sid)}, false},
	} {
		if got := c.entry.IsVoid(sid); got != c.void {
			t.Errorf("%+v: void %v", c.entry, got)
		}
	}
}

func TestCondemnedPacksAreNamed(t *testing.T) {
	e := Entry{Condemned: []Condemned{{Since: 1, Packs: []string{"data/a"}}, {Since: 2, Packs: []string{"data/b"}}}}
	if !e.IsCondemned("data/b") || e.IsCondemned("data/c") {
		t.Error("wrong packs condemned")
	}
}

func FuzzNames(f *testing.F) {
	f.Add(sidText)
	f.Add("commit/0123456789abcdef/" + sidText)
	f.Add("ledger/00000000")
	f.Add("epochs/00000003/0123456789abcdef/fedcba9876543210")
	f.Add("removals/00000003")
	f.Fuzz(func(t *testing.T, text string) {
		if sid, err := ParseSID(text); err == nil && sid.String() != text {
			t.Fatalf("sid %q came back as %s", text, sid)
		}
		if sid, err := ParseSlot(text); err == nil && !strings.HasSuffix(text, sid.Src+"/"+sid.String()) {
			t.Fatalf("slot %q became %v", text, sid)
		}
		if e, r, s, err := ParseBox(text); err == nil && BoxName(e, r, s) != text {
			t.Fatalf("box %q came back as %s", text, BoxName(e, r, s))
		}
		if n, err := ParseRemoval(text); err == nil && RemovalName(n) != text {
			t.Fatalf("removal %q came back as %s", text, RemovalName(n))
		}
		ParseNumbered(text)
		ParsePack(text)
		ParseLedger(text)
	})
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"version":1,"horizon":3}`))
	f.Add([]byte(`{"version":2}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		if e, err := Decode[Entry](payload); err == nil && e.Version != Version {
			t.Fatal("a record of another version was read")
		}
		Decode[Slot](payload)
		Decode[Config](payload)
	})
}
