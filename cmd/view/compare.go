package view

import (
	"context"

	"holdfast/cmd/settings"
	"holdfast/repo"
	"holdfast/repo/blob"
	"holdfast/repo/image"
	"holdfast/repo/recovery"
)

// Difference is what changed between two points of one source.
type Difference struct {
	A            string           `json:"a"`
	B            string           `json:"b"`
	BytesChanged int64            `json:"bytes_changed"`
	Items        []ItemDifference `json:"items"`
}

// ItemDifference is what changed in one item. Without a change Extents is empty,
// and also where an item has no map: an item that is new, or a stream.
type ItemDifference struct {
	Item         string   `json:"item"`
	Change       string   `json:"change"` // same, changed, added, removed
	BytesChanged int64    `json:"bytes_changed"`
	Extents      []Extent `json:"extents"`
}

// Extent is a range of bytes, in multiples of the chunk size.
type Extent struct {
	Start  int64 `json:"start"`
	Length int64 `json:"length"`
}

// Compare tells what changed from x to y, two points of one source, by their
// maps alone: no data is read.
func Compare(ctx context.Context, r *repo.Repository, x, y repo.Entry) (Difference, error) {
	if x.Identity != y.Identity {
		return Difference{}, settings.Usagef("compare points of one source", "diff: %s is of %s, %s of %s", x.ID, x.Source, y.ID, y.Source)
	}
	if err := Disks("diff", &x); err != nil {
		return Difference{}, err
	}
	rep := Difference{A: x.ID, B: y.ID, Items: []ItemDifference{}}
	for _, it := range x.Items {
		d := ItemDifference{Item: it.Name, Change: "removed", BytesChanged: it.Bytes, Extents: []Extent{}}
		if other := y.Item(it.Name); other != nil {
			var err error
			if d, err = compareItems(ctx, r, it, *other); err != nil {
				return Difference{}, err
			}
		}
		rep.Items = append(rep.Items, d)
	}
	for _, it := range y.Items {
		if x.Item(it.Name) == nil {
			rep.Items = append(rep.Items, ItemDifference{Item: it.Name, Change: "added", BytesChanged: it.Bytes, Extents: []Extent{}})
		}
	}
	for _, d := range rep.Items {
		rep.BytesChanged += d.BytesChanged
	}
	return rep, nil
}

// compareItems compares one item of two points.
func compareItems(ctx context.Context, r *repo.Repository, x, y recovery.Item) (ItemDifference, error) {
	d := ItemDifference{Item: x.Name, Change: "same", Extents: []Extent{}}
	if x.Disk == nil || y.Disk == nil {
		same := string(x.Inline) == string(y.Inline) && (x.Stream == nil) == (y.Stream == nil) && (x.Stream == nil || *x.Stream == *y.Stream)
		if !same {
			d.Change, d.BytesChanged = "changed", max(x.Bytes, y.Bytes)
		}
		return d, nil
	}
	size := max(x.Disk.Bytes, y.Disk.Bytes)
	err := image.Diff(ctx, r, *x.Disk, *y.Disk, func(chunk int64, _, _ blob.ID) error {
		start := chunk * x.Disk.ChunkBytes
		length := min(x.Disk.ChunkBytes, size-start)
		if n := len(d.Extents) - 1; n >= 0 && d.Extents[n].Start+d.Extents[n].Length == start {
			d.Extents[n].Length += length
		} else {
			d.Extents = append(d.Extents, Extent{start, length})
		}
		d.BytesChanged += length
		return nil
	})
	if len(d.Extents) > 0 || x.Disk.Bytes != y.Disk.Bytes {
		d.Change = "changed"
	}
	return d, err
}
