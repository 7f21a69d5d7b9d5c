package eval

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast/sqlguest/lab/tsql"
	"holdfast/sqlguest/lab/tsql/ast"
	"holdfast/sqlguest/lab/tsql/expr"
	"holdfast/sqlguest/lab/value"
)

// signal is how a statement leaves its surroundings.
type signal uint8

const (
	goOn signal = iota
	breakLoop
	nextRound
	leave
)

// ErrBatch marks that a batch ends after its error has been sent.
var ErrBatch = errors.New("batch ended")

// stepLimit bounds the statements of one batch, so that a loop without end does.
const stepLimit = 10_000_000

// Run parses and runs a text; errors have been sent to the sink when it returns them.
// One that was stopped by its context says nothing: who stopped it knows.
func (b *Batch) Run(ctx context.Context, text string) error {
	statements, err := tsql.Parse(text)
	if err == nil {
		_, err = b.statements(ctx, statements)
	}
	if errors.Is(err, ErrBatch) || ctx.Err() != nil {
		return err
	}
	if err != nil {
		b.fail(err)
		return ErrBatch
	}
	return nil
}

// Result is what RETURN gave.
func (b *Batch) Result() int64 { return b.result }

// fail sends an error and remembers its number.
func (b *Batch) fail(err error) (ends bool) {
	e := asError(err)
	b.State.Error = e.All[len(e.All)-1].Number
	b.State.RowCount = 0
	b.Out.Failed(e)
	return b.Host.Failed(e)
}

// asError makes SQL Server's error of any.
func asError(err error) *value.Error {
	var e *value.Error
	if errors.As(err, &e) {
		return e
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return value.Severe(3204, 16, "The backup or restore was aborted.")
	}
	return value.Severe(50000, 16, "%v", err)
}

// ending are the errors that end the batch as they do in SQL Server: names and types
// that do not resolve, conversions. Others end their statement.
var ending = map[int32]bool{102: true, 156: true, 137: true, 207: true, 208: true, 209: true, 195: true, 241: true, 245: true,
	4104: true, 4121: true, 8120: true, 8169: true, 243: true, 3609: true, 4145: true}

// statements runs a list. Outside of TRY an error is sent and the next statement
// runs, unless it is one that ends the batch.
func (b *Batch) statements(ctx context.Context, list []ast.Statement) (signal, error) {
	for _, s := range list {
		if err := ctx.Err(); err != nil {
			return goOn, err
		}
		sig, err := b.statement(ctx, s)
		if err != nil {
			if errors.Is(err, ErrBatch) || ctx.Err() != nil {
				return goOn, err
			}
			err = located(err, s)
			if b.tries > 0 {
				return goOn, err
			}
			thrown := isThrow(s)
			if b.fail(err) || thrown || ending[asError(err).All[0].Number] {
				return goOn, ErrBatch
			}
			continue
		}
		if sig != goOn {
			return sig, nil
		}
	}
	return goOn, nil
}

func isThrow(s ast.Statement) bool {
	_, ok := s.(*ast.Throw)
	return ok
}

// located gives an error's messages their line, where they have none.
func located(err error, s ast.Statement) error {
	var e *value.Error
	at, ok := s.(interface{ At() int32 })
	if !ok || !errors.As(err, &e) {
		return err
	}
	all := append([]value.Message{}, e.All...)
	for i := range all {
		if all[i].Line == 0 {
			all[i].Line = at.At()
		}
	}
	return &value.Error{All: all}
}

// statement runs one. It clears @@ERROR first, as every statement does; IF reads what
// its condition asks before.
func (b *Batch) statement(ctx context.Context, s ast.Statement) (signal, error) {
	switch s.(type) {
	case *ast.If, *ast.While, *ast.Block, *ast.Try, *ast.Return:
		return b.control(ctx, s)
	}
	err := b.simple(ctx, s)
	if err == nil {
		if _, ok := s.(*ast.RaisError); !ok {
			b.State.Error = 0
		}
	}
	switch s.(type) {
	case *ast.Break:
		return breakLoop, err
	case *ast.Continue:
		return nextRound, err
	}
	return goOn, err
}

