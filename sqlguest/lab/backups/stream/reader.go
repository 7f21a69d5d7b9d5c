package stream

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"

	"holdfast/sqlguest/lab/storage/message"
	"holdfast/sqlguest/lab/value"
)

// Device is one family to be read, with the name that errors call it.
type Device struct {
	Name string
	R    io.Reader
}

// Media reads devices, set after set.
type Media struct {
	devices []Device
	order   []int  // family → device, known after the first head
	partial bool   // not all families are here: headers only
	set     *Set   // the one that is being read
	block   []byte // of one device
}

// Set is one backup set on the media.
type Set struct {
	// Header is the head's, and after the last item the tail's.
	Header   Header
	Position int
	m        *Media
	numbers  []uint32
	turn     int
	content  []byte // what is left of the block
	done     bool
}

// Open begins to read. partial allows for missing devices; then a set has headers
// but no items.
func Open(devices []Device, partial bool) *Media {
	return &Media{devices: devices, partial: partial, block: make([]byte, BlockBytes)}
}

// blockHead is what stands in front of a block's bytes.
type blockHead struct {
	kind, family, count byte
	number              uint32
	set                 value.GUID
	body                []byte
}

// read takes the next block of a device. At the end of the device the error is
// io.EOF; all others are SQL Server's: 3203, 3241, 3242, 3189.
func (m *Media) read(device int, first bool) (blockHead, error) {
	var h blockHead
	d := m.devices[device]
	n, err := io.ReadFull(d.R, m.block)
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		return h, io.EOF
	case errors.Is(err, io.ErrUnexpectedEOF) && first && n < 4:
		return h, message.Fail(3242, d.Name)
	case errors.Is(err, io.ErrUnexpectedEOF) && first && string(m.block[:4]) != magic:
		return h, message.Fail(3242, d.Name)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return h, message.Fail(3203, d.Name, "38(Reached the end of the file.)")
	default:
		return h, message.Fail(3203, d.Name, err.Error())
	}
	b := m.block
	if string(b[:4]) != magic {
		if first {
			return h, message.Fail(3242, d.Name)
		}
		return h, message.Fail(3189)
	}
	used := binary.LittleEndian.Uint32(b[atUsed:])
	if binary.LittleEndian.Uint32(b[atSum:]) != sum(b) || used > BlockBytes-headBytes {
		if first {
			return h, message.Fail(3241, d.Name)
		}
		return h, message.Fail(3189)
	}
	h = blockHead{kind: b[atKind], family: b[atFamily], count: b[atCount], number: binary.LittleEndian.Uint32(b[atNumber:]),
		body: b[headBytes : headBytes+used]}
	copy(h.set[:], b[atSet:])
	return h, nil
}

// Next skips what is left of the current set and reads the next one's heads. After
// the last set the error is io.EOF; media without any set are 3208 or 3242.
func (m *Media) Next() (*Set, error) {
	position := 1
	if m.set != nil {
		if err := m.set.Skip(); err != nil {
			return nil, err
		}
		position = m.set.Position + 1
	}
	s := &Set{m: m, numbers: make([]uint32, len(m.devices)), Position: position}
	var set value.GUID
	order := make([]int, len(m.devices))
	seen := map[byte]int{}
	for i := range m.devices {
		h, err := m.read(i, true)
		if errors.Is(err, io.EOF) {
			if position > 1 && i == 0 {
				return nil, io.EOF
			}
			return nil, message.Fail(3208)
		}
		if err != nil {
			return nil, err
		}
		if err := s.family(h, i, &set, seen); err != nil {
			return nil, err
		}
		if !m.partial {
			order[h.family] = i
		}
		s.numbers[i] = 1
		if i > 0 {
			continue // every head says the same
		}
		if err := json.Unmarshal(h.body, &s.Header); err != nil || s.Header.BackupSetGUID != h.set || len(s.Header.Boot.Forks) == 0 {
			return nil, message.Fail(3241, m.devices[i].Name)
		}
	}
	m.order, m.set = order, s
	s.Header.Position = position
	return s, nil
}

