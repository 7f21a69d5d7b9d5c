package plan

import (
	"strings"

	"holdfast/sqlguest/lab/tsql/ast"
	"holdfast/sqlguest/lab/tsql/expr"
	"holdfast/sqlguest/lab/value"
)

func (b *Binder) compileCall(e *ast.Call, s *scope) (expr.Node, error) {
	name := strings.ToUpper(e.Name[len(e.Name)-1])
	if len(e.Name) == 1 && ast.IsAggregate(e) {
		return expr.Node{}, value.Errorf(147, "An aggregate may not appear in the WHERE clause unless it is in a subquery contained in a HAVING clause or a select list, and the column being aggregated is an outer reference.")
	}
	var args []expr.Node
	var constants []any
	for _, a := range e.Args {
		n, err := b.compile(a, s)
		if err != nil {
			return n, err
		}
		var c any
		if n.Constant {
			if c, err = n.Eval(&expr.Frame{}); err != nil {
				return n, err
			}
		}
		args, constants = append(args, n), append(constants, c)
	}
	if len(e.Name) == 1 {
		if n, ok, err := expr.Shaped(name, args); ok {
			return n, err
		}
	}
	fn := b.Catalog.Function(e.Name, constants)
	if fn == nil && len(e.Name) == 1 {
		fn = b.environment().Builtin(name, args, constants)
	}
	if fn == nil {
		if len(e.Name) > 1 {
			return expr.Node{}, value.Errorf(4121, "Cannot find either column \"%s\" or the user-defined function or aggregate \"%s\", or the name is ambiguous.", e.Name[0], strings.Join(e.Name, "."))
		}
		return expr.Node{}, value.Severe(195, 15, "'%s' is not a recognized built-in function name.", e.Name[0])
	}
	if len(args) < fn.Min || len(args) > fn.Max {
		return expr.Node{}, value.Severe(174, 15, "The %s function requires %d argument(s).", strings.ToLower(name), fn.Min)
	}
	return call(fn, args), nil
}

func call(fn *expr.Function, args []expr.Node) expr.Node {
	for i := range args {
		if i < len(fn.Types) && fn.Types[i].Kind != value.Variant {
			args[i] = expr.As(args[i], fn.Types[i])
		}
	}
	return expr.Node{Type: fn.Type, Eval: func(f *expr.Frame) (any, error) {
		values := make([]any, len(args))
		for i, a := range args {
			v, err := a.Eval(f)
			if err != nil {
				return nil, err
			}
			values[i] = v
		}
		return fn.Call(values)
	}}
}

// environment is what functions without a server behind them still need of it.
func (b *Binder) environment() expr.Environment {
	return expr.Environment{Now: b.Catalog.Now, Random: b.Catalog.Random, Caught: func() *value.Message {
		if len(b.Caught) == 0 {
			return nil
		}
		all := b.Caught[len(b.Caught)-1].All
		return &all[len(all)-1]
	}}
}
