// Package tds is the server's side of TDS 7.4, the protocol that SQL Server speaks on
// TCP port 1433: packets, the TLS handshake inside packets, login, batches, remote
// procedure calls, transactions, attention and the tokens of an answer.
//
// It knows nothing of SQL: a Handler answers. The facts are [MS-TDS]'s.
package tds

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Packet types.
const (
	packetBatch       = 0x01
	packetRPC         = 0x03
	packetReply       = 0x04
	packetAttention   = 0x06
	packetTransaction = 0x0E
	packetLogin       = 0x10
	packetPrelogin    = 0x12
)

// Status bits of a packet.
const (
	statusEnd   = 0x01 // the last packet of a message
	statusReset = 0x08 // the connection comes from a pool: forget the session's state first
)

const (
	headerBytes  = 8
	defaultBytes = 4096
	minimumBytes = 512
	maximumBytes = 32767
	// messageLimit bounds what a client may make us hold: far more than any
	// statement of the laboratory's users.
	messageLimit = 64 << 20
	// loginLimit bounds what a stranger may send before it has logged in.
	loginLimit = 64 << 10
)

// errMalformed: the client sent bytes that are no TDS.
var errMalformed = errors.New("malformed TDS")

// message is one request: packets joined.
type message struct {
	kind  byte
	reset bool
	body  []byte
}

// readMessage joins the packets of one message of at most limit bytes. io.EOF where
// the connection ended between messages.
func readMessage(r io.Reader, limit int) (*message, error) {
	var m *message
	var head [headerBytes]byte
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			if m != nil && errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		length := int(binary.BigEndian.Uint16(head[2:]))
		if length < headerBytes {
			return nil, fmt.Errorf("packet of %d bytes: %w", length, errMalformed)
		}
		if m == nil {
			m = &message{kind: head[0]}
		}
		if m.kind != head[0] {
			return nil, fmt.Errorf("packet of type %#x inside a message of type %#x: %w", head[0], m.kind, errMalformed)
		}
		if len(m.body)+length-headerBytes > limit {
			return nil, fmt.Errorf("message over %d bytes: %w", limit, errMalformed)
		}
		m.reset = m.reset || head[1]&statusReset != 0
		start := len(m.body)
		m.body = append(m.body, make([]byte, length-headerBytes)...)
		if _, err := io.ReadFull(r, m.body[start:]); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		if head[1]&statusEnd != 0 {
			return m, nil
		}
	}
}

// packetWriter cuts an answer into packets.
type packetWriter struct {
	w    io.Writer
	kind byte
	size int
	spid uint16
	id   byte
	buf  []byte
	err  error
}

func newPacketWriter(w io.Writer, size int, spid uint16) *packetWriter {
	return &packetWriter{w: w, kind: packetReply, size: size, spid: spid, buf: make([]byte, headerBytes, size)}
}

// Write takes bytes of the answer; errors stick.
func (p *packetWriter) Write(b []byte) (int, error) {
	total := len(b)
	for len(b) > 0 && p.err == nil {
		if len(p.buf) == p.size {
			p.send(0)
		}
		n := min(len(b), p.size-len(p.buf))
		p.buf = append(p.buf, b[:n]...)
		b = b[n:]
	}
	return total - len(b), p.err
}

// flush sends what there is, so that a message is seen while the statement runs.
func (p *packetWriter) flush() {
	if len(p.buf) > headerBytes {
		p.send(0)
	}
}

// end sends the last packet of the answer.
func (p *packetWriter) end() error {
	p.send(statusEnd)
	return p.err
}

func (p *packetWriter) send(status byte) {
	if p.err != nil {
		return
	}
	p.buf[0], p.buf[1] = p.kind, status
	binary.BigEndian.PutUint16(p.buf[2:], uint16(len(p.buf)))
	binary.BigEndian.PutUint16(p.buf[4:], p.spid)
	p.id++
	p.buf[6], p.buf[7] = p.id, 0
	_, p.err = p.w.Write(p.buf)
	p.buf = p.buf[:headerBytes]
}

// cursor reads fields of a message; reading past the end sets bad and yields zeros.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) take(n int) []byte {
	if n < 0 || n > len(c.b) {
		c.bad, c.b = true, nil
		return make([]byte, min(max(n, 0), 64))
	}
	out := c.b[:n]
	c.b = c.b[n:]
	return out
}

func (c *cursor) u8() byte    { return c.take(1)[0] }
func (c *cursor) u16() uint16 { return binary.LittleEndian.Uint16(c.take(2)) }
func (c *cursor) u32() uint32 { return binary.LittleEndian.Uint32(c.take(4)) }
func (c *cursor) u64() uint64 { return binary.LittleEndian.Uint64(c.take(8)) }
