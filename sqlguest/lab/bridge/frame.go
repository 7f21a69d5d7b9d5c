package bridge

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"holdfast/sqlguest/vdi"
)

// The wire between a Hub and a client in another process: frames of a length (4
// bytes, of what follows), a kind (1 byte) and a body; all numbers little endian.
// The client of a connection has one set.
//
//	kind            body
//	1  create       config (11 × 4), has instance (1), instance, name
//	2  open device  name
//	3  completed    device (4), ref (4), code (4), bytes (4), position (8), data of a Read
//	4  abort
//	5  close
//	16 created      result (4)
//	17 configured   config (11 × 4)
//	18 opened       result (4), device (4)
//	19 command      device (4), ref (4), code (4), size (4), position (8), data of a Write
//	20 closed       device (4)
//	21 aborted
//
// A text is its length (2 bytes) and UTF-8. A configuration comes unasked, when SQL
// Server has connected; commands come once their device is open.
const (
	kindCreate     = 1
	kindOpen       = 2
	kindCompleted  = 3
	kindAbort      = 4
	kindClose      = 5
	kindCreated    = 16
	kindConfigured = 17
	kindOpened     = 18
	kindCommand    = 19
	kindClosed     = 20
	kindAborted    = 21
)

// maxFrame is the largest body: a transfer of 4 MiB and its numbers.
const maxFrame = 4<<20 + 64

var errFrame = errors.New("malformed frame")

func readFrame(r io.Reader) (kind byte, body []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.LittleEndian.Uint32(head[:4])
	if n < 1 || n > maxFrame {
		return 0, nil, fmt.Errorf("%w: %d bytes", errFrame, n)
	}
	body = make([]byte, n-1)
	_, err = io.ReadFull(r, body)
	return head[4], body, err
}

func frame(kind byte, parts ...[]byte) []byte {
	out := []byte{0, 0, 0, 0, kind}
	for _, p := range parts {
		out = append(out, p...)
	}
	binary.LittleEndian.PutUint32(out, uint32(len(out)-4))
	return out
}

func numbers(values ...uint32) []byte {
	var out []byte
	for _, v := range values {
		out = binary.LittleEndian.AppendUint32(out, v)
	}
	return out
}

// body takes a frame's body apart; the first lack of bytes makes it fail for good.
type body struct {
	rest []byte
	err  error
}

func (b *body) take(n int) []byte {
	if b.err != nil || n > len(b.rest) {
		b.err = errFrame
		return make([]byte, n)
	}
	p := b.rest[:n]
	b.rest = b.rest[n:]
	return p
}

func (b *body) u32() uint32 { return binary.LittleEndian.Uint32(b.take(4)) }
func (b *body) u64() uint64 { return binary.LittleEndian.Uint64(b.take(8)) }

func (b *body) text() string {
	return string(b.take(int(binary.LittleEndian.Uint16(b.take(2)))))
}

func (b *body) config() vdi.Config {
	return vdi.Config{
		DeviceCount: b.u32(), Features: b.u32(), PrefixZoneSize: b.u32(), Alignment: b.u32(), SoftFileMark: b.u32(), EOMWarningSize: b.u32(),
		ServerTimeOutMS: b.u32(), BlockSize: b.u32(), MaxIODepth: b.u32(), MaxTransferSize: b.u32(), BufferAreaSize: b.u32(),
	}
}

func putConfig(c vdi.Config) []byte {
	return numbers(c.DeviceCount, c.Features, c.PrefixZoneSize, c.Alignment, c.SoftFileMark, c.EOMWarningSize,
		c.ServerTimeOutMS, c.BlockSize, c.MaxIODepth, c.MaxTransferSize, c.BufferAreaSize)
}

// creation is the body of a create.
type creation struct {
	config         vdi.Config
	instance, name string
}

func parseCreation(p []byte) (creation, error) {
	b := body{rest: p}
	c := creation{config: b.config()}
	if b.take(1)[0] != 0 {
		c.instance = b.text()
	}
	c.name = b.text()
	return c, b.err
}

// completion is the body of a completed.
type completion struct {
	device, ref, code, bytes uint32
	position                 uint64
	data                     []byte
}

func parseCompletion(p []byte) (completion, error) {
	b := body{rest: p}
	c := completion{device: b.u32(), ref: b.u32(), code: b.u32(), bytes: b.u32(), position: b.u64()}
	c.data = b.rest
	return c, b.err
}
