package cbt

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/vmware/govmomi/vim25/types"
	"pgregory.net/rapid"

	"holdfast/backup"
	"holdfast/repo/image"
	"holdfast/repo/recovery"
)

// server answers as ESXi does: at most limit areas, and a fault at the capacity.
func server(t interface{ Fatalf(string, ...any) }, changed []image.Extent, capacity int64, limit int) Ask {
	return func(_ context.Context, start int64) (types.DiskChangeInfo, error) {
		if start >= capacity {
			t.Fatalf("asked at %d, the capacity is %d", start, capacity)
		}
		info := types.DiskChangeInfo{StartOffset: start, Length: capacity - start}
		for _, e := range changed {
			if e.Start+e.Length <= start {
				continue
			}
			if len(info.ChangedArea) == limit {
				last := info.ChangedArea[limit-1]
				info.Length = last.Start + last.Length - start
				break
			}
			from := max(e.Start, start)
			info.ChangedArea = append(info.ChangedArea, types.DiskChangeExtent{Start: from, Length: e.Start + e.Length - from})
		}
		return info, nil
	}
}

func drawExtents(t *rapid.T, capacity int64) []image.Extent {
	var out []image.Extent
	at := int64(0)
	for range rapid.IntRange(0, 60).Draw(t, "areas") {
		start := at + rapid.Int64Range(1, 50).Draw(t, "gap")
		length := rapid.Int64Range(1, 50).Draw(t, "length")
		if start+length > capacity {
			break
		}
		out = append(out, image.Extent{Start: start, Length: length})
		at = start + length
	}
	return out
}

func TestQueryFindsEveryArea(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		capacity := rapid.Int64Range(1, 4000).Draw(t, "capacity")
		want := drawExtents(t, capacity)
		limit := rapid.IntRange(1, 9).Draw(t, "limit")
		got, err := Query(context.Background(), server(t, want, capacity, limit), capacity)
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("got %v, %v; want %v", got, err, want)
		}
	})
}

// A liar changes one thing of one honest answer. Query may accept it only when
// what it returns still holds every changed byte.
func TestQueryNeverBelievesAContradiction(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		capacity := rapid.Int64Range(100, 4000).Draw(t, "capacity")
		honest := server(t, drawExtents(t, capacity), capacity, rapid.IntRange(1, 9).Draw(t, "limit"))
		lie := rapid.SampledFrom([]string{"start", "zero", "negative", "beyond", "unsorted", "outside", "empty area"}).Draw(t, "lie")
		ask := func(ctx context.Context, start int64) (types.DiskChangeInfo, error) {
			a, err := honest(ctx, start)
			switch lie {
			case "start":
				a.StartOffset++
			case "zero":
				a.Length = 0
			case "negative":
				a.Length = -a.Length
			case "beyond":
				a.Length = capacity - start + 1
			case "unsorted":
				a.ChangedArea = []types.DiskChangeExtent{{Start: start + 8, Length: 4}, {Start: start, Length: 4}}
			case "outside":
				a.ChangedArea = append(a.ChangedArea, types.DiskChangeExtent{Start: a.StartOffset + a.Length - 1, Length: 2})
			case "empty area":
				a.ChangedArea = append(a.ChangedArea, types.DiskChangeExtent{Start: a.StartOffset + a.Length, Length: 0})
			}
			return a, err
		}
		if got, err := Query(context.Background(), ask, capacity); !errors.Is(err, ErrAnswer) {
			t.Fatalf("%s: got %v, %v", lie, got, err)
		}
	})
}

func TestCBTMoreThan2000Extents(t *testing.T) {
	var want []image.Extent
	for i := range int64(5001) {
		want = append(want, image.Extent{Start: i * 131072, Length: 65536})
	}
	capacity := int64(5001) * 131072
	got, err := Query(context.Background(), server(t, want, capacity, 2000), capacity)
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("got %d areas, %v; want %d", len(got), err, len(want))
	}
}

// TestCBTStopsAtCapacity: the fake server fails the test when asked there.
func TestCBTStopsAtCapacity(t *testing.T) {
	tail := []image.Extent{{Start: 1 << 20, Length: 1 << 20}}
	got, err := Query(context.Background(), server(t, tail, 2<<20, 1), 2<<20)
	if err != nil || !slices.Equal(got, tail) {
		t.Fatalf("got %v, %v", got, err)
	}
}

