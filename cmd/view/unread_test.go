package view

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/ledger"
	"holdfast/repo/pack"
	"holdfast/repo/recovery"
)

// pointOf is the n-th point of a source, a day after the one before.
func pointOf(src byte, n int, kind recovery.Kind) *recovery.Point {
	hex := slices.Repeat([]byte{src}, 16)
	sid := ledger.SID{Gen: 1, Src: string(hex), Rand: fmt.Sprintf("%015x%c", n, src)}
	return &recovery.Point{
		ID: sid.Rand, SID: sid.String(), Kind: kind, Source: "of/" + string(src), Identity: string(src), Attrs: []byte("{}"),
		Time: time.Date(2026, 3, 1+n, 12, 0, 0, 0, time.UTC),
	}
}

func lostOf(p *recovery.Point, name func(ledger.SID) string, err error) *repo.PointError {
	sid, perr := ledger.ParseSID(p.SID)
	if perr != nil {
		panic(perr)
	}
	return &repo.PointError{ID: p.ID, Object: name(sid), Err: err}
}

// TestUnreadKeepsItsSourceAlone: of three sources one lacks a manifest and one, a
// database, SQL Server's word; the policy decides the third.
func TestUnreadKeepsItsSourceAlone(t *testing.T) {
	var points []*recovery.Point
	for n := range 3 {
		points = append(points, pointOf('a', n, recovery.Image), pointOf('b', n, recovery.Image), pointOf('c', n, recovery.SQLFull))
	}
	var u Unread
	manifest := lostOf(pointOf('b', 9, recovery.Image), ledger.CommitName, pack.ErrDamaged)
	u.Add(manifest, manifest)
	word := lostOf(points[2], ledger.ConfirmName, pack.ErrDamaged)
	judged, err := recovery.Policy{Last: 1}.Judge(recovery.BriefsOf(points), points[8].Time, nil, u.Chains(func(string, []string) (recovery.Chain, error) { return nil, word }))
	if err != nil {
		t.Fatal(err)
	}
	var warned []string
	err = u.Keep(judged, true, func(format string, args ...any) { warned = append(warned, fmt.Sprintf(format, args...)) })
	if err == nil || len(warned) != 2 {
		t.Errorf("error %v, warnings %q", err, warned)
	}
	for _, j := range judged {
		if gone := j.Point.Source() == "of/a" && j.Point.ID() != points[6].ID; j.Keep == gone {
			t.Errorf("%s of %s: keep %v, %v", j.Point.ID(), j.Point.Source(), j.Keep, j.Reasons)
		}
		if old := j.Point.Source() != "of/a" && j.Point.Time().Before(points[6].Time); old != slices.Equal(j.Reasons, []string{"unreadable"}) {
			t.Errorf("%s of %s: %v", j.Point.ID(), j.Point.Source(), j.Reasons)
		}
	}
}

// TestUnreadOfOtherSourcesIsNoConcern of a run that asks about one.
func TestUnreadOfOtherSourcesIsNoConcern(t *testing.T) {
	a := pointOf('a', 0, recovery.Image)
	var u Unread
	u.Add(lostOf(pointOf('b', 0, recovery.Image), ledger.CommitName, pack.ErrDamaged))
	briefs := recovery.BriefsOf([]*recovery.Point{a})
	warn := func(format string, args ...any) { t.Errorf(format, args...) }
	if err := u.Keep([]recovery.Judged{{Point: &briefs[0]}}, false, warn); err != nil {
		t.Error(err)
	}
}

// TestPlaceThatDoesNotAnswerIsNoUnreadObject: nothing is kept for it, the run fails.
func TestPlaceThatDoesNotAnswerIsNoUnreadObject(t *testing.T) {
	var u Unread
	p := pointOf('c', 0, recovery.SQLFull)
	away := lostOf(p, ledger.ConfirmName, fmt.Errorf("read: %w", backend.ErrUnreachable))
	broken := errors.New("broken")
	for _, want := range []error{away, broken} {
		_, err := u.Chains(func(string, []string) (recovery.Chain, error) { return nil, want })("c", []string{p.ID})
		if !errors.Is(err, want) || len(u.objects) != 0 {
			t.Errorf("%v: %v, %v", want, err, u.objects)
		}
	}
}
