//go:build linux

package trial_test

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/repo/blob"
	"holdfast/repo/ledger"
	"holdfast/repo/pack"
	"holdfast/repo/parity"
	"holdfast/repo/points"
	"holdfast/repo/recovery"
	"holdfast/repo/session"
	"holdfast/repo/stream"
)

const (
	logSources = 200
	logBytes   = 100_000
	logEvery   = 15 * time.Minute // and each source
	keepLast   = 100

	// A listing, a prune that decides, and one that writes, may take so much for each
	// point, and so much beside it: a small record of each point, and as much again
	// that waits to be collected. A manifest would be 3 kB.
	listBytes, decideBytes, pruneBytes, fixedBytes = 250, 250, 350, 130 << 20
)

// logs is a repository of log backups of many databases in its steady state:
// few packs, listed by runs that the ledger names, as are all points but the
// last one of each source.
type logs struct {
	*plant
	sids  [][]ledger.SID // by source, by age
	roots [][]blob.ID
}

// plantLogs makes count points.
func plantLogs(t *testing.T, count int) *logs {
	t.Helper()
	l := &logs{plant: newPlant(t, "off")}
	each := count / logSources
	for source := range logSources {
		src := l.store.Keys.SourceName(identityOf(source))
		l.roots = append(l.roots, make([]blob.ID, each))
		l.sids = append(l.sids, make([]ledger.SID, each))
		for n := range l.sids[source] {
			var random [8]byte
			_, _ = rand.Read(random[:])
			l.sids[source][n] = ledger.SID{Src: src, Rand: hex.EncodeToString(random[:])}
		}
		l.sids[source][each-1].Gen = 1 // at the horizon
	}
	runs := l.content(t.Context())
	l.settle(t.Context(), runs)
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(runtime.NumCPU())
	for source := range l.sids {
		group.Go(func() error { return l.commit(ctx, source) })
	}
	must(t, group.Wait())
	l.built()
	return l
}

func identityOf(source int) string {
	return fmt.Sprintf("5f3a%04d-0000-4000-8000-00000000db%02d", source/10, source%10)
}

// content stores what the points need: of each log one chunk, synthetic, and one
// node, real. It returns the segments that list it.
func (l *logs) content(ctx context.Context) (runs []string) {
	l.t.Helper()
	s, err := session.Begin(ctx, l.c, l.store.Keys.SourceName("prune"), session.Options{Name: "prune", Compression: "auto"})
	must(l.t, err)
	f := &filler{p: l.plant, s: s, perPack: 290}
	for n := range l.roots[0] {
		for source := range l.roots {
			id := syntheticID(uint64(source+10), uint64(n))
			must(l.t, f.add(ctx, id))
			l.roots[source][n], err = s.Put(ctx, blob.StreamNode, binary.LittleEndian.AppendUint64(id[:], logBytes))
			must(l.t, err)
		}
	}
	must(l.t, f.seal(ctx))
	must(l.t, f.publish(ctx))
	must(l.t, s.Flush(ctx))
	runs = s.Segments()
	s.Revoke(ctx, "a prune makes no point")
	return runs
}

// settle writes the ledger entry and the sessions above its horizon.
func (l *logs) settle(ctx context.Context, runs []string) {
	l.t.Helper()
	entry := ledger.Entry{Version: ledger.Version, Horizon: 1, Roll: 1, Runs: runs} // number 0 wrote the content
	number := entry.Roll
	for _, sids := range l.sids {
		for _, sid := range sids {
			if sid.Gen == 0 {
				entry.Points.Add(sid)
				continue
			}
			record := ledger.Session{Version: ledger.Version, SID: sid.String(), Host: "backup01", PID: 4711, Started: time.Now()}
			must(l.t, l.store.Write(ctx, ledger.RollName(number), parity.Session, record))
			number++
		}
	}
	must(l.t, l.store.Write(ctx, ledger.LedgerName(1), parity.Ledger, entry))
}