func (b *Batch) control(ctx context.Context, s ast.Statement) (signal, error) {
	switch s := s.(type) {
	case *ast.If:
		ok, err := b.holds(ctx, s.Condition)
		if err != nil {
			return goOn, err
		}
		if ok {
			return b.statements(ctx, []ast.Statement{s.Then})
		}
		if s.Else != nil {
			return b.statements(ctx, []ast.Statement{s.Else})
		}
	case *ast.While:
		return b.loop(ctx, s)
	case *ast.Block:
		return b.statements(ctx, s.Body)
	case *ast.Try:
		return b.try(ctx, s)
	case *ast.Return:
		n, err := b.Int(ctx, s.Value)
		b.result = n
		return leave, err
	}
	return goOn, nil
}

func (b *Batch) holds(ctx context.Context, x ast.Expr) (bool, error) {
	condition, err := b.Condition(x)
	if err != nil {
		return false, err
	}
	return condition(&expr.Frame{Ctx: ctx})
}

func (b *Batch) loop(ctx context.Context, s *ast.While) (signal, error) {
	for range stepLimit {
		ok, err := b.holds(ctx, s.Condition)
		if err != nil || !ok {
			return goOn, err
		}
		sig, err := b.statements(ctx, []ast.Statement{s.Body})
		if err != nil || sig == leave {
			return sig, err
		}
		if sig == breakLoop {
			return goOn, nil
		}
	}
	return goOn, value.Errorf(8623, "The query processor ran out of internal resources.")
}

// try runs BEGIN TRY; an error of severity above 10 goes to CATCH.
func (b *Batch) try(ctx context.Context, s *ast.Try) (signal, error) {
	b.tries++
	sig, err := b.statements(ctx, s.Body)
	b.tries--
	if err == nil {
		return sig, nil
	}
	if errors.Is(err, ErrBatch) || ctx.Err() != nil {
		return goOn, err
	}
	e := asError(err)
	b.State.Error = e.All[len(e.All)-1].Number
	b.Caught = append(b.Caught, e)
	defer func() { b.Caught = b.Caught[:len(b.Caught)-1] }()
	return b.statements(ctx, s.Catch)
}

// simple runs a statement without control flow.
func (b *Batch) simple(ctx context.Context, s ast.Statement) error {
	switch s := s.(type) {
	case *ast.SelectStatement:
		if s.Query.Selects[0].Into != nil {
			return b.Host.Atomic(func() error { return b.selectInto(ctx, s) })
		}
		return b.selectInto(ctx, s)
	case *ast.Insert:
		return b.Host.Atomic(func() error { return b.insert(ctx, s) })
	case *ast.Update:
		return b.Host.Atomic(func() error { return b.update(ctx, s) })
	case *ast.Delete:
		return b.Host.Atomic(func() error { return b.delete(ctx, s) })
	case *ast.Declare:
		return b.declare(ctx, s)
	case *ast.SetVariable:
		return b.set(ctx, s)
	case *ast.SetOption:
		if s.Words[0] == "NOCOUNT" && len(s.Words) > 1 {
			b.State.NoCount = s.Words[1] == "ON"
			return nil
		}
	case *ast.Print:
		text, err := b.Text(ctx, s.Value)
		if err == nil {
			b.Out.Message(value.Message{State: 1, Text: text, Line: s.Line})
		}
		return err
	case *ast.RaisError:
		return b.raise(ctx, s)
	case *ast.Throw:
		return b.throw(ctx, s)
	case *ast.WaitFor:
		return b.wait(ctx, s)
	case *ast.Exec:
		return b.exec(ctx, s)
	case *ast.Break, *ast.Continue:
		return nil
	}
	return b.Host.Execute(ctx, b, s)
}