// family checks that a head is that of a family which fits the others.
func (s *Set) family(h blockHead, i int, set *value.GUID, seen map[byte]int) error {
	d := s.m.devices
	if h.kind != kindHead || h.number != 0 || h.count == 0 || h.family >= h.count {
		return message.Fail(3241, d[i].Name)
	}
	if i == 0 {
		*set = h.set
	}
	if first, ok := seen[h.family]; ok {
		return message.Fail(3227, d[i].Name, int(h.family)+1, d[first].Name)
	}
	seen[h.family] = i
	switch {
	case int(h.count) > len(d) && !s.m.partial:
		return message.Fail(3132, int(h.count), len(d))
	case int(h.count) < len(d):
		return message.Fail(3231, d[i].Name, int(h.count), len(d))
	case h.set != *set:
		return message.Fail(3133, d[i].Name, 1, int(h.family)+1, 1, i+1)
	}
	return nil
}

// block reads a block of the set's content; false at its tail.
func (s *Set) block(device int) (blockHead, bool, error) {
	h, err := s.m.read(device, false)
	if errors.Is(err, io.EOF) {
		return h, false, message.Fail(3203, s.m.devices[device].Name, "38(Reached the end of the file.)")
	}
	if err != nil {
		return h, false, err
	}
	if h.number != s.numbers[device] || h.set != s.Header.BackupSetGUID {
		return h, false, message.Fail(3189)
	}
	s.numbers[device]++
	switch h.kind {
	case kindData:
		return h, true, nil
	case kindTail:
		var t tail
		if err := json.Unmarshal(h.body, &t); err != nil {
			return h, false, message.Fail(3189)
		}
		s.Header.BackupSize, s.Header.LastLSN, s.Header.FinishDate = t.BackupSize, t.LastLSN, t.FinishDate
		return h, false, nil
	}
	return h, false, message.Fail(3189)
}

// take fills b with content; io.EOF if the set ends before its first byte.
func (s *Set) take(b []byte) error {
	for got := 0; got < len(b); {
		if len(s.content) == 0 {
			device := s.m.order[s.turn]
			h, data, err := s.block(device)
			if err != nil {
				return err
			}
			if !data {
				if got > 0 {
					return message.Fail(3189)
				}
				return s.end(device)
			}
			s.turn = (s.turn + 1) % len(s.m.devices)
			s.content = h.body
		}
		n := copy(b[got:], s.content)
		got += n
		s.content = s.content[n:]
	}
	return nil
}

// end reads the tails of the other devices after the first one.
func (s *Set) end(first int) error {
	s.done = true
	for i := range s.m.devices {
		if i == first {
			continue
		}
		if _, data, err := s.block(i); err != nil {
			return err
		} else if data {
			return message.Fail(3189)
		}
	}
	return io.EOF
}

// mostItem is the longest item: a log record that formats a page has its bytes
// twice.
const mostItem = 256 << 10

// Item reads the next piece of content, with memory of its own. After the last one
// the error is io.EOF, and Header is final; all other errors are SQL Server's.
func (s *Set) Item() (Item, error) {
	if s.done || s.m.partial {
		return Item{}, io.EOF
	}
	var head [5]byte
	if err := s.take(head[:]); err != nil {
		return Item{}, err
	}
	n := binary.LittleEndian.Uint32(head[1:])
	if n > mostItem {
		return Item{}, message.Fail(3189)
	}
	body := make([]byte, n)
	if err := s.take(body); err != nil {
		if errors.Is(err, io.EOF) {
			err = message.Fail(3189)
		}
		return Item{}, err
	}
	it, err := decodeItem(head[0], body)
	if err != nil {
		return it, message.Fail(3189)
	}
	return it, nil
}

// Skip reads to the end of the set, so that Header is final.
func (s *Set) Skip() error {
	if s.done {
		return nil
	}
	s.done, s.content = true, nil
	for i := range s.m.devices {
		for {
			_, data, err := s.block(i)
			if err != nil {
				return err
			}
			if !data {
				break
			}
		}
	}
	return nil
}
