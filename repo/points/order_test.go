package points

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"holdfast/repo/ledger"
	"holdfast/repo/recovery"
)

// chronicle is a repository of one source, and what only the test knows: in which order
// its points were made.
type chronicle struct {
	name   string
	points []Entry
	closed map[string]bool // by id: those that cannot be read now
	order  map[string]int  // by id
	turns  int64
	peak   int64 // the highest number of those that were forgotten
	again  int   // how often it was brought back
	began  time.Time
}

func newChronicle(name string) *chronicle {
	return &chronicle{name: name, closed: map[string]bool{}, order: map[string]int{}, began: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
}

func (c *chronicle) readable() (list []Entry) {
	for _, e := range c.points {
		if !c.closed[e.ID] {
			p := *e.Point // as it is read each time
			e.Point = &p
			list = append(list, e)
		}
	}
	return list
}

// make adds a point at the source's moment, by a machine whose clock is wrong by skew;
// without a number it is one of a version that gave none.
func (c *chronicle) make(moment int, skew time.Duration, numbered bool) *recovery.Point {
	now := c.began.Add(time.Duration(moment) * time.Minute).Add(skew)
	p := c.begin(now)
	if numbered {
		p.Turn, p.Made = c.turns, NextMade(c.readable(), c.peak, now)
	}
	c.order[p.ID] = moment
	c.add(p)
	return p
}

func (c *chronicle) begin(now time.Time) *recovery.Point {
	c.turns++
	id := fmt.Sprintf("%02x%014x", c.again, c.turns)
	p := &recovery.Point{ID: id, SID: ledger.SID{Src: "00000000000000aa", Rand: id}.String(), Identity: "sql:a:b", Finished: now}
	if last := LastMade(c.readable()); last != nil {
		p.Previous = last.Hash()
	}
	return p
}

func (c *chronicle) add(p *recovery.Point) {
	var hash [32]byte
	binary.BigEndian.PutUint64(hash[:], uint64(c.turns))
	c.points = append(c.points, Entry{Point: p, sid: ledger.SID{Src: "00000000000000aa", Rand: p.ID}, hash: hash, label: -1})
}

// copyTo copies one point that can be read and is not there.
func (c *chronicle) copyTo(t *rapid.T, there *chronicle) {
	list := c.readable()
	InOrder(list)
	list = slices.DeleteFunc(list, func(e Entry) bool {
		return slices.ContainsFunc(there.points, func(o Entry) bool { return o.Origin == c.name+"/"+e.ID })
	})
	if len(list) == 0 {
		return
	}
	e := list[rapid.IntRange(0, len(list)-1).Draw(t, "copied")]
	p := there.begin(e.Finished)
	p.Origin, p.Turn, p.Made = c.name+"/"+e.ID, e.Turn, e.Made
	there.order[p.ID] = c.order[e.ID]
	there.add(p)
}

// forget forgets a point, but none of the first keep ones.
func (c *chronicle) forget(t *rapid.T, keep int) {
	if n := len(c.points); n > keep {
		i := rapid.IntRange(keep, n-1).Draw(t, "forgotten")
		c.peak = max(c.peak, c.points[i].Made)
		c.points = slices.Delete(c.points, i, i+1)
	}
}

// inOrder fails unless InOrder finds the order of making, whatever the listing's was.
func (c *chronicle) inOrder(t *rapid.T) {
	t.Helper()
	clear(c.closed)
	list := c.readable()
	for i := range list {
		k := rapid.IntRange(i, len(list)-1).Draw(t, "listed")
		list[i], list[k] = list[k], list[i]
	}
	InOrder(list)
	for i := 1; i < len(list); i++ {
		if a, b := list[i-1], list[i]; c.order[a.ID] > c.order[b.ID] {
			t.Fatalf("in %s %s of moment %d (turn %d, number %d) stands before %s of moment %d (turn %d, number %d)",
				c.name, a.ID, c.order[a.ID], a.Turn, a.Made, b.ID, c.order[b.ID], b.Turn, b.Made)
		}
	}
}

// TestOrderSurvivesClocksForgottenPointsAndCopies: machines with different clocks write,
// points are forgotten, the newest too, and get unreadable and whole again, and a second
// repository copies some of them in any order and forgets, too. Both know the order.
func TestOrderSurvivesClocksForgottenPointsAndCopies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		here, there := newChronicle("here"), newChronicle("there")
		moment := 0
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			switch rapid.IntRange(0, 7).Draw(t, "step") {
			case 0, 1, 2:
				moment++
				here.make(moment, time.Duration(rapid.IntRange(-20, 20).Draw(t, "skew"))*time.Minute, true)
			case 3:
				here.forget(t, 0)
			case 4:
				if n := len(here.points); n > 0 {
					here.closed[here.points[rapid.IntRange(0, n-1).Draw(t, "closed")].ID] = true
				}
			case 5, 6:
				here.copyTo(t, there)
			case 7:
				there.forget(t, 0)
			}
		}
		here.inOrder(t)
		there.inOrder(t)
	})
}

