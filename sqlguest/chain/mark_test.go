package chain

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

func clock(minute int) time.Time { return time.Date(2026, 3, 2, 8, minute, 0, 0, time.UTC) }

// TestMarksOfAnotherForkAreLeftOut: msdb keeps the marks of what a restore has undone.
func TestMarksOfAnotherForkAreLeftOut(t *testing.T) {
	// F1 was restored to 250 at minute 30; the log spans 200 to 400.
	h := spans("F1", "F2", at(250), set(Log, "S", 200, 400)).Header
	found := []Mark{
		{Name: "before the log", LSN: at(199), At: clock(1)},
		{Name: "undone", LSN: at(300), At: clock(20)},
		{Name: "before the fork", LSN: at(220), At: clock(10)},
		{Name: "behind the log", LSN: at(400), At: clock(50)},
		{Name: "after the restore", LSN: at(260), At: clock(31)},
		{Name: "first", LSN: at(200), At: clock(5)},
	}
	marks, _, warnings := h.Marks(found, Life{Since: clock(30)})
	var got []string
	for _, m := range marks {
		got = append(got, m.Name)
	}
	if want := []string{"first", "before the fork", "after the restore"}; !reflect.DeepEqual(got, want) {
		t.Errorf("marks %q, want %q", got, want)
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], "undone") {
		t.Errorf("warnings %q", warnings)
	}
	// The same readings under an offset that msdb did not note mean the same.
	summer := time.FixedZone("", 7200)
	if again, _, _ := h.Marks(found, Life{Since: time.Date(2026, 3, 2, 8, 30, 0, 0, summer)}); len(again) != 3 {
		t.Errorf("with another offset: %d marks", len(again))
	}
	data := set(Full, "A", 100, 500).Header
	if marks, _, _ := data.Marks(found, Life{}); len(marks) != 0 {
		t.Errorf("a full has marks: %v", marks)
	}
}

// TestMarksOfAForkBetweenAreLeftOut: F1 was left at minute 20 for a fork of which the log
// knows nothing, and that was left for F2 at minute 30.
func TestMarksOfAForkBetweenAreLeftOut(t *testing.T) {
	h := spans("F1", "F2", at(250), set(Log, "S", 200, 400)).Header
	found := []Mark{{Name: "on F1", LSN: at(220), At: clock(10)}, {Name: "between", LSN: at(230), At: clock(25)}, {Name: "on F2", LSN: at(300), At: clock(40)}}
	marks, _, warnings := h.Marks(found, Life{Since: clock(30), Left: clock(20)})
	if len(marks) != 2 || marks[0].Name != "on F1" || marks[1].Name != "on F2" || len(warnings) != 1 {
		t.Errorf("%+v, warnings %q", marks, warnings)
	}
}

// TestMarksMadeAfterALogAreLeftOut: SQL Server's word on the log is asked for later, when the
// machine was set back and its LSNs are given out once more.
func TestMarksMadeAfterALogAreLeftOut(t *testing.T) {
	h := set(Log, "L", 100, 200).Header
	h.Started, h.Finished = clock(9), clock(10)
	found := []Mark{{Name: "in it", LSN: at(150), At: clock(8)}, {Name: "of its last second", LSN: at(199), At: clock(10).Add(500 * time.Millisecond)}, {Name: "later", LSN: at(160), At: clock(11)}}
	for later, want := range map[bool]int{true: 2, false: 3} {
		var life Life
		if later {
			life.Until = h.SurelyAfter()
		}
		marks, _, warnings := h.Marks(found, life)
		if len(marks) != want || (len(warnings) > 0) != later || marks[0].Name != "in it" || marks[len(marks)-1].Name != "of its last second" {
			t.Errorf("asked for later %v: %+v, warnings %q", later, marks, warnings)
		}
	}
}

func TestMarksOfALogAreBounded(t *testing.T) {
	h := set(Log, "L", 100, 100000).Header
	var found []Mark
	for i := range MaxMarks + 5 {
		found = append(found, Mark{Name: fmt.Sprint(i), LSN: at(uint32(100 + i)), At: clock(i % 60)})
	}
	marks, unlisted, warnings := h.Marks(found[:MaxMarks], Life{})
	if len(marks) != MaxMarks || !unlisted.IsZero() || len(warnings) != 0 {
		t.Errorf("%d marks, unlisted from %s, warnings %q", len(marks), unlisted, warnings)
	}
	marks, unlisted, warnings = h.Marks(found, Life{})
	if len(marks) != MaxMarks || unlisted != found[MaxMarks].LSN || len(warnings) != 1 || marks[MaxMarks-1].Name != fmt.Sprint(MaxMarks-1) {
		t.Errorf("%d marks, warnings %q", len(marks), warnings)
	}
}

func TestMarksComeWithTheConfirmation(t *testing.T) {
	h := set(Log, "L1", 100, 200).Header
	word := Confirmation{State: Confirmed, By: ByRow, Header: &h, Marks: []Mark{{Name: "deploy", LSN: at(150), At: clock(3)}}, Unlisted: at(160), Reason: "msdb has its row", Warnings: []string{"w"}}
	b := Backup{Point: "p"}.With(word)
	if len(b.Marks) != 1 || b.Unlisted != at(160) || !reflect.DeepEqual(b.Why, []string{"msdb has its row", "w"}) {
		t.Errorf("%+v", b)
	}
	word.State = Denied
	if b = (Backup{Point: "p"}).With(word); len(b.Marks) != 0 {
		t.Errorf("a denied backup has marks: %+v", b.Marks)
	}
}

func TestMarksSayWhetherTheyCanBeReached(t *testing.T) {
	a := set(Full, "A", 100, 110)
	with := func(b Backup, name string, block uint32) Backup {
		b.Marks = append(b.Marks, Mark{Name: name, LSN: at(block), At: clock(int(block) % 60)})
		return b
	}
	all := timed(a, with(set(Log, "L1", 100, 200), "m", 150), with(copied(set(Log, "K", 100, 200)), "M", 150),
		with(set(Log, "L3", 250, 300), "behind a gap", 260), with(bulk(set(Log, "L2", 200, 250)), "in bulk", 220),
		with(spans("F1", "F2", at(280), set(Log, "S", 250, 400)), "behind a gap", 260))
	all = append(all, with(Backup{Point: "U", Header: Header{Family: "FAM", Kind: Log}}, "unconfirmed", 1))
	var got []string
	for _, m := range Marks(all) {
		got = append(got, fmt.Sprintf("%s %s %s %v", m.Point, m.Fork, m.Name, m.Reachable))
	}
	want := []string{"L1 F1 m true", "L3 F1 behind a gap true", "L2 F1 in bulk false", "U  unconfirmed false"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
