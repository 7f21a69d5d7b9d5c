package facts

import (
	"context"
	"fmt"
	"slices"

	"holdfast/sqlguest/server"
)

// namedText asks the server itself: whether names that differ in case, accents, width or
// blanks at their ends are one is its collation's to say, and of each server another.
const namedText = `SET NOCOUNT ON; SELECT CONVERT(int,DB_ID(@db)) AS id`

// Named finds the database that the server takes a name for, as a place in its list; -1
// if there is none.
func Named(ctx context.Context, s server.Server, list []Database, name string) (int, error) {
	rows, err := s.Query(ctx, namedText, server.Arg{Name: "db", Value: name})
	if err != nil {
		return -1, fmt.Errorf("ask for database %s: %w", name, err)
	}
	t, id := newTable(rows), 0
	if err := t.each(func() { id = int(t.number("id")) }); err != nil {
		return -1, fmt.Errorf("ask for database %s: %w", name, err)
	}
	// One that was made since the list was asked for is in no list.
	return slices.IndexFunc(list, func(d Database) bool { return id != 0 && d.ID == id }), nil
}