// TestOrderOfPointsFromBeforeThereWereNumbers: those stand as their manifests say, whatever
// clocks they were made by, and before those that follow, which may be forgotten.
func TestOrderOfPointsFromBeforeThereWereNumbers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newChronicle("here")
		skew := rapid.IntRange(-600, 600)
		old := rapid.IntRange(0, 4).Draw(t, "old")
		for moment := range old + rapid.IntRange(0, 6).Draw(t, "new") {
			c.make(moment, time.Duration(skew.Draw(t, "skew"))*time.Minute, moment >= old)
			if rapid.Bool().Draw(t, "forget") {
				c.forget(t, old)
			}
		}
		c.inOrder(t)
	})
}

// TestTwoRepositoriesOfOneDatabaseMeet: each backs it up in its turn; in a third one, and
// in one that goes on after it has taken in the other's points, the order is known.
func TestTwoRepositoriesOfOneDatabaseMeet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, third := newChronicle("a"), newChronicle("b"), newChronicle("third")
		moment := 0
		for range rapid.IntRange(1, 16).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			case 0, 1:
				moment++
				a.make(moment, 0, true)
			case 2, 3:
				moment++
				b.make(moment, 0, true)
			case 4:
				a.copyTo(t, third)
			case 5:
				b.copyTo(t, third)
			}
		}
		third.inOrder(t)
	})
}

// TestRepositoryThatTakesOverFromAFasterClock: what it makes itself comes behind what it
// has copied, though that says to be of later.
func TestRepositoryThatTakesOverFromAFasterClock(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := newChronicle("a"), newChronicle("b")
		moment := 0
		for range rapid.IntRange(1, 6).Draw(t, "first") {
			moment++
			a.make(moment, time.Hour, true)
		}
		for range a.points {
			a.copyTo(t, b)
		}
		for range rapid.IntRange(1, 6).Draw(t, "then") {
			moment++
			b.make(moment, 0, true)
			if rapid.Bool().Draw(t, "forget") && len(b.points) > len(a.points)+1 {
				b.points = slices.Delete(b.points, len(a.points), len(a.points)+1)
			}
		}
		b.inOrder(t)
	})
}

// TestOrderSurvivesClocksThatAreDaysApart as long as each point knows the one before it.
func TestOrderSurvivesClocksThatAreDaysApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		here, there := newChronicle("here"), newChronicle("there")
		for moment := range rapid.IntRange(1, 12).Draw(t, "points") {
			here.make(moment, time.Duration(rapid.IntRange(-6000, 6000).Draw(t, "skew"))*time.Minute, true)
			if n := len(here.points); n > 1 && rapid.Bool().Draw(t, "forget") {
				i := rapid.IntRange(0, n-2).Draw(t, "forgotten")
				here.points = slices.Delete(here.points, i, i+1)
			}
			if rapid.Bool().Draw(t, "copy") {
				here.copyTo(t, there)
			}
		}
		here.inOrder(t)
		there.inOrder(t)
	})
}