func good() Question {
	attrs := DiskAttrs{
		Key: 2000, Bytes: 1 << 30, UUID: "6000C29f", ObjectID: "1-2000", ChangeID: "52 de c0 d9/7",
		After: []string{"[ds] vm/vm.vmdk"}, Lineage: []string{"snapshot-1@1"},
	}
	now := attrs
	now.ChangeID = "52 de c0 d9/8"
	return Question{Policy: Auto, HasParent: true, HasItem: true, Parent: attrs, Now: now}
}

func TestDecide(t *testing.T) {
	if d := Decide(good()); d.Mode != recovery.ReadCBT || d.Rule != Use {
		t.Fatalf("nothing speaks against the map, but %+v", d)
	}
	for _, c := range []struct {
		name, rule string
		change     func(*Question)
	}{
		{"TestFirstBackup", NoParent, func(q *Question) { q.HasParent, q.HasItem = false, false }},
		{"TestDiskAdded", NewDisk, func(q *Question) { q.HasItem = false }},
		{"TestFullAsked", AskedFull, func(q *Question) { q.Full = true }},
		{"TestOff", PolicyOff, func(q *Question) { q.Policy = Off }},
		{"TestChangeIDNil", NotTracked, func(q *Question) { q.Now.ChangeID = "" }},
		{"TestChangeIDNilInParent", ParentNil, func(q *Question) { q.Parent.ChangeID = "" }},
		{"TestChangeIDGarbage", ParentNil, func(q *Question) { q.Parent.ChangeID = "52 de/x" }},
		{"TestCBTReset", OtherUUID, func(q *Question) { q.Now.ChangeID = "52 aa/9" }},
		{"TestChangeIDSeqBackwards", SeqNot, func(q *Question) { q.Now.ChangeID = "52 de c0 d9/6" }},
		{"TestChangeIDSeqEqual", SeqNot, func(q *Question) { q.Now.ChangeID = "52 de c0 d9/7" }},
		{"TestDiskExtended", Resized, func(q *Question) { q.Now.Bytes++ }},
		{"TestDiskReplaced", OtherDisk, func(q *Question) { q.Now.UUID = "6000C290" }},
		{"TestDiskObjectReplaced", OtherDisk, func(q *Question) { q.Now.ObjectID = "1-2001" }},
		{"TestDiskMovedDatastore", Moved, func(q *Question) { q.Now.After = []string{"[ds2] vm/vm.vmdk"} }},
		{"TestRevertOvertaken", Chain, func(q *Question) { q.Now.ChangeID = "52 de c0 d9/99"; q.Now.After = []string{"[ds] vm/vm-000002.vmdk"} }},
		{"TestChainUnknown", Chain, func(q *Question) { q.Now.After, q.Parent.After = nil, nil }},
		{"TestLineageChanged", Lineage, func(q *Question) { q.Now.Lineage = []string{"snapshot-2@9"} }},
		{"TestInPlaceWrite", InPlace, func(q *Question) { q.WroteSince = true }},
		{"TestMapThatMissedAChange", Missed, func(q *Question) { q.Doubt = Missed; q.Now.TrackedFromEmpty = true }},
		{"TestMapOfAHostThatLosesChanges", LossyHost, func(q *Question) { q.Doubt = LossyHost; q.Now.TrackedFromEmpty = true }},
		{"TestFirstBackupOnAHostThatLosesChanges", NoParent, func(q *Question) {
			q.HasParent, q.HasItem, q.Doubt = false, false, LossyHost
			q.Now.TrackedFromEmpty = true
		}},
		{"TestBadAttrs", BadAttrs, func(q *Question) { q.ParentErr = errors.New("x") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := good()
			c.change(&q)
			d := Decide(q)
			if d.Mode != recovery.ReadFull || d.Rule != c.rule || d.Reason == "" {
				t.Fatalf("got %+v, want a full read by %s", d, c.rule)
			}
			q.Policy = Require
			if c.rule == PolicyOff {
				return
			}
			first := c.rule == NoParent || c.rule == NewDisk || c.rule == AskedFull
			if err := Required(q, Decide(q)); errors.Is(err, ErrRequired) == first {
				t.Fatalf("--cbt require: %v", err)
			}
		})
	}
}

