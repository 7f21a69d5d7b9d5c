// Package frame is what a command in a folder of its own gets of the program around
// it: the repository, the logins, the terminal, the settings, and the words in which
// exit codes are told. The program implements App; a command is made by a function
// newXCommand(a App) that declares it, an options struct that its flags fill, and a
// function that does it.
package frame

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/cmd/batch"
	"holdfast/cmd/place"
	"holdfast/cmd/runlock"
	"holdfast/cmd/secret"
	"holdfast/cmd/ui"
	"holdfast/cmd/usage"
	"holdfast/cmd/verdict"
	"holdfast/repo"
	"holdfast/vmware"
)

// App is the program, from inside a command that runs.
type App interface {
	// UI is the terminal; ask for it anew in each run.
	UI() *ui.Terminal
	Log() *slog.Logger
	// Setting is a setting's value by its dotted name, "" if it has none.
	Setting(name string) string
	Secret(ctx context.Context, kind secret.Kind) ([]byte, error)
	Now() time.Time

	// Repository runs fn with the open repository that the settings name; Writer is
	// for commands that write to it.
	Repository(ctx context.Context, fn func(r *repo.Repository) error) error
	Writer(ctx context.Context, fn func(r *repo.Repository) error) error
	// Place runs fn with the store of that repository, unopened.
	Place(ctx context.Context, fn func(p *place.Place) error) error
	// Explain is what an error means to the operator: an exit code and what helps.
	Explain(err error) (verdict.Code, string)
	// Find resolves the POINT that an operator typed.
	Find(ctx context.Context, r *repo.Repository, spec string) (repo.Entry, error)
	// Batch begins a backup of one or several sources. The caller ends its progress
	// with Done.
	Batch(r *repo.Repository) *batch.Run
	// Warnings are what a summary says about damage that was healed on the way, and
	// about points that are gone.
	Warnings() []string
	// Vanished tells the operator, once, that a point is gone that was there, and makes
	// the run incomplete. source is what it was of, "" if that is not known.
	Vanished(point, source string)

	// VCenter runs fn with a session at the vCenter that the settings name.
	VCenter(ctx context.Context, fn func(s *vmware.Session) error) error
	// Lock begins a run against a vCenter with a lock of its own.
	Lock(repository string) (*runlock.Lock, error)
}

// RepositoryCodes are the exit codes of every command that opens a repository.
func RepositoryCodes() []verdict.Code {
	return []verdict.Code{verdict.NoRepository, verdict.WrongKey, verdict.Damaged, verdict.Unreachable}
}

// WriterCodes are those of every command that writes to it: some places allow one
// writer at a time.
func WriterCodes() []verdict.Code { return append(RepositoryCodes(), verdict.Busy) }

// Documented declares the codes that a command may end with besides 0, 1, 2 and 130,
// which every command may. Each runnable command calls it once.
func Documented(c *cobra.Command, codes ...verdict.Code) *cobra.Command {
	codes = append(slices.Clone(codes), verdict.Done, verdict.Failed, verdict.Crashed, verdict.Interrupted)
	slices.Sort(codes)
	var b strings.Builder
	for _, code := range slices.Compact(codes) {
		fmt.Fprintf(&b, "  %3d  %s\n", code, verdict.Meanings[code])
	}
	usage.SetExitStatus(c, b.String())
	return c
}
