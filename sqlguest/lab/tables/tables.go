// Package tables is users' tables as the evaluator sees them: what the storage keeps as
// rows gets its keys, identities and defaults here.
package tables

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"holdfast/sqlguest/lab/storage"
	"holdfast/sqlguest/lab/tsql/ast"
	"holdfast/sqlguest/lab/tsql/plan"
	"holdfast/sqlguest/lab/value"
	"holdfast/sqlguest/server"
)

// Session is whose eyes a table is seen with.
type Session interface {
	// Open is the session's transaction in a database, nil without one.
	Open(database string) *storage.Tx
	// Writing begins one if there is none.
	Writing(ctx context.Context, database string) (*storage.Tx, error)
	// Uncommitted tells of READ UNCOMMITTED.
	Uncommitted() bool
	// Default evaluates a column's default.
	Default(ctx context.Context, text string, t value.Type) (any, error)
}

// note is what the evaluator keeps with a table: what the storage has no use for.
type note struct {
	// Keys are the columns, by number, of each primary or unique key.
	Keys [][]int `json:"keys,omitempty"`
	// Seed and Step are of an IDENTITY column.
	Seed int64 `json:"seed,omitempty"`
	Step int64 `json:"step,omitempty"`
	// Defaults are expressions by column number.
	Defaults map[int]string `json:"defaults,omitempty"`
}

// table is a user's table as one session sees it.
type table struct {
	s        Session
	db       *storage.Database
	database string
	t        storage.Table
	note     note
}

// Find finds a table of a database; 208, or the storage's own error.
func Find(s Session, db *storage.Database, database, name string) (plan.Table, error) {
	t, err := db.Table(name)
	if err != nil {
		return nil, err
	}
	r := &table{s: s, db: db, database: database, t: t}
	if t.Note != "" {
		if err := json.Unmarshal([]byte(t.Note), &r.note); err != nil {
			return nil, fmt.Errorf("read description of table %s: %w", t.Name, err)
		}
	}
	return r, nil
}

// Columns are the table's.
func (r *table) Columns() []value.Column { return r.t.Columns }

// Rows are those that are committed, and the session's own; they wait for a writer unless
// the session reads uncommitted rows.
func (r *table) Rows(ctx context.Context, _ []any) ([]plan.Row, error) {
	var rows []storage.Row
	var err error
	switch tx := r.s.Open(r.database); {
	case tx != nil:
		rows, err = tx.Scan(r.t.Name)
	case r.s.Uncommitted():
		rows, err = r.db.ScanUncommitted(r.t.Name)
	default:
		rows, err = r.db.Scan(ctx, r.t.Name)
	}
	out := make([]plan.Row, len(rows))
	for i, row := range rows {
		out[i] = plan.Row{ID: row.ID, Values: row.Values}
	}
	return out, Failure(err)
}

// Insert fills in identities and defaults, and refuses what a key or NOT NULL forbids. All
// rows come in, or none.
func (r *table) Insert(ctx context.Context, rows [][]any) error {
	return r.change(ctx, func(tx *storage.Tx) error {
		keys, next, err := r.known(tx)
		if err != nil {
			return err
		}
		for _, row := range rows {
			if err := r.complete(ctx, row, &next); err != nil {
				return err
			}
			if err := keys.add(r, row); err != nil {
				return err
			}
		}
		for _, row := range rows {
			if _, err := tx.Insert(r.t.Name, row); err != nil {
				return err
			}
		}
		return nil
	})
}

// change runs fn in the transaction around.
func (r *table) change(ctx context.Context, fn func(tx *storage.Tx) error) error {
	tx, err := r.s.Writing(ctx, r.database)
	if err != nil {
		return err
	}
	return Failure(fn(tx))
}

// keySet are the keys' values that are taken.
type keySet []map[string]bool

// known reads what the table holds: keys taken and the next identity.
func (r *table) known(tx *storage.Tx) (keySet, int64, error) {
	keys := make(keySet, len(r.note.Keys))
	for i := range keys {
		keys[i] = map[string]bool{}
	}
	next := r.note.Seed
	identity := slices.IndexFunc(r.t.Columns, func(c value.Column) bool { return c.Identity })
	if len(keys) == 0 && identity < 0 {
		return keys, next, nil
	}
	rows, err := tx.Scan(r.t.Name)
	for _, row := range rows {
		for i, columns := range r.note.Keys {
			keys[i][keyOf(row.Values, columns)] = true
		}
		if identity < 0 {
			continue
		}
		if n, ok := row.Values[identity].(int64); ok && (n-next)*sign(r.note.Step) >= 0 {
			next = n + r.note.Step
		}
	}
	return keys, next, err
}

func sign(n int64) int64 {
	if n < 0 {
		return -1
	}
	return 1
}

func keyOf(row []any, columns []int) string {
	var values []any
	for _, c := range columns {
		values = append(values, row[c])
	}
	return value.Key(values)
}

// add takes a row's keys: 2627 if one is taken.
func (k keySet) add(r *table, row []any) error {
	for i, columns := range r.note.Keys {
		key := keyOf(row, columns)
		if k[i][key] {
			return value.Severe(2627, 14, "Violation of PRIMARY KEY constraint 'PK_%s'. Cannot insert duplicate key in object 'dbo.%s'.", r.t.Name, r.t.Name)
		}
		k[i][key] = true
	}
	return nil
}

