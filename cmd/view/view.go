// Package view is recovery points as operators name and see them: Find resolves
// what was typed, a Filter chooses, a Row stands in a list, a Detail is everything
// about one, and Compare tells what changed between two. It reads the repository
// and decides nothing.
package view

import (
	"context"
	"fmt"
	"strings"
	"time"

	"holdfast/cmd/ui"
	"holdfast/repo"
	"holdfast/repo/recovery"
	"holdfast/sqlguest/picture"
	"holdfast/sqlguest/shelf"
	"holdfast/vmware"
)

// Row is a point as lists show it.
type Row struct {
	ID          string    `json:"id"`
	Time        time.Time `json:"time"`
	Kind        string    `json:"kind"`
	Source      string    `json:"source"`
	Parent      string    `json:"parent"`
	Consistency string    `json:"consistency"`
	Size        int64     `json:"size"`
	BytesAdded  int64     `json:"bytes_added"`
	Tags        []string  `json:"tags"`
	Pinned      bool      `json:"pinned"`
	ReadMode    string    `json:"read_mode"`
}

// RowOf shortens a point to what lists show.
func RowOf(e repo.Entry) Row {
	return Row{
		ID: e.ID, Time: e.Time, Kind: string(e.Kind), Source: e.Source, Parent: e.Parent, Consistency: e.Consistency,
		Size: e.BytesTotal, BytesAdded: e.BytesAdded, Tags: ui.OrEmpty(e.Tags), Pinned: e.Pinned, ReadMode: e.ReadMode,
	}
}

// RowOfBrief is RowOf of a point of which there is a brief alone.
func RowOfBrief(b *repo.Brief) Row {
	return Row{
		ID: b.ID(), Time: b.Time(), Kind: string(b.Kind()), Source: b.Source(), Parent: b.Parent(), Consistency: b.Consistency(),
		Size: b.BytesTotal, BytesAdded: b.BytesAdded, Tags: ui.OrEmpty(b.Tags()), Pinned: b.Pinned, ReadMode: b.ReadMode(),
	}
}

// Detail is the result of show. Fields that a point leaves out when they
// are empty are always here.
type Detail struct {
	*recovery.Point
	Tags     []string `json:"tags"`
	Warnings []string `json:"warnings"`
	Pinned   bool     `json:"pinned"`
	Chain    []string `json:"chain"` // ids of the points it was read against, nearest first
	// SQL is of a database's point alone.
	SQL *picture.About `json:"sql,omitempty"`
}

// Ancestors follows the parents of a point as far as they still exist.
func Ancestors(ctx context.Context, r *repo.Repository, p *recovery.Point) ([]string, error) {
	if p.Parent == "" {
		return []string{}, nil
	}
	briefs, _, err := r.Briefs(ctx) // what cannot be read ends the chain, no more
	if err != nil {
		return nil, err
	}
	return p.Ancestors(briefs), nil
}

// Database is what the chain of a database's point tells of it; nil of any other point.
func Database(ctx context.Context, r *repo.Repository, p *recovery.Point) (*picture.About, error) {
	if !shelf.Holds(p.Kind) {
		return nil, nil
	}
	backups, _, err := shelf.Backups(ctx, r, &shelf.Database{Identity: p.Identity}) // what cannot be read ends the chain, no more
	if err != nil {
		return nil, err
	}
	return picture.AboutPoint(backups, p.ID), nil
}

// apps are what became of the databases in the guest of a virtual machine, in the run that
// made its point; nil where nobody asked for them.
func apps(p *recovery.Point) (lines [][2]string) {
	attrs, err := vmware.ParseVMAttrs(p.Attrs)
	if p.Kind != recovery.VM || err != nil || attrs.Apps == nil {
		return nil
	}
	if attrs.Apps.Done.IsZero() {
		return append(lines, [2]string{"databases", "could not be backed up in this run: the disks alone have them as they were then"})
	}
	lines = append(lines, [2]string{"databases", "backed up by " + attrs.Apps.Done.Format(time.RFC3339)})
	for _, d := range attrs.Apps.Databases {
		lines = append(lines, [2]string{"", d.Source + " up to point " + d.Point})
	}
	for _, source := range attrs.Apps.Missed {
		lines = append(lines, [2]string{"", "but not " + source})
	}
	return lines
}

// Print shows a point to people; chain is what Ancestors found, more are names and
// texts that only such a point has.
func Print(to *ui.Terminal, e repo.Entry, chain []string, more [][2]string) {
	line := func(name, format string, args ...any) {
		to.Printf("%-13s%s\n", name, ui.Clean(fmt.Sprintf(format, args...)))
	}
	line("point", "%s", e.ID)
	line("source", "%s (%s)", e.Source, e.Identity)
	line("kind", "%s", e.Kind)
	line("time", "%s", e.Time.Format(time.RFC3339))
	line("consistency", "%s", e.Consistency)
	line("read", "%s: %s", e.ReadMode, e.Reason)
	if e.Rule != "" {
		line("rule", "%s", e.Rule)
	}
	if e.Parent != "" {
		line("parent", "%s", e.Parent)
	}
	if len(chain) > 1 {
		line("chain", "%s", strings.Join(chain, " "))
	}
	for _, m := range append(more, apps(e.Point)...) {
		line(m[0], "%s", m[1])
	}
	line("size", "%s, read %s, added %s in %d chunks", ui.Bytes(e.BytesTotal), ui.Bytes(e.BytesRead), ui.Bytes(e.BytesAdded), e.ChunksNew)
	line("made by", "%s on %s, finished %s", e.Program, e.Host, e.Finished.Format(time.RFC3339))
	if len(e.Tags) > 0 {
		line("tags", "%s", strings.Join(e.Tags, ", "))
	}
	if e.Pinned {
		line("pinned", "no policy forgets it")
	}
	for _, w := range e.Warnings {
		line("warning", "%s", w)
	}
	t := ui.NewTable(ui.Left("Item"), ui.Left("Label"), ui.Right("Size"), ui.Left("Read"), ui.Left("Why"))
	for _, it := range e.Items {
		t.Row(it.Name, it.Label, ui.Bytes(it.Bytes), it.ReadMode, it.Reason)
	}
	if !to.JSON() {
		to.Printf("\n")
		to.Table(t)
	}
}
