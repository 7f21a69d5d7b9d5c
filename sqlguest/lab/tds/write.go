package tds

import (
	"encoding/binary"
	"errors"

	"holdfast/sqlguest/lab/value"
)

// Tokens of an answer.
const (
	tokenDone       = 0xFD
	tokenDoneProc   = 0xFE
	tokenDoneInProc = 0xFF
)

// Bits of a DONE token's status.
const (
	doneMore      = 0x01
	doneError     = 0x02
	doneCount     = 0x10
	doneAttention = 0x20
)

// Writer writes one answer. Its methods are for one goroutine; errors of the
// connection stick and end the answer, so that callers need not look at each.
type Writer struct {
	p       *packetWriter
	columns []value.Column
	ending  byte // the token that ends a statement here: DONE, or DONEINPROC in a procedure
	held    []byte
	fatal   bool // an error of severity 20 or more was sent: the connection ends with the answer
}

// Err is the connection's error, nil while it is well.
func (w *Writer) Err() error { return w.p.err }

// hold keeps a DONE back until it is known whether more follows.
func (w *Writer) hold(b []byte) {
	w.release()
	w.held = b
}

// release sends the DONE held back, marked as not the last.
func (w *Writer) release() {
	if w.held != nil {
		w.held[1] |= doneMore
		w.p.Write(w.held)
		w.held = nil
	}
}

func (w *Writer) done(token byte, status uint16, rows int64) {
	b := []byte{token}
	b = binary.LittleEndian.AppendUint16(b, status)
	b = binary.LittleEndian.AppendUint16(b, 0xC1)
	w.hold(binary.LittleEndian.AppendUint64(b, uint64(rows)))
}

// Done ends a statement without a count of rows.
func (w *Writer) Done() { w.done(w.ending, 0, 0) }

// Count ends a statement that affected, or returned, so many rows.
func (w *Writer) Count(rows int64) { w.done(w.ending, doneCount, rows) }

// Failed sends a failed statement's errors and its end. A failure that is not SQL
// Server's is sent as severity 20 and ends the connection there.
func (w *Writer) Failed(err error) {
	var e *value.Error
	if !errors.As(err, &e) {
		e = value.Severe(50000, 20, "%v", err)
	}
	for _, m := range e.All {
		w.Message(m)
	}
	w.done(w.ending, doneError, 0)
}

// finish ends the answer.
func (w *Writer) finish() error {
	if w.held != nil {
		w.p.Write(w.held)
		w.held = nil
	}
	return w.p.end()
}

// token writes a token with a length of two bytes.
func (w *Writer) token(kind byte, body []byte) {
	w.release()
	b := binary.LittleEndian.AppendUint16([]byte{kind}, uint16(len(body)))
	w.p.Write(append(b, body...))
}

// env tells of a change; old and new carry their own length unless they are a
// collation's bytes or a transaction's.
func (w *Writer) env(kind byte, now, before []byte) {
	body := []byte{kind}
	for _, b := range [][]byte{now, before} {
		if kind >= 7 {
			body = append(body, byte(len(b)))
		}
		body = append(body, b...)
	}
	w.token(0xE3, body)
}

// Database tells that the session works in another database now.
func (w *Writer) Database(before, now string) { w.env(1, usText(now), usText(before)) }

// Begun, Committed and RolledBack tell what became of the transaction of that number.
func (w *Writer) Begun(id uint64) { w.env(8, binary.LittleEndian.AppendUint64(nil, id), nil) }

// Committed tells that the session's transaction has been committed.
func (w *Writer) Committed(id uint64) { w.env(9, nil, binary.LittleEndian.AppendUint64(nil, id)) }

// RolledBack tells that the session's transaction has been rolled back.
func (w *Writer) RolledBack(id uint64) { w.env(10, nil, binary.LittleEndian.AppendUint64(nil, id)) }

// Message sends an error (severity above 10) or information, which goes out at once.
func (w *Writer) Message(m value.Message) {
	kind := byte(0xAA)
	w.fatal = w.fatal || m.Class >= 20
	if m.Class <= 10 {
		kind = 0xAB
	}
	text := value.UTF16(m.Text)
	if len(text) > 2*2047 { // a message of the server's has 2,047 characters at most
		text = text[:2*2047]
	}
	body := binary.LittleEndian.AppendUint32(nil, uint32(m.Number))
	body = append(body, m.State, m.Class)
	body = binary.LittleEndian.AppendUint16(body, uint16(len(text)/2))
	body = append(body, text...)
	body = append(body, usText("LAB")...)
	body = append(body, usText(m.Proc)...)
	body = binary.LittleEndian.AppendUint32(body, uint32(max(m.Line, 1)))
	w.token(kind, body)
	if kind == 0xAB {
		w.p.flush()
	}
}

// Columns begins a result.
func (w *Writer) Columns(columns []value.Column) {
	w.release()
	w.columns = columns
	b := binary.LittleEndian.AppendUint16([]byte{0x81}, uint16(len(columns)))
	for _, c := range columns {
		b = append(b, 0, 0, 0, 0, 9, 0) // user type; nullable, read-only unknown
		b = appendType(b, c.Type)
		b = append(b, usText(c.Name)...)
	}
	w.p.Write(b)
}

// Row sends a row of the result that Columns began.
func (w *Writer) Row(values []any) {
	b := []byte{0xD1}
	for i, c := range w.columns {
		b = appendValue(b, c.Type, values[i])
	}
	w.p.Write(b)
}

// returnStatus and returnValue are what a procedure hands back.
func (w *Writer) returnStatus(status int32) {
	w.release()
	w.p.Write(binary.LittleEndian.AppendUint32([]byte{0x79}, uint32(status)))
}

func (w *Writer) returnValue(ordinal int, p Param) {
	w.release()
	b := binary.LittleEndian.AppendUint16([]byte{0xAC}, uint16(ordinal))
	b = append(b, usText(p.Name)...)
	b = append(b, 1, 0, 0, 0, 0, 9, 0)
	b = appendType(b, p.Type)
	w.p.Write(appendValue(b, p.Type, p.Value))
}