// TestOrderSurvivesAForgottenPointOfAClockThatRanAhead, or behind, by days, the newest
// among them, in a copy that still has it.
func TestOrderSurvivesAForgottenPointOfAClockThatRanAhead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		here, there := newChronicle("here"), newChronicle("there")
		for moment := range rapid.IntRange(1, 12).Draw(t, "points") {
			here.make(moment, time.Duration(rapid.IntRange(-6000, 6000).Draw(t, "skew"))*time.Minute, true)
			if rapid.Bool().Draw(t, "copy") {
				here.copyTo(t, there)
			}
			if rapid.Bool().Draw(t, "forget") {
				here.forget(t, 0)
			}
		}
		here.inOrder(t)
		there.inOrder(t)
	})
}

// TestRepositoryThatWasBroughtBackFromAMirror gives out turns twice. Where all have been
// copied to, its later life still comes later.
func TestRepositoryThatWasBroughtBackFromAMirror(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		here, there := newChronicle("here"), newChronicle("there")
		moment := 0
		others, pause := 3, 120
		if rapid.Bool().Draw(t, "soon") { // seen by the turns alone, then
			others, pause = 0, 1
		}
		life := func(least int) {
			for range rapid.IntRange(least, 6).Draw(t, "points") {
				moment += rapid.IntRange(1, 600).Draw(t, "minutes")
				here.turns += int64(rapid.IntRange(0, others).Draw(t, "sessions of others"))
				here.make(moment, 0, true)
			}
		}
		life(0)
		mirror := len(here.points)
		turns := here.turns
		life(1)
		for range here.points {
			here.copyTo(t, there)
		}
		here.points, here.turns = here.points[:mirror], turns
		moment += pause
		here.again++
		life(1)
		for range here.points {
			here.copyTo(t, there)
		}
		there.inOrder(t)
	})
}

// TestPointsWithoutNumbersAmongOthers: a machine with an older version writes beside one
// that gives numbers.
func TestPointsWithoutNumbersAmongOthers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newChronicle("here")
		for moment, numbered := range rapid.SliceOfN(rapid.Bool(), 1, 8).Draw(t, "numbered") {
			c.make(moment, time.Duration(rapid.IntRange(-600, 600).Draw(t, "skew"))*time.Minute, numbered)
		}
		c.inOrder(t)
	})
}

// TestGenerationsOrderPointsWithoutNumbers where one was forgotten between them.
func TestGenerationsOrderPointsWithoutNumbers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newChronicle("here")
		c.make(1, time.Hour, false)
		c.make(2, time.Hour, false)
		c.make(3, 0, false)
		c.points[2].sid.Gen = 1
		c.points = slices.Delete(c.points, 1, 2)
		c.inOrder(t)
	})
}

// TestLatestForgottenPointsAreReadFirst: the highest generation, in it the last by its turn
// where that is known of all, and no more of a source than it takes.
func TestLatestForgottenPointsAreReadFirst(t *testing.T) {
	turns := map[ledger.Packed]uint32{}
	var pile ledger.Pile
	at := func(gen uint32, n int) ledger.Packed {
		return ledger.SID{Gen: gen, Src: "00000000000000aa", Rand: fmt.Sprintf("%016x", n)}.Pack()
	}
	for n := range 20 { // the random part runs against the turns
		pile.Add(at(7, 99-n).SID())
		turns[at(7, 99-n)] = uint32(n)
	}
	for n := range 300 {
		pile.Add(at(6, n).SID())
	}
	pile.Add(at(5, 0).SID())
	pile.Sort()
	var sizes []int
	cut := latestFirst(pile, turns)
	for _, part := range cut {
		sizes = append(sizes, len(part))
	}
	if want := []int{1, 8, 8, 3, peaksMost - 20}; !slices.Equal(sizes, want) {
		t.Fatalf("cut into %v, want %v", sizes, want)
	}
	if cut[0][0] != at(7, 80) || cut[4][0].Gen() != 6 {
		t.Errorf("first %s, last of generation %d", cut[0][0].SID(), cut[4][0].Gen())
	}
}