func (b *Batch) declare(ctx context.Context, s *ast.Declare) error {
	for _, d := range s.Variables {
		if d.Table != nil {
			b.Tables[strings.ToLower(d.Name)] = newTableVariable(d.Table)
			continue
		}
		delete(b.Variables, strings.ToLower(d.Name)) // a declaration in a loop runs again
		if d.Value == nil {
			if err := b.Declare(d.Name, d.Type, nil, d.Type); err != nil {
				return err
			}
			continue
		}
		v, from, err := b.Evaluate(ctx, d.Value)
		if err == nil {
			err = b.Declare(d.Name, d.Type, v, from)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *Batch) set(ctx context.Context, s *ast.SetVariable) error {
	v := b.Variables[strings.ToLower(s.Name)]
	if v == nil {
		return value.Severe(137, 15, "Must declare the scalar variable \"%s\".", s.Name)
	}
	x := s.Value
	if s.Op != "" {
		x = &ast.Binary{Op: s.Op, L: &ast.Variable{Name: s.Name}, R: x}
	}
	n, from, err := b.Evaluate(ctx, x)
	if err != nil {
		return err
	}
	v.Value, err = value.Convert(n, from, v.Type, 0)
	return err
}

// assign sets a variable to a value that came from outside; an unknown name is 137.
func (b *Batch) assign(name string, v any, from value.Type) error {
	to := b.Variables[strings.ToLower(name)]
	if to == nil {
		return value.Severe(137, 15, "Must declare the scalar variable \"%s\".", name)
	}
	c, err := value.Convert(v, from, to.Type, 0)
	to.Value = c
	return err
}

// raise is RAISERROR: up to severity 10 a message, above it an error that does not end
// the batch.
func (b *Batch) raise(ctx context.Context, s *ast.RaisError) error {
	message, typ, err := b.Evaluate(ctx, s.Message)
	if err != nil {
		return err
	}
	severity, err := b.Int(ctx, s.Severity)
	if err != nil {
		return err
	}
	state, err := b.Int(ctx, s.State)
	if err != nil {
		return err
	}
	args := make([]any, len(s.Args))
	for i, a := range s.Args {
		if args[i], _, err = b.Evaluate(ctx, a); err != nil {
			return err
		}
	}
	m := value.Message{Number: 50000, State: uint8(min(max(state, 0), 255)), Class: uint8(min(max(severity, 0), 25)), Line: s.Line}
	if n, ok := message.(int64); ok && typ.IsInteger() {
		m.Number, m.Text = int32(n), fmt.Sprintf("Error %d, severity %d, state %d was raised, but no message with that error number was found in sys.messages.", n, severity, state)
	} else {
		text, _ := message.(string)
		m.Text = format(text, args)
	}
	if m.Class <= 10 {
		b.Out.Message(m)
		return nil
	}
	return &value.Error{All: []value.Message{m}}
}

// throw raises anew what CATCH has caught, or an error of its own.
func (b *Batch) throw(ctx context.Context, s *ast.Throw) error {
	if s.Number == nil {
		if len(b.Caught) == 0 {
			return value.Severe(10704, 15, "To rethrow an error, a THROW statement must be used inside a CATCH block. Insert the THROW statement inside a CATCH block, or add error parameters to the THROW statement.")
		}
		return b.Caught[len(b.Caught)-1]
	}
	number, err := b.Int(ctx, s.Number)
	if err != nil {
		return err
	}
	text, err := b.Text(ctx, s.Message)
	if err != nil {
		return err
	}
	state, err := b.Int(ctx, s.State)
	if err != nil {
		return err
	}
	return &value.Error{All: []value.Message{{Number: int32(number), State: uint8(state), Class: 16, Text: text, Line: s.Line}}}
}

func (b *Batch) wait(ctx context.Context, s *ast.WaitFor) error {
	text, err := b.Text(ctx, s.Delay)
	if err != nil {
		return err
	}
	t, _, ok := value.ParseTime(text)
	if !ok || s.Until {
		return value.Severe(148, 15, "Incorrect time syntax in time string '%s' used with WAITFOR.", text)
	}
	delay := t.Sub(time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, t.Location()))
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// exec runs a procedure, or a text. The text of EXEC ('…') has no variables.
func (b *Batch) exec(ctx context.Context, s *ast.Exec) error {
	if s.Text != nil {
		text, err := b.Text(ctx, s.Text)
		if err != nil {
			return err
		}
		return b.inner(ctx, text, nil)
	}
	args := make([]Argument, len(s.Args))
	for i, a := range s.Args {
		v, t, err := b.Evaluate(ctx, a.Value)
		if err != nil {
			return err
		}
		args[i] = Argument{Name: a.Name, Value: v, Type: t}
		if to, ok := a.Value.(*ast.Variable); ok && a.Output {
			args[i].Set = func(v any) error { return b.assign(to.Name, v, value.TypeOf(v)) }
		}
	}
	status, err := b.Call(ctx, s.Name, args)
	if err == nil && s.Result != "" {
		err = b.assign(s.Result, status, expr.BigInt)
	}
	return err
}

// Call runs a procedure: sp_executesql here, others by the host.
func (b *Batch) Call(ctx context.Context, name []string, args []Argument) (int64, error) {
	if strings.EqualFold(name[len(name)-1], "sp_executesql") {
		return 0, b.executeSQL(ctx, args)
	}
	return b.Host.Procedure(ctx, b, name, args)
}

// inner runs a text in a batch of its own whose errors are this one's.
func (b *Batch) inner(ctx context.Context, text string, prepare func(inner *Batch) error) error {
	if b.nested >= 32 {
		return value.Errorf(217, "Maximum stored procedure, function, trigger, or view nesting level exceeded (limit 32).")
	}
	inner := NewBatch(b.Host, b.Out, b.State)
	inner.nested, inner.tries = b.nested+1, b.tries
	if prepare != nil {
		if err := prepare(inner); err != nil {
			return err
		}
	}
	statements, err := tsql.Parse(text)
	if err != nil {
		return err
	}
	_, err = inner.statements(ctx, statements)
	return err
}

// executeSQL is sp_executesql: text, declarations, values by name or in order.
func (b *Batch) executeSQL(ctx context.Context, args []Argument) error {
	if len(args) == 0 {
		return value.Errorf(214, "Procedure expects parameter '@statement' of type 'ntext/nchar/nvarchar'.")
	}
	text, _ := args[0].Value.(string)
	var declared []ast.Declaration
	if len(args) > 1 {
		if list, _ := args[1].Value.(string); strings.TrimSpace(list) != "" {
			var err error
			if declared, err = tsql.ParseParameters(list); err != nil {
				return err
			}
		}
		args = args[2:]
	} else {
		args = nil
	}
	var done *Batch
	err := b.inner(ctx, text, func(inner *Batch) error {
		done = inner
		return bind(inner, declared, args)
	})
	if err != nil {
		return err
	}
	for i, a := range args {
		if a.Set == nil {
			continue
		}
		if err := a.Set(done.Variable(parameterName(a, i, declared))); err != nil {
			return err
		}
	}
	return nil
}

func parameterName(a Argument, i int, declared []ast.Declaration) string {
	if a.Name != "" || i >= len(declared) {
		return a.Name
	}
	return declared[i].Name
}

// bind declares parameters with the values given.
func bind(inner *Batch, declared []ast.Declaration, args []Argument) error {
	given := map[string]Argument{}
	for i, a := range args {
		if a.Name == "" && i >= len(declared) {
			return value.Errorf(8144, "Procedure or function has too many arguments specified.")
		}
		given[strings.ToLower(parameterName(a, i, declared))] = a
	}
	for _, d := range declared {
		a, ok := given[strings.ToLower(d.Name)]
		if !ok {
			return value.Errorf(8178, "The parameterized query expects the parameter '%s', which was not supplied.", d.Name)
		}
		if err := inner.Declare(d.Name, d.Type, a.Value, a.Type); err != nil {
			return err
		}
	}
	return nil
}
