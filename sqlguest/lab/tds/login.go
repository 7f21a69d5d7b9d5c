package tds

import (
	"encoding/binary"
	"fmt"

	"holdfast/sqlguest/lab/value"
)

// Login is what LOGIN7 says.
type Login struct {
	Host, User, Password, Application, Server, Library, Database string
	// PacketBytes is the size of packets that the client asks for.
	PacketBytes int
	// Integrated: the client wants Windows authentication.
	Integrated bool
}

// parseLogin reads a LOGIN7 message.
func parseLogin(body []byte) (*Login, error) {
	if len(body) < 86 || int(binary.LittleEndian.Uint32(body)) > len(body) {
		return nil, fmt.Errorf("login message of %d bytes: %w", len(body), errMalformed)
	}
	l := &Login{PacketBytes: int(binary.LittleEndian.Uint32(body[8:])), Integrated: body[25]&0x80 != 0}
	for _, f := range []struct {
		at    int
		field *string
	}{{36, &l.Host}, {40, &l.User}, {44, &l.Password}, {48, &l.Application}, {52, &l.Server}, {60, &l.Library}, {68, &l.Database}} {
		offset := int(binary.LittleEndian.Uint16(body[f.at:]))
		length := 2 * int(binary.LittleEndian.Uint16(body[f.at+2:]))
		if offset+length > len(body) {
			return nil, fmt.Errorf("login field at %d: %w", f.at, errMalformed)
		}
		raw := body[offset : offset+length]
		if f.at == 44 {
			raw = unscramble(raw)
		}
		*f.field = value.FromUTF16(raw)
	}
	return l, nil
}

// unscramble undoes the password's disguise: each byte XOR 0xA5, nibbles swapped.
func unscramble(raw []byte) []byte {
	out := make([]byte, len(raw))
	for i, b := range raw {
		b ^= 0xA5
		out[i] = b<<4 | b>>4
	}
	return out
}

// collation is SQL_Latin1_General_CP1_CI_AS.
var collation = []byte{0x09, 0x04, 0xD0, 0x00, 0x34}

// acknowledge is the answer to a login that was let in.
func (c *conn) acknowledge(l *Login, database string) error {
	w := c.writer()
	w.Database("master", database)
	w.Message(value.Message{Number: 5701, State: 2, Text: fmt.Sprintf("Changed database context to '%s'.", database)})
	w.env(7, collation, nil)
	w.env(2, usText("us_english"), usText(""))
	w.Message(value.Message{Number: 5703, State: 1, Text: "Changed language setting to us_english."})
	name := value.UTF16("Microsoft SQL Server")
	ack := append([]byte{1, 0x74, 0, 0, 4, byte(len(name) / 2)}, name...)
	ack = append(ack, c.server.opt.Version[0], c.server.opt.Version[1], c.server.opt.Version[2], c.server.opt.Version[3])
	w.token(0xAD, ack)
	size := fmt.Sprint(c.size)
	w.env(4, usText(size), usText(fmt.Sprint(defaultBytes)))
	w.done(tokenDone, 0, 0)
	return w.finish()
}

// usText is text with its length in characters in one byte before it.
func usText(s string) []byte {
	u := value.UTF16(s)
	return append([]byte{byte(len(u) / 2)}, u...)
}
