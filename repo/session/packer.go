package session

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"holdfast/repo/blob"
	"holdfast/repo/index"
	"holdfast/repo/ledger"
	"holdfast/repo/pack"
	"holdfast/repo/parity"
)

// uploadsAtOnce are packs being sealed or written, per packer: it bounds memory.
const uploadsAtOnce = 2

// packer gathers chunks of one kind of object until a pack is full, then seals
// and writes it beside the caller.
type packer struct {
	// ctx is the session's. A pack is written after the call that filled it has
	// returned, so that call's context cannot serve.
	ctx  context.Context
	s    *Session
	kind parity.Kind

	mu     sync.Mutex
	fill   pack.Fill
	chunks []pack.Chunk

	group errgroup.Group
	failM sync.Mutex
	fail  error // the first error of an upload
}

func newPacker(ctx context.Context, s *Session, kind parity.Kind) *packer {
	p := &packer{ctx: ctx, s: s, kind: kind, fill: pack.Fill{Profile: s.c.Profile}}
	p.group.SetLimit(uploadsAtOnce)
	return p
}

// add compresses plain and puts it into the open pack.
func (p *packer) add(id blob.ID, kind blob.Kind, plain []byte) error {
	if err := p.failed(); err != nil {
		return err
	}
	framed := pack.Compress(pack.Mode(p.s.opts.Compression), kind, plain, nil)
	chunk := pack.Chunk{ID: id, Kind: kind, RawBytes: len(plain), Data: framed}
	p.mu.Lock()
	var full []pack.Chunk
	if !p.fill.Fits(len(framed)) {
		full, p.chunks = p.chunks, nil
		p.fill.Reset()
	}
	p.fill.Add(len(framed))
	p.chunks = append(p.chunks, chunk)
	p.mu.Unlock()
	if full != nil {
		p.upload(full)
	}
	return nil
}

// upload seals and writes chunks as one pack; it blocks while too many are
// under way.
func (p *packer) upload(chunks []pack.Chunk) {
	p.group.Go(func() error {
		err := p.write(p.ctx, chunks)
		if err != nil {
			p.failM.Lock()
			if p.fail == nil {
				p.fail = err
			}
			p.failM.Unlock()
		}
		return err
	})
}

func (p *packer) failed() error {
	p.failM.Lock()
	defer p.failM.Unlock()
	return p.fail
}

func (p *packer) write(ctx context.Context, chunks []pack.Chunk) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	prefix := ledger.Data
	if p.kind == parity.Meta {
		prefix = ledger.Meta
	}
	params := p.s.c.Params(p.kind, "")
	params.NameOf = func(id [16]byte) string { return ledger.PackName(prefix, p.s.sid, id) }
	object, err := pack.Encode(params, chunks)
	if err != nil {
		return fmt.Errorf("seal pack: %w", err)
	}
	if err := p.s.c.Backend.Put(ctx, object.Name, object.Bytes); err != nil {
		return fmt.Errorf("write pack: %w", err)
	}
	var stored int64
	entries := make([]index.Entry, len(object.Entries))
	for i, e := range object.Entries {
		entries[i] = index.Entry{ID: e.ID, Offset: e.Offset, Stored: e.Stored}
		stored += int64(e.Stored)
	}
	told := int64(len(entries))
	if p.kind == parity.Meta {
		told = 0 // nodes of maps are no chunks to an operator
	}
	p.s.count(stored, told)
	return p.s.segment.add(ctx, index.Pack{
		SID: p.s.sid.String(), Kind: uint8(p.kind), ID: object.Header.ID, Epoch: object.Header.Epoch,
		Bytes: uint32(len(object.Bytes)), Count: object.Count, Sum: object.Sum,
	}, entries)
}

// close writes the open pack and waits for all uploads. The packer can be used
// again afterwards.
func (p *packer) close() error {
	p.mu.Lock()
	rest := p.chunks
	p.chunks = nil
	p.fill.Reset()
	p.mu.Unlock()
	if len(rest) > 0 {
		p.upload(rest)
	}
	p.group.Wait() //nolint:errcheck // the first error is kept in fail
	return p.failed()
}

// drop forgets the open pack and waits for the uploads under way.
func (p *packer) drop() {
	p.mu.Lock()
	p.chunks = nil
	p.mu.Unlock()
	p.group.Wait() //nolint:errcheck // the session is given up anyway
}
