// Package plan turns queries and expressions into something that runs: it finds what
// names mean, settles types before the first row (so that error 207 comes from an empty
// table too), and joins, filters, groups and orders.
package plan

import (
	"context"
	"strings"
	"time"

	"holdfast/sqlguest/lab/tsql/ast"
	"holdfast/sqlguest/lab/tsql/expr"
	"holdfast/sqlguest/lab/value"
)

// Catalog is what names mean on a server.
type Catalog interface {
	// Relation finds a table, view or table function by its name of one to four
	// parts; 208 if there is none.
	Relation(name []string, function bool) (Relation, error)
	// Function finds a function of the server's; nil if there is none of that name.
	// constants are the arguments that are known beforehand, nil where not.
	Function(name []string, constants []any) *expr.Function
	// Global is @@name, in upper case; ok is false if there is none.
	Global(name string) (v any, t value.Type, ok bool)
	// Now is the server's local time with its offset.
	Now() time.Time
	// Random fills b: the source of NEWID.
	Random(b []byte)
}

// Row is a row of a relation; ID is the relation's own name for it.
type Row struct {
	ID     any
	Values []any
}

// Relation is something to select from.
type Relation interface {
	Columns() []value.Column
	// Rows are all rows; args are a table function's.
	Rows(ctx context.Context, args []any) ([]Row, error)
}

// Table is a relation that can be changed.
type Table interface {
	Relation
	// Insert adds rows of all columns, in their order. A value of type Default asks
	// for the column's default.
	Insert(ctx context.Context, rows [][]any) error
	Update(ctx context.Context, id any, values []any) error
	Delete(ctx context.Context, id any) error
}

// Default in a row to insert stands for the column's default.
type Default struct{}

// View is a relation of computed rows: what system views are made of.
type View struct {
	Header []value.Column
	Values func(ctx context.Context, args []any) ([][]any, error)
}

// Columns are the header.
func (r *View) Columns() []value.Column { return r.Header }

// Rows calls Values.
func (r *View) Rows(ctx context.Context, args []any) ([]Row, error) {
	values, err := r.Values(ctx, args)
	out := make([]Row, len(values))
	for i, v := range values {
		out[i] = Row{ID: i, Values: v}
	}
	return out, err
}

// Variable is a declared variable.
type Variable struct {
	Type  value.Type
	Value any
}

// State is what a session keeps from one batch to the next.
type State struct {
	RowCount int64 // @@ROWCOUNT
	Error    int32 // @@ERROR
	NoCount  bool  // SET NOCOUNT ON
}

// Binder settles names and types for one batch.
type Binder struct {
	Catalog Catalog
	State   *State
	// Variables and Tables are the batch's own, by name in lower case with its @.
	Variables map[string]*Variable
	Tables    map[string]Relation
	// Caught are the errors that CATCH blocks work on, the innermost last.
	Caught []*value.Error
}

// Find finds a table variable, or asks the catalog.
func (b *Binder) Find(name []string, function bool) (Relation, error) {
	if len(name) == 1 && strings.HasPrefix(name[0], "@") {
		if t := b.Tables[strings.ToLower(name[0])]; t != nil {
			return t, nil
		}
		return nil, value.Severe(1087, 15, "Must declare the table variable \"%s\".", name[0])
	}
	return b.Catalog.Relation(name, function)
}

// Expression compiles an expression outside of any query.
func (b *Binder) Expression(x ast.Expr) (expr.Node, error) {
	n, err := b.compile(x, &scope{})
	if err == nil && n.Type.Kind == value.Boolean {
		err = value.Severe(102, 15, "Incorrect syntax near a condition that stands where a value is expected.")
	}
	return n, err
}

// Condition compiles a predicate outside of any query.
func (b *Binder) Condition(x ast.Expr) (func(f *expr.Frame) (bool, error), error) {
	return b.condition(x, &scope{})
}

// Query compiles a query.
func (b *Binder) Query(q *ast.Query) (*Plan, error) { return b.compileQuery(q, nil) }

// Selection are the rows that an UPDATE or DELETE means.
type Selection struct {
	Table Table
	// Rows run; in each row the table's values stand from First on and its ID at ID.
	Rows      func(f *expr.Frame) ([][]any, error)
	First, ID int

	binder *Binder
	scope  *scope
}

// Expression compiles an expression over the selection's rows.
func (s *Selection) Expression(x ast.Expr) (expr.Node, error) { return s.binder.compile(x, s.scope) }

// Selection compiles the target, FROM and WHERE of an UPDATE or DELETE.
func (b *Binder) Selection(target []string, from []ast.TableRef, where ast.Expr) (*Selection, error) {
	if len(from) == 0 {
		from = []ast.TableRef{&ast.Named{Parts: target}}
	}
	name := target
	if alias := aliased(from, target); alias != nil {
		name = alias
	}
	t, err := b.Table(name)
	if err != nil {
		return nil, err
	}
	sel := &Selection{Table: t, ID: -1, binder: b, scope: &scope{}}
	rows, err := b.from(from, sel.scope, &marked{names: target})
	if err != nil {
		return nil, err
	}
	for _, src := range sel.scope.sources {
		if n := len(src.columns); n > 0 && src.columns[n-1].Name == idColumn {
			sel.First, sel.ID = src.base, src.base+n-1
		}
	}
	if sel.ID < 0 {
		return nil, value.Errorf(208, "Invalid object name '%s'.", strings.Join(target, "."))
	}
	sel.Rows, err = b.filter(rows, where, sel.scope)
	return sel, err
}

// Table finds a table that can be changed; 259 for the system's views.
func (b *Binder) Table(name []string) (Table, error) {
	rel, err := b.Find(name, false)
	if err != nil {
		return nil, err
	}
	t, ok := rel.(Table)
	if !ok {
		return nil, value.Errorf(259, "Ad hoc updates to system catalogs are not allowed.")
	}
	return t, nil
}

// aliased finds the table that an alias in FROM stands for.
func aliased(from []ast.TableRef, target []string) []string {
	for _, ref := range from {
		switch r := ref.(type) {
		case *ast.Named:
			if len(target) == 1 && strings.EqualFold(r.Alias, target[0]) {
				return r.Parts
			}
		case *ast.Join:
			if name := aliased([]ast.TableRef{r.L, r.R}, target); name != nil {
				return name
			}
		}
	}
	return nil
}
