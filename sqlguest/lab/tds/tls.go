package tds

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"sync/atomic"
)

// Encryption is the server's answer in PRELOGIN.
type Encryption byte

// What a server can say of encryption.
const (
	EncryptLogin Encryption = 0 // off: TLS for the login alone
	EncryptAll   Encryption = 1 // on
	EncryptNone  Encryption = 2 // not supported
	EncryptMust  Encryption = 3 // required: a client without it is refused
)

// prelogin answers the client's first message and says what was agreed.
func (c *conn) prelogin(m *message) (Encryption, error) {
	client, err := clientEncryption(m.body)
	if err != nil {
		return 0, err
	}
	agreed := c.server.opt.Encryption
	switch client {
	case EncryptNone:
		if agreed == EncryptMust {
			return 0, fmt.Errorf("client without encryption: %w", errMalformed)
		}
		agreed = EncryptNone
	case EncryptAll, EncryptMust:
		if agreed == EncryptLogin {
			agreed = EncryptAll
		}
	}
	if c.server.opt.Certificate == nil {
		agreed = EncryptNone
	}
	return agreed, c.answerPrelogin(agreed)
}

func (c *conn) answerPrelogin(e Encryption) error {
	options := []struct {
		token byte
		data  []byte
	}{
		{0, []byte{c.server.opt.Version[0], c.server.opt.Version[1], c.server.opt.Version[2], c.server.opt.Version[3], 0, 0}},
		{1, []byte{byte(e)}}, {2, []byte{0}}, {3, nil}, {4, []byte{0}},
	}
	offset := 5*len(options) + 1
	var head, data []byte
	for _, o := range options {
		head = append(head, o.token)
		head = binary.BigEndian.AppendUint16(head, uint16(offset+len(data)))
		head = binary.BigEndian.AppendUint16(head, uint16(len(o.data)))
		data = append(data, o.data...)
	}
	p := newPacketWriter(c.raw, defaultBytes, 0)
	p.Write(append(append(head, 0xFF), data...))
	return p.end()
}

// clientEncryption finds the ENCRYPTION option of a PRELOGIN message.
func clientEncryption(body []byte) (Encryption, error) {
	for i := 0; i < len(body) && body[i] != 0xFF; i += 5 {
		if i+5 > len(body) {
			break
		}
		offset, length := int(binary.BigEndian.Uint16(body[i+1:])), int(binary.BigEndian.Uint16(body[i+3:]))
		if offset+length > len(body) {
			return 0, fmt.Errorf("prelogin option %d: %w", body[i], errMalformed)
		}
		if body[i] == 1 && length >= 1 {
			return Encryption(body[offset]), nil
		}
	}
	return EncryptNone, nil
}

// wrapped carries TLS handshake records inside PRELOGIN packets, until plain is
// set: after the handshake the records travel bare.
type wrapped struct {
	net.Conn
	plain   atomic.Bool
	pending []byte // received, not yet read by TLS
	out     bytes.Buffer
}

// Read hands out the records of the handshake; whatever was written goes out first,
// so that each flight is one message.
func (w *wrapped) Read(b []byte) (int, error) {
	if err := w.flush(); err != nil {
		return 0, err
	}
	if len(w.pending) == 0 {
		if w.plain.Load() {
			return w.Conn.Read(b)
		}
		m, err := readMessage(w.Conn, loginLimit)
		if err != nil {
			return 0, err
		}
		if m.kind != packetPrelogin {
			return 0, fmt.Errorf("packet of type %#x during the TLS handshake: %w", m.kind, errMalformed)
		}
		w.pending = m.body
	}
	n := copy(b, w.pending)
	w.pending = w.pending[n:]
	return n, nil
}

// Write keeps a record of the handshake until the flight is complete.
func (w *wrapped) Write(b []byte) (int, error) {
	if w.plain.Load() {
		return w.Conn.Write(b)
	}
	return w.out.Write(b)
}

func (w *wrapped) flush() error {
	if w.out.Len() == 0 {
		return nil
	}
	p := newPacketWriter(w.Conn, defaultBytes, 0)
	p.kind = packetPrelogin
	p.Write(w.out.Bytes())
	w.out.Reset()
	return p.end()
}

// handshake speaks TLS 1.2 at most (TLS 1.3's messages after the handshake have no
// place in PRELOGIN packets).
func (c *conn) handshake() (*tls.Conn, error) {
	w := &wrapped{Conn: c.raw}
	t := tls.Server(w, &tls.Config{
		Certificates: []tls.Certificate{*c.server.opt.Certificate},
		MinVersion:   tls.VersionTLS12, MaxVersion: tls.VersionTLS12,
		DynamicRecordSizingDisabled: true,
	})
	if err := t.Handshake(); err != nil {
		return nil, err
	}
	if err := w.flush(); err != nil {
		return nil, err
	}
	w.plain.Store(true)
	return t, nil
}
