package replay

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/plan/paths"
	"holdfast/sqlguest/replay/ask"
)

var errUndoFile = errors.New("no path is known to be free for the undo file")

// spare is the text that ends a restore, with another undo file if its own is there:
// what a database in STANDBY had of last time went with its first log, so that this is
// somebody else's, which SQL Server would overwrite. SQL Server does not tell what a
// database's undo file is called.
func (e *execution) spare(ctx context.Context, text string) (string, error) {
	if e.plan.End != plan.Standby {
		return text, nil
	}
	path := e.wish.UndoFile
	for n := range mostTries {
		p, known, err := ask.Path(ctx, e.run.Server, path)
		switch {
		case err != nil:
			return "", err
		case known && !p.Exists && !p.IsDirectory:
			if n > 0 {
				e.result.Warnings = append(e.result.Warnings, fmt.Sprintf("the undo file is %s, for %s is there still, and may be another database's", path, e.wish.UndoFile))
			}
			return strings.Replace(text, facts.Literal(e.wish.UndoFile), facts.Literal(path), 1), nil
		}
		path = paths.Standby(e.data, fmt.Sprintf("%s_%d", e.plan.Database, n+1))
	}
	return "", fmt.Errorf("end the restore of %s: %w", e.plan.Database, errUndoFile)
}
