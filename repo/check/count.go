package check

import (
	"context"
	"fmt"
	"sort"
	"strings"

	"holdfast/repo/backend"
)

// Totals tell how much a repository holds.
type Totals struct {
	Objects     int         `json:"objects"`
	BytesStored int64       `json:"bytes_stored"` // as it lies in the store, parity included
	Kinds       []KindTotal `json:"kinds"`
	Points      int         `json:"points"`
	Sources     int         `json:"sources"`
	BytesTotal  int64       `json:"bytes_total"` // of all items of all points
	Chunks      int64       `json:"chunks"`
}

// KindTotal is the share of one kind of object, called by its folder.
type KindTotal struct {
	Kind    string `json:"kind"`
	Objects int    `json:"objects"`
	Bytes   int64  `json:"bytes"`
}

// Count counts.
func Count(ctx context.Context, r Subject) (*Totals, error) {
	t := &Totals{Kinds: []KindTotal{}}
	byKind := map[string]*KindTotal{}
	err := r.Backend.List(ctx, "", func(info backend.Info) error {
		kind, _, _ := strings.Cut(info.Name, "/")
		k := byKind[kind]
		if k == nil {
			k = &KindTotal{Kind: kind}
			byKind[kind] = k
		}
		k.Objects++
		k.Bytes += info.Bytes
		t.Objects++
		t.BytesStored += info.Bytes
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list objects: %w", err)
	}
	for _, k := range byKind {
		t.Kinds = append(t.Kinds, *k)
	}
	sort.Slice(t.Kinds, func(i, j int) bool { return t.Kinds[i].Kind < t.Kinds[j].Kind })
	entries, _, err := r.Points(ctx)
	if err != nil {
		return nil, err
	}
	sources := map[string]bool{}
	for _, e := range entries {
		t.Points++
		t.BytesTotal += e.BytesTotal
		sources[e.Identity] = true
	}
	t.Sources = len(sources)
	for p := range r.Index.Packs() {
		t.Chunks += int64(p.Count)
	}
	return t, nil
}
