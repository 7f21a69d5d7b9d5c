package zones

import (
	"testing"
	"time"
)

func TestEveryNameOfWindowsHasRules(t *testing.T) {
	for name, iana := range windows {
		z := Find(name)
		if z == nil || z.String() != iana {
			t.Errorf("%s: %v, want %s", name, z, iana)
		}
	}
	for name, want := range map[string]string{"Europe/Berlin": "Europe/Berlin", "": "", "Local": "", "Nowhere Standard Time": "", "../x": ""} {
		got := ""
		if z := Find(name); z != nil {
			got = z.String()
		}
		if got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

func TestClocksOfBerlinAreSetBackInOctober(t *testing.T) {
	z := Find("W. Europe Standard Time")
	before, after := time.Date(2026, 10, 25, 0, 59, 59, 0, time.UTC).In(z), time.Date(2026, 10, 25, 1, 0, 0, 0, time.UTC).In(z)
	if before.Format("15:04Z07:00") != "02:59+02:00" || after.Format("15:04Z07:00") != "02:00+01:00" {
		t.Errorf("%s %s", before, after)
	}
}
