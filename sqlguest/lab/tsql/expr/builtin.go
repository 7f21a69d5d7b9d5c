package expr

import (
	"cmp"
	"math"
	"strings"
	"time"

	"holdfast/sqlguest/lab/value"
)

// Environment is what functions need of the server. All fields are needed.
type Environment struct {
	Now    func() time.Time // local, with its offset
	Random func(b []byte)
	// Caught is the error that the CATCH block around works on, nil outside of one.
	Caught func() *value.Message
}

// Shaped are the functions whose type follows from their arguments' types.
func Shaped(name string, args []Node) (Node, bool, error) {
	switch {
	case name == "ISNULL" && len(args) == 2:
		return first([]Node{args[0], As(args[1], firstType(args[0].Type, args[1].Type))}, firstType(args[0].Type, args[1].Type)), true, nil
	case name == "COALESCE" && len(args) > 0:
		t := value.Type{Kind: value.Null}
		for _, a := range args {
			t = value.Common(t, a.Type)
		}
		return first(args, t), true, nil
	case name == "NULLIF" && len(args) == 2:
		same := Compare("=", args[0], args[1])
		return Node{Type: args[0].Type, Eval: func(f *Frame) (any, error) {
			if eq, err := same.Eval(f); err != nil || eq == true {
				return nil, err
			}
			return args[0].Eval(f)
		}}, true, nil
	case name == "IIF" && len(args) == 3 && args[0].Type.Kind == value.Boolean:
		t := value.Common(args[1].Type, args[2].Type)
		yes, no := As(args[1], t), As(args[2], t)
		return Node{Type: t, Eval: func(f *Frame) (any, error) {
			c, err := args[0].Eval(f)
			if err != nil {
				return nil, err
			}
			if c == true {
				return yes.Eval(f)
			}
			return no.Eval(f)
		}}, true, nil
	case name == "ABS" && len(args) == 1 && args[0].Type.IsNumeric():
		return absolute(args[0])
	}
	return Node{}, false, nil
}

func absolute(n Node) (Node, bool, error) {
	minus, err := Arithmetic("-", Node{Type: Int, Eval: func(*Frame) (any, error) { return int64(0), nil }}, n)
	n = As(n, minus.Type)
	return Node{Type: n.Type, Eval: func(f *Frame) (any, error) {
		v, err := n.Eval(f)
		if err != nil || v == nil {
			return nil, err
		}
		m, err := minus.Eval(f)
		if err == nil && value.Compare(m, v) > 0 {
			return m, nil
		}
		return v, err
	}}, true, err
}

// firstType is ISNULL's: that of the first argument, unless it is a bare NULL.
func firstType(a, b value.Type) value.Type {
	if a.Kind == value.Null {
		return b
	}
	return a
}

// first yields the first value that is not NULL.
func first(args []Node, t value.Type) Node {
	converted := make([]Node, len(args))
	for i, a := range args {
		converted[i] = As(a, t)
	}
	return Node{Type: t, Eval: func(f *Frame) (any, error) {
		for _, a := range converted {
			v, err := a.Eval(f)
			if err != nil || v != nil {
				return v, err
			}
		}
		return nil, nil
	}}
}

// Builtin finds a function that needs no server.
func (e Environment) Builtin(name string, args []Node, constants []any) *Function {
	if fn := TextFunction(name); fn != nil {
		return fn
	}
	if fn := e.timeFunction(name, args, constants); fn != nil {
		return fn
	}
	switch name {
	case "NEWID":
		return &Function{Type: value.Type{Kind: value.UniqueIdentifier}, Call: func([]any) (any, error) {
			var g value.GUID
			e.Random(g[:])
			g[6], g[8] = g[6]&0x0F|0x40, g[8]&0x3F|0x80
			return g, nil
		}}
	case "ROUND":
		return &Function{Type: value.Type{Kind: value.Float}, Min: 2, Max: 3, Types: []value.Type{{Kind: value.Float}, Int, Int}, Call: func(a []any) (any, error) {
			if a[0] == nil || a[1] == nil {
				return nil, nil
			}
			p := math.Pow10(int(a[1].(int64)))
			return math.Round(a[0].(float64)*p) / p, nil
		}}
	case "FLOOR", "CEILING":
		return Strict(BigInt, []value.Type{{Kind: value.Float}}, func(a []any) (any, error) {
			if name == "FLOOR" {
				return int64(math.Floor(a[0].(float64))), nil
			}
			return int64(math.Ceil(a[0].(float64))), nil
		})
	}
	return e.errorFunction(name)
}