// commit writes the slots of one source, oldest first, past the place's own way
// of making them durable one by one.
func (l *logs) commit(ctx context.Context, source int) error {
	began := time.Now().Add(-logEvery * time.Duration(len(l.sids[source])))
	previous := ""
	for n, sid := range l.sids[source] {
		if err := ctx.Err(); err != nil {
			return err
		}
		manifest, err := json.Marshal(l.point(source, n, previous, began.Add(logEvery*time.Duration(n))))
		if err != nil {
			return err
		}
		payload, err := json.Marshal(ledger.Slot{Version: ledger.Version, Point: manifest})
		if err != nil {
			return err
		}
		name := ledger.CommitName(sid)
		object, err := pack.EncodeRecord(l.store.Params(parity.Commit, name), payload)
		if err != nil {
			return err
		}
		path := filepath.Join(l.dir, filepath.FromSlash(name))
		if n == 0 {
			err = os.MkdirAll(filepath.Dir(path), 0o700)
		}
		if err == nil {
			err = os.WriteFile(path, object.Bytes, 0o600)
		}
		if err != nil {
			return err
		}
		previous = points.HashManifest(l.store.Keys, manifest)
	}
	return nil
}

// point is a manifest as a log backup writes it.
func (l *logs) point(source, n int, previous string, at time.Time) recovery.Point {
	sid := l.sids[source][n]
	lsn := fmt.Sprintf("%08d:%08d:%04d", source, n*977, n%7)
	attrs, _ := json.Marshal(map[string]any{
		"database": fmt.Sprintf("sales%02d", source%10), "family_guid": identityOf(source), "first_lsn": lsn, "last_lsn": lsn,
		"recovery_fork_guid": identityOf(source), "recovery_model": "FULL", "file": fmt.Sprintf("log-%06d.trn", n),
	})
	return recovery.Point{
		ID: sid.Rand, SID: sid.String(), Kind: recovery.SQLLog, Source: fmt.Sprintf("sql/db%02d/sales%02d", source/10, source%10),
		Identity: identityOf(source), Time: at, Finished: at.Add(2 * time.Second), Previous: previous,
		ReadMode: recovery.ReadStream, Reason: "the log since the last log backup", Rule: "SQL-7", Consistency: recovery.Application,
		BytesTotal: logBytes, BytesRead: logBytes, BytesAdded: logBytes, ChunksNew: 1, Host: "backup01", Program: "holdfast 0.1.0",
		Items: []recovery.Item{{
			Name: "log", Bytes: logBytes, Stream: &stream.Stream{Bytes: logBytes, Root: l.roots[source][n]}, ReadMode: recovery.ReadStream, Attrs: attrs,
		}},
	}
}

// TestHalfAMillionPointsOfSmallLogBackups: listing, forgetting and pruning take
// memory by the point, not by what is in it, and come to the right end.
func TestHalfAMillionPointsOfSmallLogBackups(t *testing.T) {
	count := smallPoints
	if atScale() {
		count = fullPoints
	}
	l := plantLogs(t, count)
	most := func(each int) int64 { return int64(fixedBytes + count*each) }
	all := l.run("points", "--json")
	l.within(all, 0, most(listBytes))
	l.within(l.run("points"), 0, most(listBytes))
	latest := l.run("points", "--latest", "1", "--json")
	l.within(latest, 0, most(listBytes))
	var rows []struct {
		ID string `json:"id"`
	}
	must(t, json.Unmarshal(latest.out, &rows))
	newest := map[string]bool{}
	for _, sids := range l.sids {
		newest[sids[len(sids)-1].Rand] = true
	}
	for _, row := range rows {
		delete(newest, row.ID)
	}
	if len(rows) != logSources || len(newest) != 0 {
		t.Errorf("%d points are the latest, and %d that should be are not among them", len(rows), len(newest))
	}
	l.within(l.run("forget", "--keep-last", fmt.Sprint(keepLast), "--dry-run", "--json"), 0, most(listBytes))
	disk := filepath.Join(filepath.Dir(l.dir), "tiny.raw")
	must(t, os.WriteFile(disk, []byte("tiny"), 0o600))
	l.run("backup", "image", disk, "--name", "tiny")
	dry := l.run("prune", "--dry-run", "--json")
	l.within(dry, 0, most(decideBytes))
	real := l.run("prune", "--json")
	l.within(real, 0, most(pruneBytes))
	for _, rep := range []int{dry.report(t).Points, real.report(t).Points} {
		if rep != count+1 {
			t.Errorf("prune keeps %d points of %d", rep, count+1)
		}
	}
	if rep := real.report(t); rep.PacksRemoved != 0 {
		t.Errorf("prune removed %d packs, and all are needed", rep.PacksRemoved)
	}
}
