package retain_test

import (
	"fmt"
	"testing"
	"time"

	"holdfast/repo/recovery"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/lsn"
	"holdfast/sqlguest/retain"
)

// aYear is a database with a log every so often, a differential a day and a full a week.
func aYear(logs int) (points []recovery.Brief, backups []chain.Backup) {
	var briefer recovery.Briefer
	day0 := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	full, at := "", uint32(1)
	add := func(kind chain.Kind, t time.Time, h chain.Header) {
		id := fmt.Sprintf("%016x", len(backups))
		h.Kind, h.Set, h.Family, h.Fork, h.FirstFork, h.Started, h.Finished = kind, id, "family", "fork", "fork", t, t
		backups = append(backups, chain.Backup{Header: h, Point: id, State: chain.Confirmed})
		p := &recovery.Point{ID: id, SID: "0-0-" + id, Kind: recovery.Kind("sql-" + string(kind)), Source: source, Identity: source, Time: t, Attrs: noted}
		points = append(points, briefer.Brief(p, false))
	}
	for day := range 365 {
		kind, h := chain.Diff, chain.Header{First: lsn.LSN{VLF: at}, Checkpoint: lsn.LSN{VLF: at}, Last: lsn.LSN{VLF: at, Block: 1}, Base: full}
		if day%7 == 0 {
			kind, h.Base, full = chain.Full, "", fmt.Sprintf("%016x", len(backups))
		}
		add(kind, day0.AddDate(0, 0, day), h)
		for n := range logs {
			add(chain.Log, day0.AddDate(0, 0, day).Add(time.Duration(n+1)*24*time.Hour/time.Duration(logs+1)), chain.Header{First: lsn.LSN{VLF: at}, Last: lsn.LSN{VLF: at + 1}})
			at++
		}
	}
	return points, backups
}

// BenchmarkAYearOfLogs judges one database that was never forgotten anything of, a log
// every quarter of an hour: 35,000 points.
func BenchmarkAYearOfLogs(b *testing.B) {
	points, backups := aYear(96)
	chains := retain.Chains(func(string) ([]chain.Backup, error) { return backups, nil })
	b.ReportMetric(float64(len(points)), "points")
	for b.Loop() {
		judged, err := recovery.Policy{Daily: 14, Weekly: 8}.Judge(points, points[len(points)-1].Time(), nil, chains)
		if err != nil {
			b.Fatal(err)
		}
		kept := 0
		for _, j := range judged {
			if j.Keep {
				kept++
			}
		}
		b.ReportMetric(float64(kept), "kept")
	}
}
