// Package ast is what Transact-SQL says: statements, queries and expressions as values.
// Package tsql reads them, package eval runs them.
package ast

import "holdfast/sqlguest/lab/value"

// Expr is an expression.
type Expr interface{ expr() }

// The expressions.
type (
	// Literal is a constant.
	Literal struct {
		Value any
		Type  value.Type
	}
	// Variable is @name; Global is @@name, both with their signs.
	Variable struct{ Name string }
	// ColumnRef is a column, with table, schema and database before it or not.
	ColumnRef struct{ Parts []string }
	// Unary is -x, +x, ~x or NOT x.
	Unary struct {
		Op string
		X  Expr
	}
	// Binary is x op y: + - * / % & | ^ = <> < > <= >= AND OR.
	Binary struct {
		Op   string
		L, R Expr
	}
	// IsNull is x IS [NOT] NULL.
	IsNull struct {
		X   Expr
		Not bool
	}
	// In is x [NOT] IN (list) or (query).
	In struct {
		X     Expr
		List  []Expr
		Query *Query
		Not   bool
	}
	// Between is x [NOT] BETWEEN low AND high.
	Between struct {
		X, Low, High Expr
		Not          bool
	}
	// Like is x [NOT] LIKE pattern [ESCAPE e].
	Like struct {
		X, Pattern, Escape Expr
		Not                bool
	}
	// Exists is EXISTS (query).
	Exists struct{ Query *Query }
	// Case is CASE [operand] WHEN … THEN … ELSE … END.
	Case struct {
		Operand Expr
		Whens   []When
		Else    Expr
	}
	// Cast is CAST, CONVERT and their TRY_ forms.
	Cast struct {
		X     Expr
		Type  value.Type
		Style Expr
		Try   bool
	}
	// Call is a function of arguments; Star is COUNT(*).
	Call struct {
		Name     []string
		Args     []Expr
		Star     bool
		Distinct bool
	}
	// Scalar is a query in parentheses that yields one value.
	Scalar struct{ Query *Query }
)

// When is a branch of CASE.
type When struct{ If, Then Expr }

func (*Literal) expr()   {}
func (*Variable) expr()  {}
func (*ColumnRef) expr() {}
func (*Unary) expr()     {}
func (*Binary) expr()    {}
func (*IsNull) expr()    {}
func (*In) expr()        {}
func (*Between) expr()   {}
func (*Like) expr()      {}
func (*Exists) expr()    {}
func (*Case) expr()      {}
func (*Cast) expr()      {}
func (*Call) expr()      {}
func (*Scalar) expr()    {}

// Query is SELECTs joined by UNION, ordered.
type Query struct {
	With    []CTE
	Selects []*Select
	// All[i] tells whether UNION ALL, not UNION, stands before Selects[i+1].
	All     []bool
	OrderBy []Order
}

// CTE is a common table expression: WITH name AS (query).
type CTE struct {
	Name    string
	Columns []string
	Query   *Query
}

// Select is one SELECT.
type Select struct {
	Distinct bool
	Top      Expr
	Percent  bool
	Items    []Item
	Into     []string
	From     []TableRef
	Where    Expr
	GroupBy  []Expr
	Having   Expr
}

// Item is one entry of a select list: an expression with an alias, * with or without
// a table, or an assignment to a variable.
type Item struct {
	Expr   Expr
	Alias  string
	Star   bool
	Table  []string // before .*
	Assign string   // @v =
}

// Order is an entry of ORDER BY.
type Order struct {
	Expr Expr
	Desc bool
}

// TableRef is an entry of FROM.
type TableRef interface{ tableRef() }

// The entries of FROM.
type (
	// Named is a table, a view or, with Args, a table function.
	Named struct {
		Parts    []string
		Alias    string
		Args     []Expr
		Function bool
	}
	// Derived is a query in parentheses, or VALUES as one.
	Derived struct {
		Query   *Query
		Rows    [][]Expr
		Alias   string
		Columns []string
	}
	// Join joins two entries: INNER, LEFT, RIGHT, FULL, CROSS, CROSS APPLY, OUTER APPLY.
	Join struct {
		Kind string
		L, R TableRef
		On   Expr
	}
)

func (*Named) tableRef()   {}
func (*Derived) tableRef() {}
func (*Join) tableRef()    {}

// Statement is a statement. Line is where it begins, from 1.
type Statement interface{ statement() }

// Located is what every statement carries.
type Located struct{ Line int32 }

// At is the line where the statement begins, from 1.
func (l Located) At() int32 { return l.Line }

func (Located) statement() {}

