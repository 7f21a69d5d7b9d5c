package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"holdfast/backup"
	"holdfast/cmd/verdict"
	"holdfast/repo/backend"
	"holdfast/repo/ledger"
	"holdfast/repo/seal"
	"holdfast/sqlguest/agent"
	"holdfast/sqlguest/direct"
)

type hinted struct{ error }

func (hinted) Hint() string { return "look behind you" }

func (h hinted) Unwrap() error { return h.error }

func TestExitCodePrecedence(t *testing.T) {
	plain := errors.New("something")
	for _, c := range []struct {
		name string
		err  error
		code exitCode
	}{
		{"nil is 0", nil, 0},
		{"unknown error is 1", plain, 1},
		{"usage is 1", usagef("", "no"), 1},
		{"sentinel", backend.ErrUnreachable, 14},
		{"wrapped sentinel", fmt.Errorf("open: %w", fmt.Errorf("get: %w", backend.ErrUnreachable)), 14},
		{"sentinel with its cause", fmt.Errorf("%w: %w", backend.ErrUnreachable, io.ErrUnexpectedEOF), 14},
		{"wrong key", fmt.Errorf("open: %w", seal.ErrWrongKey), 12},
		{"incomplete is 3", verdict.Incomplete("db offline"), 3},
		{"error beats incomplete", errors.Join(verdict.Incomplete("x"), plain), 1},
		{"error beats incomplete, other order", errors.Join(plain, verdict.Incomplete("x")), 1},
		{"known error beats plain", errors.Join(plain, backend.ErrUnreachable), 14},
		{"interruption beats errors", errors.Join(backend.ErrUnreachable, plain, errInterrupted), 130},
		{"interruption beats incomplete", errors.Join(verdict.Incomplete("x"), errInterrupted), 130},
		{"interruption keeps its code with a cause", interruption(&cobra.Command{}, fmt.Errorf("remove snapshot: %w", backend.ErrUnreachable)), 130},
		{"cancelled within, not by a signal", context.Canceled, 1},
		{"more points than a ledger entry names", fmt.Errorf("prune: %w", (&ledger.Entry{Points: make(ledger.Pile, 800_000)}).CheckSize()), 16},
	} {
		if code, _ := classify(c.err); code != c.code {
			t.Errorf("%s: code %d, want %d", c.name, code, c.code)
		}
	}
}

func TestHintOfErrorBeatsHintOfTable(t *testing.T) {
	if _, hint := classify(backend.ErrNoSpace); !strings.Contains(hint, "free space") {
		t.Errorf("hint of the table: %q", hint)
	}
	code, hint := classify(fmt.Errorf("put: %w", hinted{backend.ErrNoSpace}))
	if code != 1 || hint != "look behind you" {
		t.Errorf("got %d %q", code, hint)
	}
}

// A row of code 3 stands somewhere in the table; its place there must not lift
// it over an error.
func TestRowsOfCode3DoNotHideErrors(t *testing.T) {
	for _, row := range exitTable {
		if row.Code != exitIncomplete {
			continue
		}
		if code, _ := classify(fmt.Errorf("check: %w", row.Is)); code != exitIncomplete {
			t.Errorf("%v alone: code %d", row.Is, code)
		}
		if code, _ := classify(errors.Join(row.Is, errors.New("something"))); code != exitFailed {
			t.Errorf("%v hides an error: code %d", row.Is, code)
		}
	}
}

func TestIncompleteWithoutReasonIsNoError(t *testing.T) {
	if err := verdict.Incomplete(); err != nil {
		t.Errorf("got %v", err)
	}
}

func TestEachExitCodeHasAMeaningAndEachRowACode(t *testing.T) {
	seen := map[error]bool{}
	for _, row := range exitTable {
		if verdict.Meanings[row.Code] == "" || row.Is == nil || seen[row.Is] {
			t.Errorf("row %v: code %d without meaning, no error, or a second row", row.Is, row.Code)
		}
		if row.Hint == "" || strings.HasSuffix(row.Hint, ".") {
			t.Errorf("row %v: the hint is empty or ends with a full stop: %q", row.Is, row.Hint)
		}
		seen[row.Is] = true
	}
}

// TestToldFailuresDecideAndAreNotRepeated: what was shown when it happened still
// gives the run its code and hint.
func TestToldFailuresDecideAndAreNotRepeated(t *testing.T) {
	err := verdict.Told("none of 2 could be copied", errors.New("first"), fmt.Errorf("second: %w", backend.ErrUnreachable))
	code, hint := classify(err)
	if code != exitUnreachable || hint == "" || err.Error() != "none of 2 could be copied" {
		t.Errorf("%v: code %d, hint %q", err, code, hint)
	}
	if verdict.Told("nothing") != nil {
		t.Error("no failure, and still an error")
	}
}

// TestKeptLogFilesAreNotTakenForLeftovers: the hint of what else is left on a source
// would have the only copy of a log cleaned away.
func TestKeptLogFilesAreNotTakenForLeftovers(t *testing.T) {
	code, hint := classify(fmt.Errorf("%w: abort: %w", backup.ErrRelease, &direct.Kept{Files: []string{"log.bak"}}))
	if code != exitFailed || !strings.HasPrefix(hint, "keep these files") {
		t.Errorf("got %d %q", code, hint)
	}
}

// TestKilledAgentsLogIsNamedBySQLsWords: its hint is that of the file, and snapshots are no
// matter of databases.
func TestKilledAgentsLogIsNamedBySQLsWords(t *testing.T) {
	cut := fmt.Errorf("%w: %w", backup.ErrMute, agent.ErrCut)
	code, hint := classify(errors.Join(cut, fmt.Errorf("%w: abort: %w", backup.ErrRelease, &direct.Kept{Files: []string{"log.bak"}, Unknown: true})))
	if code != exitFailed || !strings.HasPrefix(hint, "keep these files") {
		t.Errorf("got %d %q", code, hint)
	}
	if code, hint = classify(cut); code != exitFailed || strings.Contains(hint, "snapshot") || !strings.Contains(hint, "truncated nothing") {
		t.Errorf("got %d %q", code, hint)
	}
}

// TestInterruptionsHintFitsTheCommand: only a backup or a copy stores what the next run
// need not send again.
func TestInterruptionsHintFitsTheCommand(t *testing.T) {
	group := &cobra.Command{Use: "backup"}
	vm := &cobra.Command{Use: "vm"}
	group.AddCommand(vm)
	for _, c := range []struct {
		command *cobra.Command
		err     error
		want    string
	}{
		{vm, nil, "not sent twice"},
		{&cobra.Command{Use: "copy"}, backend.ErrUnreachable, "not sent twice"},
		{vm, verdict.Advise(backend.ErrUnreachable, "its own"), "its own"},
		{&cobra.Command{Use: "prune"}, nil, "run it again when you like"},
	} {
		code, hint := classify(interruption(c.command, c.err))
		if code != exitInterrupted || !strings.Contains(hint, c.want) || strings.Contains(hint, "sent twice") != strings.Contains(c.want, "sent twice") {
			t.Errorf("%s, %v: %d %q", c.command.Name(), c.err, code, hint)
		}
	}
}
