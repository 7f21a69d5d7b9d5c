package plan

import (
	"strings"
	"testing"
	"time"

	"holdfast/sqlguest/chain"
)

// night is a full and a log every quarter of an hour by a clock of Berlin.
func night(t *testing.T, zone string, begin time.Time, logs int) []chain.Backup {
	t.Helper()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	var all []chain.Backup
	for i := range uint32(logs + 1) {
		b := set(chain.Log, string(rune('A'+i)), 100*i, 100*(i+1), 0)
		if i == 0 {
			b = set(chain.Full, "A", 50, 100, 0)
		}
		start := begin.Add(time.Duration(i) * 15 * time.Minute).In(berlin)
		_, seconds := start.Zone()
		b.Started = start.In(time.FixedZone("", seconds))
		b.Finished, b.Zone = b.Started.Add(5*time.Second), zone
		all = append(all, b)
	}
	return all
}

func TestOffsetsOfBackupsAndTheZonesRulesTellWhatATimeMeans(t *testing.T) {
	was := time.Local // the machine that restores is somewhere else
	time.Local = time.FixedZone("", -5*3600)
	t.Cleanup(func() { time.Local = was })
	const windows = "W. Europe Standard Time"
	// A 01:00, B 01:15 … H 02:45, I 02:00 again … M 03:00
	autumn := func(zone string) []chain.Backup {
		return night(t, zone, time.Date(2026, 10, 24, 23, 0, 0, 0, time.UTC), 12)
	}
	// A 00:00, B 00:15, and one log to 05:00 with the change in it
	sparse := func(zone string) []chain.Backup {
		all := night(t, zone, time.Date(2026, 10, 24, 22, 0, 0, 0, time.UTC), 24)
		b, c := all[1], all[24]
		c.First = b.Last
		return []chain.Backup{all[0], b, c}
	}
	spring := func(zone string) []chain.Backup {
		return night(t, zone, time.Date(2026, 3, 29, 0, 20, 0, 0, time.UTC), 6)
	}
	for _, x := range []struct {
		name, time string
		backups    []chain.Backup
		want       string
		at         string
	}{
		{"the repeated hour, bare", "2026-10-25 02:30", autumn(windows), "ambiguous: 02:30+02:00 02:30+01:00", ""},
		{"the repeated hour, bare, by offsets", "2026-10-25 02:30", autumn(""), "ambiguous: 02:30+02:00 02:30+01:00", ""},
		{"its first time", "2026-10-25 02:20:00+02:00", autumn(windows), "A B C D E F G?", "2026-10-25T02:20:00+02:00"},
		{"its first time, by offsets", "2026-10-25 02:20:00+02:00", autumn(""), "A B C D E F G?", "2026-10-25T02:20:00+02:00"},
		{"its first time, said in another zone", "2026-10-24T19:20:00-05:00", autumn(windows), "A B C D E F G?", "2026-10-25T02:20:00+02:00"},
		{"its second time", "2026-10-25 02:20:00+01:00", autumn(windows), "refused: J K", ""},
		{"its second time, by offsets", "2026-10-25T01:20:00Z", autumn(""), "refused: J K", ""},
		{"the first time, in the log that has both", "2026-10-25 02:50:00+02:00", autumn(windows), "refused: H I", ""},
		{"before it, bare", "2026-10-25 01:58", autumn(windows), "A B C D E?", "2026-10-25T01:58:00+02:00"},
		{"behind it, bare", "2026-10-25 03:00", autumn(windows), "A B C D E F G H I J K L M?", "2026-10-25T03:00:00+01:00"},
		{"hours before it, between backups far apart", "2026-10-25 01:30", sparse(windows), "A B Y?", "2026-10-25T01:30:00+02:00"},
		{"hours behind it, between backups far apart", "2026-10-25 04:30", sparse(windows), "A B Y?", "2026-10-25T04:30:00+01:00"},
		{"hours before it, by offsets alone", "2026-10-25 01:30", sparse(""), "ambiguous: 01:30+02:00 01:30+01:00", ""},
		{"another zone than the offsets", "2026-10-25 01:30", sparse("Tokyo"), "ambiguous: 01:30+02:00 01:30+01:00", ""},
		{"a zone whose rules are not the server's", "2026-10-25 01:30", sparse("GMT Standard Time"), "ambiguous: 01:30+02:00 01:30+01:00", ""},
		{"the hour that is left out", "2026-03-29 02:30", spring(windows), "A B C D?", "2026-03-29T03:00:00+02:00"},
		{"behind the hour that is left out", "2026-03-29 03:10", spring(windows), "A B C D E?", "2026-03-29T03:10:00+02:00"},
		{"before it", "2026-03-29 01:40", spring(windows), "A B C?", "2026-03-29T01:40:00+01:00"},
		{"an instant of it, in an offset that was over", "2026-03-29 02:10:00+01:00", spring(windows), "A B C D E?", "2026-03-29T03:10:00+02:00"},
	} {
		at, bare, err := ParseTime(x.time)
		if err != nil {
			t.Fatal(err)
		}
		p, err := Make(Target{At: at, Bare: bare}, x.backups, Options{})
		if got := told(p, err); got != x.want || x.at != "" && p.At.Format(time.RFC3339) != x.at {
			t.Errorf("%s: %q at %s, want %q at %s (%v)", x.name, got, p.At.Format(time.RFC3339), x.want, x.at, err)
		}
		if skipped := strings.Contains(strings.Join(p.Warnings, " "), "never showed 02:30:00"); skipped != (x.name == "the hour that is left out") {
			t.Errorf("%s: warnings %q", x.name, p.Warnings)
		}
	}
}

// A log's end is said with the offset of its start: one behind which no other is begun
// for an hour may have gone on across the change.
func TestALogThatMayHaveEndedBehindTheChangeIsNotStopped(t *testing.T) {
	all := night(t, "", time.Date(2026, 10, 24, 23, 0, 0, 0, time.UTC), 12)
	target := Target{At: time.Date(2026, 10, 25, 0, 40, 0, 0, time.UTC)}
	for next, want := range map[int]string{8: "A B C D E F G H?", 11: "A B C D E F G H?", 12: "refused: G H"} {
		list := append(all[:8:8], all[next:]...)
		list[8].First = list[7].Last
		p, err := Make(target, list, Options{})
		if got := told(p, err); got != want {
			t.Errorf("next log at %s: %q, want %q (%v)", list[8].Started, got, want, err)
		}
	}
}
