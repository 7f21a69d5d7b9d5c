package recovery_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"holdfast/repo/recovery"
)

const db = " sql/x/db "

// TestLogIsReachedByWhatLeadsToIt: by its parent, or by a full or differential that
// was taken since; not across a log that is lost.
func TestLogIsReachedByWhatLeadsToIt(t *testing.T) {
	full, diff, log := db+"sql-full ", db+"sql-diff ", db+"sql-log "
	for name, tt := range map[string]struct {
		points []string
		want   []string
	}{
		"the differential leads on where the log's parent is gone": {
			[]string{"f1" + full, "l1" + log + "f1", "d1" + diff + "f1", "l3" + log + "l2-gone"},
			[]string{"+f1 needed by d1", "+l1 keep-daily 2", "+d1 keep-daily 2", "+l3 last, keep-daily 2"},
		},
		"a lost log between": {
			[]string{"f1" + full, "l1" + log + "f1", "l3" + log + "l2-gone", "l4" + log + "l3"},
			[]string{"+f1 needed by l1", "+l1 last, keep-daily 2", "-l3 unreachable", "-l4 unreachable"},
		},
		"a copy-only log between does no harm": {
			[]string{"d1" + full, "c1" + log + "l0-gone", "l1" + log + "l0-gone", "l2" + log + "l1"},
			[]string{"+d1 needed by l1", "+c1 keep-daily 2", "+l1 keep-daily 2", "+l2 last, keep-daily 2"},
		},
		"a lost full takes its differentials with it": {
			[]string{"f1" + full, "d2" + diff + "f2-gone", "l1" + log + "d2"},
			[]string{"+f1 last, keep-daily 2", "-d2 unreachable", "-l1 unreachable"},
		},
		"nothing can be restored": {
			[]string{"l1" + log, "l2" + log + "l1"},
			[]string{"+l1 needed by l2", "+l2 last"},
		},
		"a differential that stands on a log": {
			[]string{"l1" + log, "d1" + diff + "l1", "v1 vm/v vm d1"},
			[]string{"+l1 needed by d1", "+d1 last", "+v1 last, keep-daily 2"},
		},
		"the clock was set back between": {
			[]string{"l1" + log + "f1", "f1" + full},
			[]string{"+l1 keep-daily 2", "+f1 last, keep-daily 2"},
		},
		"another database's full": {
			[]string{"f1 sql/x/other sql-full", "l1" + log + "l0-gone"},
			[]string{"+f1 last, keep-daily 2", "+l1 last"},
		},
	} {
		points := series(tt.points...)
		now := day0.AddDate(0, 0, 3)
		if len(points) < 4 {
			now = day0.AddDate(0, 0, len(points)-1)
		}
		judged, err := recovery.Policy{Daily: 2}.Judge(briefs(points), now, nil, nil)
		t.Run(name, func(t *testing.T) { wantJudged(t, judged, err, tt.want...) })
	}
}

// TestLastCountsNoLogs: a day of them would be all that is kept.
func TestLastCountsNoLogs(t *testing.T) {
	full, log := db+"sql-full ", db+"sql-log "
	points := series("f1"+full, "l1"+log+"f1", "f2"+full, "l2"+log+"l1", "l3"+log+"l2", "f3"+full, "l4"+log+"l3", "l5"+log+"l4")
	judged, err := recovery.Policy{Last: 2}.Judge(briefs(points), day0, nil, nil)
	wantJudged(t, judged, err, "-f1 older than the last 2", "-l1 older than the last 2", "+f2 keep-last 2", "+l2 keep-last 2", "+l3 keep-last 2", "+f3 keep-last 2", "+l4 keep-last 2", "+l5 last, keep-last 2")
	logs := func(b *recovery.Brief) bool { return b.Kind() == recovery.SQLLog }
	judged, err = recovery.Policy{Last: 2}.Judge(briefs(points), day0, logs, nil)
	wantJudged(t, judged, err, "-l1 older than the last 2", "-l2 older than the last 2", "-l3 older than the last 2", "+l4 keep-last 2", "+l5 last, keep-last 2")
	judged, err = recovery.Policy{Yearly: 9}.Judge(briefs(points), day0, logs, nil)
	wantJudged(t, judged, err, "-l1 weeks, months and years keep no log", "-l2 weeks, months and years keep no log", "-l3 weeks, months and years keep no log", "+l4 needed by l5", "+l5 last")
}

// TestRulesNameLengthsAsTheyAreTyped.
func TestRulesNameLengthsAsTheyAreTyped(t *testing.T) {
	for length, want := range map[time.Duration]string{
		48 * time.Hour: "2d", 36 * time.Hour: "36h", 90 * time.Minute: "1h30m", 10 * time.Second: "10s", 40 * time.Minute: "40m", 20*time.Hour + time.Second: "20h0m1s",
	} {
		judged, err := recovery.Policy{Within: length, PIT: length}.Judge(briefs(series("a1 image/a", "a2 image/a")), day0.AddDate(0, 0, 9), nil, nil)
		wantJudged(t, judged, err, "-a1 older than "+want+", no moment of the last "+want+" needs it", "+a2 last, keep-pit "+want)
	}
}

// TestHalfAMillionLogsAreJudgedInLittleMemory: what judging leaves behind, and what
// it takes meanwhile, is by the point.
func TestHalfAMillionLogsAreJudgedInLittleMemory(t *testing.T) {
	const count, sources, most = 500_000, 200, 200 // bytes a point, with what waits to be collected
	var briefer recovery.Briefer
	points := make([]recovery.Brief, count)
	for i := range points {
		source := fmt.Sprintf("sql/x/db%d", i%sources)
		p := &recovery.Point{ID: fmt.Sprintf("%016x", i), Source: source, Identity: source, Kind: recovery.SQLLog, Time: day0.Add(time.Duration(i) * time.Second)}
		if p.Parent = fmt.Sprintf("%016x", i-sources); i < sources {
			p.Kind, p.Parent = recovery.SQLFull, ""
		}
		points[i] = briefer.Brief(p, false)
	}
	for _, tt := range []struct {
		policy recovery.Policy
		kept   int
	}{
		{recovery.Policy{Daily: 1, Zone: zoneOf(t, "Europe/Berlin")}, 0},
		{recovery.Policy{PIT: 1000 * time.Hour}, count},
		{recovery.Policy{Last: 3, Weekly: 4, Within: time.Hour}, count},
	} {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		judged, err := tt.policy.Judge(points, points[count-1].Time(), nil, nil)
		runtime.ReadMemStats(&after)
		if err != nil || len(judged) != count {
			t.Fatalf("%d judged, %v", len(judged), err)
		}
		kept := 0
		for _, j := range judged {
			if j.Keep {
				kept++
			}
		}
		each := (after.TotalAlloc - before.TotalAlloc) / count
		t.Logf("%+v: %d kept, %d bytes a point", tt.policy, kept, each)
		if each > most || tt.kept != 0 && kept != tt.kept {
			t.Errorf("%+v: %d kept and %d bytes allocated a point, want %d and at most %d", tt.policy, kept, each, tt.kept, most)
		}
	}
}