// complete puts values where the statement gave none.
func (r *table) complete(ctx context.Context, row []any, next *int64) error {
	for i, c := range r.t.Columns {
		if _, ok := row[i].(plan.Default); !ok {
			continue
		}
		row[i] = nil
		switch text, ok := r.note.Defaults[i]; {
		case c.Identity:
			v, err := value.Convert(*next, value.Type{Kind: value.BigInt}, c.Type, 0)
			if err != nil {
				return err
			}
			row[i], *next = v, *next+r.note.Step
		case ok:
			v, err := r.s.Default(ctx, text, c.Type)
			if err != nil {
				return err
			}
			row[i] = v
		}
		if row[i] == nil && !c.Nullable {
			return value.Errorf(515, "Cannot insert the value NULL into column '%s', table '%s.dbo.%s'; column does not allow nulls. INSERT fails.", c.Name, r.database, r.t.Name)
		}
	}
	return nil
}

// Update changes a row; its keys must stay free of others'.
func (r *table) Update(ctx context.Context, id any, values []any) error {
	return r.change(ctx, func(tx *storage.Tx) error {
		if len(r.note.Keys) > 0 {
			if err := r.keysFree(tx, id, values); err != nil {
				return err
			}
		}
		_, err := tx.Update(r.t.Name, id.(storage.RowID), values)
		return err
	})
}

func (r *table) keysFree(tx *storage.Tx, id any, values []any) error {
	rows, err := tx.Scan(r.t.Name)
	if err != nil {
		return err
	}
	for _, row := range rows {
		for _, columns := range r.note.Keys {
			if row.ID != id && keyOf(row.Values, columns) == keyOf(values, columns) {
				return value.Severe(2627, 14, "Violation of PRIMARY KEY constraint 'PK_%s'. Cannot insert duplicate key in object 'dbo.%s'.", r.t.Name, r.t.Name)
			}
		}
	}
	return nil
}

// Delete removes a row.
func (r *table) Delete(ctx context.Context, id any) error {
	return r.change(ctx, func(tx *storage.Tx) error { return tx.Delete(r.t.Name, id.(storage.RowID)) })
}

// Create makes the table that CREATE TABLE describes.
func Create(tx *storage.Tx, name string, c *ast.CreateTable) error {
	columns, n, err := describe(c)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("write description of table %s: %w", name, err)
	}
	_, err = tx.CreateTable(name, columns, string(raw))
	return Failure(err)
}

// describe turns definitions into columns and what is kept beside them.
func describe(c *ast.CreateTable) ([]value.Column, note, error) {
	var columns []value.Column
	var n note
	for i, d := range c.Columns {
		columns = append(columns, value.Column{Name: d.Name, Type: d.Type, Nullable: !d.NotNull, Identity: d.Identity})
		if d.PrimaryKey || d.Unique {
			n.Keys = append(n.Keys, []int{i})
		}
		if d.Identity {
			n.Seed, n.Step = d.Seed, d.Step
		}
		if d.Default != nil {
			text, err := defaultText(d.Default)
			if err != nil {
				return nil, n, err
			}
			if n.Defaults == nil {
				n.Defaults = map[int]string{}
			}
			n.Defaults[i] = text
		}
	}
	if len(c.Key) > 0 {
		var key []int
		for _, name := range c.Key {
			at := slices.IndexFunc(columns, func(c value.Column) bool { return strings.EqualFold(c.Name, name) })
			if at < 0 {
				return nil, n, value.Errorf(1911, "Column name '%s' does not exist in the target table or view.", name)
			}
			columns[at].Nullable = false
			key = append(key, at)
		}
		n.Keys = append(n.Keys, key)
	}
	return columns, n, nil
}

// defaultText writes a default's expression down: a constant, or a function of nothing.
func defaultText(x ast.Expr) (string, error) {
	switch e := x.(type) {
	case *ast.Literal:
		v, err := value.Convert(e.Value, e.Type, value.Text(value.Max), 0)
		if s, ok := v.(string); ok && err == nil {
			return "N'" + strings.ReplaceAll(s, "'", "''") + "'", nil
		}
		return "NULL", err
	case *ast.Call:
		if len(e.Args) == 0 && len(e.Name) == 1 {
			return e.Name[0] + "()", nil
		}
	}
	return "", value.Errorf(40510, "Statement '%s' is not supported in this version of SQL Server.", "DEFAULT (expression)")
}

// Truncate removes a table's rows.
func Truncate(tx *storage.Tx, name string) error {
	rows, err := tx.Scan(name)
	for _, row := range rows {
		if err == nil {
			err = tx.Delete(name, row.ID)
		}
	}
	return err
}

// Failure turns the storage's errors into those that travel.
func Failure(err error) error {
	var e *server.Error
	if !errors.As(err, &e) {
		return err
	}
	out := &value.Error{}
	for _, m := range e.All {
		out.All = append(out.All, Message(m))
	}
	return out
}

// Message is a message of the storage's as it travels.
func Message(m server.Message) value.Message {
	return value.Message{Number: m.Number, State: m.State, Class: m.Severity, Text: m.Text}
}
