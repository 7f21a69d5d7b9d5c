package batch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"holdfast/backup"
	"holdfast/cmd/ui"
	"holdfast/cmd/verdict"
	"holdfast/repo/image"
)

// TestTotalOfARunCountsDisksThatHaveNotBegun: of two images that stand still and
// one that is read with it, one has begun.
func TestTotalOfARunCountsDisksThatHaveNotBegun(t *testing.T) {
	open := func(context.Context) (backup.RandomAccess, error) { return nil, io.ErrUnexpectedEOF }
	for _, c := range []struct {
		name string
		more backup.ImageSource
		want int64 // -1: not known
	}{
		{"whole", backup.ImageSource{Bytes: 500, Open: open}, 1500},
		{"holes are not read", backup.ImageSource{Bytes: 500, Open: open, Allocated: []image.Extent{{Start: 0, Length: 10}, {Start: 100, Length: 20}}}, 1030},
		{"nothing but holes", backup.ImageSource{Bytes: 500, Open: open, Allocated: []image.Extent{}}, 1000},
		{"a stream", backup.ImageSource{Bytes: -1, OpenStream: func(context.Context) (io.ReadCloser, error) { return nil, io.ErrUnexpectedEOF }}, -1},
	} {
		var out bytes.Buffer
		p := ui.New(ui.Options{Out: &out, JSON: true}).Progress()
		c.more.Label = "more"
		for _, src := range []*backup.ImageSource{{Label: "a", Bytes: 1000, Open: open}, &c.more} {
			if _, err := (expecting{src, p}).Freeze(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		}
		p.Begin("a", 1000)
		p.Done()
		first, _, _ := strings.Cut(out.String(), "\n")
		status := struct {
			Total *int64 `json:"bytes_total"`
		}{}
		if err := json.Unmarshal([]byte(first), &status); err != nil {
			t.Fatalf("%s: %v in %q", c.name, err, out.String())
		}
		if got := status.Total; got == nil && c.want >= 0 || got != nil && *got != c.want {
			t.Errorf("%s: want %d in %s", c.name, c.want, first)
		}
	}
}

// TestWhatHelpsAgainstWhatIsMissingIsTheHint: the first thing that is told, with the code
// of a run that is done, but not whole; without anything missing there is none.
func TestWhatHelpsAgainstWhatIsMissingIsTheHint(t *testing.T) {
	for missing, want := range map[bool]string{true: "first", false: ""} {
		b := &Run{UI: ui.New(ui.Options{}), Log: slog.New(slog.DiscardHandler)}
		b.Skip("sql/SQL01/sales", "S-restoring", "it is RESTORING", missing)
		b.Help("first")
		b.Help("second")
		code, hint := verdict.Table{}.Classify(b.End())
		if (code == verdict.Short) != missing || hint != want {
			t.Errorf("missing %v: code %d, hint %q", missing, code, hint)
		}
	}
}

// TestInterruptedRunSaysNoInternalWords: what fails because the run was interrupted says
// nothing beside that; what had failed before, and what is left somewhere, is said.
func TestInterruptedRunSaysNoInternalWords(t *testing.T) {
	run := func(errs ...error) string {
		b := &Run{UI: ui.New(ui.Options{}), Log: slog.New(slog.DiscardHandler)}
		for _, err := range errs {
			b.Fail("sql/SQL01/sales", err)
		}
		if err := b.Cut(func(err error) bool { return errors.Is(err, backup.ErrRelease) }); err != nil {
			return err.Error()
		}
		return ""
	}
	cut := fmt.Errorf("write sessions/00000033: put new object: %w", context.Canceled)
	if got := run(cut, cut); got != "" {
		t.Errorf("said %q", got)
	}
	if got := run(cut, io.ErrUnexpectedEOF); got != "sql/SQL01/sales: unexpected EOF" {
		t.Errorf("said %q", got)
	}
	if got := run(fmt.Errorf("%w: %w", backup.ErrRelease, cut)); !strings.Contains(got, backup.ErrRelease.Error()) {
		t.Errorf("said %q", got)
	}
}
