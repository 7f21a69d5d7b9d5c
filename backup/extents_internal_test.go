package backup

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestExtentListsThatMakeNoSenseAreRefused(t *testing.T) {
	for _, text := range []string{
		``, `{}`, `[`, `[{}]`, `[{"start":1}]`, `[{"length":1}]`, `[{"start":-1,"length":1}]`, `[{"start":1,"length":-1}]`,
		`[{"start":1.5,"length":1}]`, `[{"start":"1","length":1}]`, `[{"start":1,"length":1,"size":3}]`, `[{"start":9223372036854775807,"length":1}]`,
		`[{"start":1,"length":99999999999999999999}]`, `[] []`, `[]x`, `[{"start":1,"length":1}`,
	} {
		if got, err := parseExtents(strings.NewReader(text)); !errors.Is(err, ErrExtents) {
			t.Errorf("%s: %v %v", text, got, err)
		}
	}
	for text, want := range map[string]int{`[]`: 0, ` [ {"length":0,"start":0} ] `: 1, `[{"start":9223372036854775807,"length":0},{"start":0,"length":9223372036854775807}]`: 2} {
		if got, err := parseExtents(strings.NewReader(text)); err != nil || len(got) != want {
			t.Errorf("%s: %v %v", text, got, err)
		}
	}
	if _, err := ReadExtents(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// TestNullIsNoListOfChangedExtents: an empty file of a broken tool must not be
// read as "nothing changed".
func TestNullIsNoListOfChangedExtents(t *testing.T) {
	if got, err := parseExtents(strings.NewReader("null")); !errors.Is(err, ErrExtents) {
		t.Errorf("null was read as %v, %v", got, err)
	}
}

func FuzzExtents(f *testing.F) {
	for _, seed := range []string{`[]`, `null`, `[{"start":0,"length":512}]`, `[{"start":5,"length":9223372036854775807}]`, `[{"start":1e3,"length":0}]`, `[{"Start":1,"length":2},{"start":1,"start":2,"length":3}]`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		extents, err := parseExtents(strings.NewReader(string(text)))
		if err != nil {
			if !errors.Is(err, ErrExtents) {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		for _, e := range extents {
			if e.Start < 0 || e.Length < 0 || e.Length > math.MaxInt64-e.Start {
				t.Fatalf("extent %+v was let through", e)
			}
		}
	})
}
