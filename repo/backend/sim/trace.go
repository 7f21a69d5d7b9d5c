package sim

import (
	"encoding/binary"
	"fmt"

	"github.com/cespare/xxhash/v2"
)

type line struct {
	step         int
	client       string
	op           op
	name         string
	offset, size int64
	note         string
	sum          uint64
}

func (l line) String() string {
	text := fmt.Sprintf("%6d %-12s %-13s %s", l.step, l.client, opNames[l.op], l.name)
	switch l.op {
	case opGet:
		text += fmt.Sprintf(" [%d+%d]", l.offset, l.size)
	case opPut, opPutIfAbsent:
		text += fmt.Sprintf(" (%d bytes, %08x)", l.size, uint32(l.sum))
	}
	return text + l.note
}

// trace hashes all that happens and keeps the end of it.
type trace struct {
	most int // lines kept
	hash *xxhash.Digest
	ring []line
	at   int
}

func newTrace(most int) trace { return trace{most: most, hash: xxhash.New()} }

func sumOf(data []byte) uint64 {
	if len(data) == 0 {
		return 0
	}
	return xxhash.Sum64(data)
}

func (t *trace) add(step int, c *call, note string) {
	l := line{step: step, client: c.client.name, op: c.op, name: c.name, offset: c.offset, size: c.length, note: " " + note, sum: sumOf(c.data)}
	if c.op == opPut || c.op == opPutIfAbsent {
		l.size = int64(len(c.data))
	}
	if c.result.err != nil {
		l.note += ": " + c.result.err.Error()
	}
	t.keep(l)
}

// event is what happens to a client or to the world, as a line.
func (t *trace) event(step int, client, what string) {
	t.keep(line{step: step, client: client, op: opSync, note: " *** " + what})
}

func (t *trace) keep(l line) {
	var head [26]byte
	binary.LittleEndian.PutUint64(head[:], uint64(l.step))
	binary.LittleEndian.PutUint64(head[8:], l.sum)
	binary.LittleEndian.PutUint64(head[16:], uint64(l.offset<<20^l.size))
	head[24] = byte(l.op)
	for _, part := range [][]byte{head[:], []byte(l.client), []byte(l.name), []byte(l.note), {0}} {
		_, _ = t.hash.Write(part) // never fails
	}
	if len(t.ring) < t.most {
		t.ring = append(t.ring, l)
		return
	}
	t.ring[t.at] = l
	t.at = (t.at + 1) % t.most
}

func (t *trace) sum() uint64 { return t.hash.Sum64() }

func (t *trace) lines() []string {
	var all []string
	for i := range t.ring {
		all = append(all, t.ring[(t.at+i)%len(t.ring)].String())
	}
	return all
}