// errorFunction are the functions of a CATCH block: NULL outside of one.
func (e Environment) errorFunction(name string) *Function {
	read := func(t value.Type, get func(m value.Message) any) *Function {
		return &Function{Type: t, Call: func([]any) (any, error) {
			m := e.Caught()
			if m == nil {
				return nil, nil
			}
			return get(*m), nil
		}}
	}
	switch name {
	case "ERROR_NUMBER":
		return read(Int, func(m value.Message) any { return int64(m.Number) })
	case "ERROR_SEVERITY":
		return read(Int, func(m value.Message) any { return int64(m.Class) })
	case "ERROR_STATE":
		return read(Int, func(m value.Message) any { return int64(m.State) })
	case "ERROR_LINE":
		return read(Int, func(m value.Message) any { return int64(m.Line) })
	case "ERROR_MESSAGE":
		return read(value.Text(4000), func(m value.Message) any { return m.Text })
	case "ERROR_PROCEDURE":
		return read(value.Text(128), func(value.Message) any { return nil })
	}
	return nil
}

// timeFunction are the functions of time.
func (e Environment) timeFunction(name string, args []Node, constants []any) *Function {
	now := func(t value.Type, at func() time.Time) *Function {
		return &Function{Type: t, Call: func([]any) (any, error) { return value.Truncate(at(), t), nil }}
	}
	local := func() time.Time {
		t := e.Now()
		return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
	}
	utc := func() time.Time { return e.Now().UTC() }
	switch name {
	case "GETDATE", "CURRENT_TIMESTAMP":
		return now(value.Type{Kind: value.DateTime}, local)
	case "GETUTCDATE":
		return now(value.Type{Kind: value.DateTime}, utc)
	case "SYSDATETIME":
		return now(value.Type{Kind: value.DateTime2, Scale: 7}, local)
	case "SYSUTCDATETIME":
		return now(value.Type{Kind: value.DateTime2, Scale: 7}, utc)
	case "CURRENT_TIMEZONE_ID": // Windows' name, of the one zone whose changes are practised
		return &Function{Type: value.Text(128), Call: func([]any) (any, error) {
			zone := e.Now().Location().String()
			return cmp.Or(map[string]string{"Europe/Berlin": "W. Europe Standard Time"}[zone], zone), nil
		}}
	case "SYSDATETIMEOFFSET":
		return now(value.Type{Kind: value.DateTimeOffset, Scale: 7}, e.Now)
	}
	if len(args) == 0 || len(constants) == 0 {
		return nil
	}
	part, _ := constants[0].(string)
	return partFunction(name, part, args)
}

// partFunction are those that calculate with a part of time, named by their first argument.
func partFunction(name, part string, args []Node) *Function {
	at := value.Type{Kind: value.DateTime2, Scale: 7}
	switch name {
	case "DATEADD":
		if len(args) != 3 {
			return nil
		}
		t := args[2].Type
		if !t.IsTime() {
			t = value.Type{Kind: value.DateTime}
		}
		return Strict(t, []value.Type{Wide, BigInt, t}, func(a []any) (any, error) {
			sum, err := DateAdd(part, a[1].(int64), a[2].(time.Time))
			return value.Truncate(sum, t), err
		})
	case "DATEDIFF", "DATEDIFF_BIG":
		t := Int
		if name == "DATEDIFF_BIG" {
			t = BigInt
		}
		return Strict(t, []value.Type{Wide, at, at}, func(a []any) (any, error) {
			n, err := DateDiff(part, a[1].(time.Time), a[2].(time.Time))
			if err == nil && t == Int && n != int64(int32(n)) {
				err = value.Errorf(535, "The datediff function resulted in an overflow. The number of dateparts separating two date/time instances is too large. Try to use datediff with a less precise datepart.")
			}
			return n, err
		})
	case "DATEPART":
		return Strict(Int, []value.Type{Wide, at}, func(a []any) (any, error) { return DatePart(part, a[1].(time.Time)) })
	case "YEAR", "MONTH", "DAY":
		return Strict(Int, []value.Type{at}, func(a []any) (any, error) { return DatePart(strings.ToLower(name), a[0].(time.Time)) })
	}
	return nil
}