// The statements that the evaluator runs itself.
type (
	// SelectStatement is a query whose rows go to the client, to variables or INTO a table.
	SelectStatement struct {
		Located
		Query *Query
	}
	// Insert is INSERT … VALUES, SELECT or EXEC.
	Insert struct {
		Located
		Table   []string
		Columns []string
		Rows    [][]Expr // nil elements stand for DEFAULT
		Query   *Query
		Exec    *Exec
	}
	// Assignment is column = value of an UPDATE.
	Assignment struct {
		Column string
		Value  Expr
	}
	// Update is UPDATE … SET … FROM … WHERE.
	Update struct {
		Located
		Table []string
		Top   Expr
		Set   []Assignment
		From  []TableRef
		Where Expr
	}
	// Delete is DELETE … FROM … WHERE.
	Delete struct {
		Located
		Table []string
		Top   Expr
		From  []TableRef
		Where Expr
	}
	// Declaration is one variable of DECLARE or of sp_executesql.
	Declaration struct {
		Name  string
		Type  value.Type
		Value Expr
		Table []ColumnDefinition // of a table variable
	}
	// Declare is DECLARE.
	Declare struct {
		Located
		Variables []Declaration
	}
	// SetVariable is SET @v = value.
	SetVariable struct {
		Located
		Name  string
		Op    string // "", or the operator of += and its like
		Value Expr
	}
	// If is IF … ELSE.
	If struct {
		Located
		Condition  Expr
		Then, Else Statement
	}
	// While is WHILE.
	While struct {
		Located
		Condition Expr
		Body      Statement
	}
	// Block is BEGIN … END.
	Block struct {
		Located
		Body []Statement
	}
	// Try is BEGIN TRY … BEGIN CATCH.
	Try struct {
		Located
		Body, Catch []Statement
	}
	// Break is BREAK.
	Break struct{ Located }
	// Continue is CONTINUE.
	Continue struct{ Located }
	// Return is RETURN.
	Return struct {
		Located
		Value Expr
	}
	// Print is PRINT.
	Print struct {
		Located
		Value Expr
	}
	// RaisError is RAISERROR.
	RaisError struct {
		Located
		Message, Severity, State Expr
		Args                     []Expr
		NoWait                   bool
	}
	// Throw is THROW; without a number it throws on.
	Throw struct {
		Located
		Number, Message, State Expr
	}
	// WaitFor is WAITFOR DELAY.
	WaitFor struct {
		Located
		Delay Expr
		Until bool // WAITFOR TIME
	}
	// Exec runs a procedure, or a text: EXEC ('…').
	Exec struct {
		Located
		Result string // @v = before the name
		Name   []string
		Text   Expr
		Args   []Argument
	}
	// Argument is one of a procedure's.
	Argument struct {
		Name   string // with its @, or ""
		Value  Expr
		Output bool
	}
)

// The statements that the server runs.
type (
	// SetOption is SET of anything that is no variable, its words in upper case.
	SetOption struct {
		Located
		Words []string
	}
	// Use is USE.
	Use struct {
		Located
		Database string
	}
	// Transaction is BEGIN, COMMIT, ROLLBACK or SAVE.
	Transaction struct {
		Located
		Kind        string
		Name        Expr
		Mark        bool
		Description Expr
	}
	// ColumnDefinition is a column of CREATE TABLE.
	ColumnDefinition struct {
		Name       string
		Type       value.Type
		NotNull    bool
		PrimaryKey bool
		Unique     bool
		Identity   bool
		Seed, Step int64
		Default    Expr
	}
	// CreateTable is CREATE TABLE.
	CreateTable struct {
		Located
		Name    []string
		Columns []ColumnDefinition
		Key     []string // a PRIMARY KEY (…) of its own
	}
	// DropTable is DROP TABLE, and TRUNCATE TABLE.
	DropTable struct {
		Located
		Names    [][]string
		IfExists bool
		Truncate bool // TRUNCATE TABLE: the rows alone
	}
	// FileSpec is (NAME = …, FILENAME = …, SIZE = …, …).
	FileSpec struct {
		Options []Option
		Log     bool
	}
	// CreateDatabase is CREATE DATABASE.
	CreateDatabase struct {
		Located
		Name   string
		Files  []FileSpec
		Attach bool // FOR ATTACH
	}
	// DropDatabase is DROP DATABASE.
	DropDatabase struct {
		Located
		Names    []string
		IfExists bool
	}
	// AlterDatabase: Action is SET, ADD FILE, ADD LOG FILE, REMOVE FILE, MODIFY FILE or
	// MODIFY NAME; Words are SET's, in upper case; Rollback is WITH ROLLBACK
	// IMMEDIATE or NO_WAIT.
	AlterDatabase struct {
		Located
		Name     string // "" is CURRENT
		Action   string
		Words    []string
		Rollback bool
		NoWait   bool
		Files    []FileSpec
		Target   string
	}
	// DBCC is a DBCC command.
	DBCC struct {
		Located
		Command string
		Args    []Expr // bare words are literals
		Options []string
	}
	// Checkpoint is CHECKPOINT.
	Checkpoint struct{ Located }
	// Kill is KILL.
	Kill struct {
		Located
		Session Expr
	}
	// Device is a backup device; Kind is DISK, VIRTUAL_DEVICE, URL, TAPE, or ""
	// for a logical name.
	Device struct {
		Kind string
		Name Expr
	}
	// Option is NAME, NAME = value, MOVE 'a' TO 'b', or STOPATMARK = 'm' AFTER 't'.
	Option struct {
		Name  string
		Value Expr
		To    Expr
	}
	// Backup is BACKUP DATABASE or BACKUP LOG.
	Backup struct {
		Located
		Log      bool
		Database Expr
		Parts    []string // FILE, FILEGROUP or READ_WRITE_FILEGROUPS
		Devices  []Device
		Options  []Option
	}
	// Restore: What is DATABASE, LOG, HEADERONLY, FILELISTONLY, VERIFYONLY or LABELONLY.
	Restore struct {
		Located
		What     string
		Database Expr
		Devices  []Device
		Options  []Option
	}
)

// Find gives the option of that name, nil without.
func Find(options []Option, name string) *Option {
	for i := range options {
		if options[i].Name == name {
			return &options[i]
		}
	}
	return nil
}
