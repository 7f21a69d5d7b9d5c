package cbt

import (
	"context"
	"errors"
	"fmt"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"holdfast/repo/image"
)

// ErrAnswer means that a server's answer about changed blocks contradicts the
// question or itself, so that nothing of it can be used.
var ErrAnswer = errors.New("answer about changed blocks contradicts itself")

// Ask is one call of QueryChangedDiskAreas with the disk, the snapshot and the
// change id filled in.
type Ask func(ctx context.Context, start int64) (types.DiskChangeInfo, error)

// Server asks the real one: the question without its start.
func Server(c soap.RoundTripper, question types.QueryChangedDiskAreas) Ask {
	return func(ctx context.Context, start int64) (types.DiskChangeInfo, error) {
		question := question
		question.StartOffset = start
		res, err := methods.QueryChangedDiskAreas(ctx, c, &question)
		if err != nil {
			return types.DiskChangeInfo{}, fmt.Errorf("query changed areas of disk %d at %d: %w", question.DeviceKey, start, err)
		}
		return res.Returnval, nil
	}
}

// Query collects all changed areas of a disk of capacity bytes, ascending and
// disjoint, neighbours merged; empty, not nil, when nothing changed.
//
// An answer holds at most 2000 areas and covers only a window of the disk; the
// next question starts where the window ends. Two products that took the first
// answer for the whole lost data silently. The last question is the one whose
// window reaches the capacity: asking at the capacity is a fault. Each answer is
// checked; any contradiction is ErrAnswer and the disk must be read whole.
func Query(ctx context.Context, ask Ask, capacity int64) ([]image.Extent, error) {
	all := []image.Extent{}
	for start := int64(0); start < capacity; {
		answer, err := ask(ctx, start)
		if err != nil {
			return nil, err
		}
		if all, err = appendAnswer(all, answer, start, capacity); err != nil {
			return nil, err
		}
		start += answer.Length
	}
	return all, nil
}

func appendAnswer(all []image.Extent, answer types.DiskChangeInfo, start, capacity int64) ([]image.Extent, error) {
	switch {
	case answer.StartOffset != start:
		return nil, fmt.Errorf("asked at %d, answered for %d: %w", start, answer.StartOffset, ErrAnswer)
	case answer.Length <= 0:
		return nil, fmt.Errorf("window of %d bytes at %d: %w", answer.Length, start, ErrAnswer)
	case answer.Length > capacity-start:
		return nil, fmt.Errorf("window of %d bytes at %d leaves the disk of %d: %w", answer.Length, start, capacity, ErrAnswer)
	}
	at, end := start, start+answer.Length
	for _, a := range answer.ChangedArea {
		if a.Length <= 0 || a.Start < at || a.Start > end || a.Length > end-a.Start {
			return nil, fmt.Errorf("area of %d bytes at %d, after %d in a window up to %d: %w", a.Length, a.Start, at, end, ErrAnswer)
		}
		at = a.Start + a.Length
		if n := len(all); n > 0 && all[n-1].Start+all[n-1].Length == a.Start {
			all[n-1].Length += a.Length
			continue
		}
		all = append(all, image.Extent{Start: a.Start, Length: a.Length})
	}
	return all, nil
}