// Whatever differs between two backups, a map is used only when everything the
// rules compare is in order.
func TestDecideProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := good()
		q.Now.Bytes = rapid.SampledFrom([]int64{1 << 30, 2 << 30}).Draw(t, "bytes")
		q.Now.ChangeID = rapid.SampledFrom([]string{"", "52 de c0 d9/8", "52 de c0 d9/7", "52 aa/8", "x"}).Draw(t, "id")
		q.Now.UUID = rapid.SampledFrom([]string{"6000C29f", "z"}).Draw(t, "uuid")
		q.Now.After = [][]string{{"[ds] vm/vm.vmdk"}, {"[ds] vm/vm-1.vmdk", "[ds] vm/vm.vmdk"}, nil}[rapid.IntRange(0, 2).Draw(t, "chain")]
		q.Now.TrackedFromEmpty = rapid.Bool().Draw(t, "empty")
		q.WroteSince = rapid.Bool().Draw(t, "wrote")
		d := Decide(q)
		fine := q.Now.Bytes == 1<<30 && q.Now.ChangeID == "52 de c0 d9/8" && q.Now.UUID == "6000C29f" && len(q.Now.After) == 1 && !q.WroteSince
		if (d.Mode == recovery.ReadCBT) != fine {
			t.Fatalf("%+v: %+v", q.Now, d)
		}
		if d.Mode == recovery.ReadAllocated && !q.Now.TrackedFromEmpty {
			t.Fatal("written areas were asked from a map that began under a snapshot")
		}
	})
}

// What a map lost stays lost, whatever was read in between; only a new map is free.
func TestDoubtsGoFromPointToPointUntilTheMapIsANewOne(t *testing.T) {
	caught := good().Now
	parent := &recovery.Point{Items: []recovery.Item{{Name: "disk-2000", Disk: &image.Map{}, Rule: backup.RuleMiss, Attrs: caught.JSON()}}}
	d := Inherit(nil, parent)
	d.Note("52 bb/1", LossyHost)
	d.Note("52 bb/9", Missed)
	d.Note("no change id", LossyHost)
	d = Inherit(d, &recovery.Point{}) // a point without the disk, as when it is left out once
	for id, want := range map[string]string{
		caught.ChangeID: Missed, "52 de c0 d9/99": Missed, "52 bb/2": LossyHost, "52 cc/1": "", "no change id": "", "": "",
	} {
		if got := d.Of(id); got != want {
			t.Errorf("%q: %q, want %q", id, got, want)
		}
	}
	if len(d) != 2 || len(Inherit(nil, nil)) != 0 {
		t.Fatalf("%v", d)
	}
}

func TestLossyIsEvery60AndNothingElse(t *testing.T) {
	for version, want := range map[string]bool{
		"6.0.0": true, "6.0": true, "6.0.3": true, "6.5.0": false, "6.7.0": false, "5.5.0": false, "8.0.2": false, "16.0.0": false, "6.00": false, "": false,
	} {
		if Lossy(version) != want {
			t.Errorf("%q: %v", version, !want)
		}
	}
}

func TestAttrsRoundTrip(t *testing.T) {
	want := good().Now
	got, err := ParseAttrs(want.JSON())
	if err != nil || string(got.JSON()) != string(want.JSON()) {
		t.Fatalf("got %+v, %v", got, err)
	}
	if _, err := ParseAttrs([]byte(`{"key":"x"}`)); err == nil {
		t.Fatal("garbage was accepted")
	}
}

func FuzzChangeID(f *testing.F) {
	f.Add("52 de c0 d9 a1 b2/81")
	f.Add("/")
	f.Add("*")
	f.Add("\r/0") // a tracking that nothing names is no tracking
	f.Add(" /81")
	f.Fuzz(func(t *testing.T, s string) {
		if id, ok := parseChangeID(s); ok && (id.uuid == "" || !SameTracking(s, s)) {
			t.Fatalf("%q: %+v", s, id)
		}
	})
}
