package backups

import (
	"context"
	"errors"
	"io"
	"strings"

	"holdfast/sqlguest/lab/backups/stream"
	"holdfast/sqlguest/lab/storage"
	"holdfast/sqlguest/lab/storage/message"
	"holdfast/sqlguest/lab/storage/wal"
	"holdfast/sqlguest/lsn"
	"holdfast/sqlguest/server"
)

// log rolls a log backup forward. It is read to its end before anything is changed,
// so that a damaged one leaves the database where it was.
func (r *restoring) log(ctx context.Context) error {
	i, err := r.target()
	if err != nil {
		return err
	}
	roll, err := r.readLog(ctx)
	if err != nil {
		return err
	}
	switch {
	case i.RedoStart.Less(r.h.FirstLSN) && r.h.BeginsLogChain:
		return message.Fail(4312)
	case i.RedoStart.Less(r.h.FirstLSN):
		return message.Fail(4305, r.h.FirstLSN, i.RedoStart)
	case r.h.LastLSN.Less(i.RedoStart):
		return message.Fail(4326, r.h.LastLSN, i.RedoStart)
	case !r.samePath(&i):
		return message.Fail(4330)
	}
	if err := r.logStop(&roll, &i); err != nil {
		return err
	}
	roll.Place = r.placer()
	if r.h.LastLSN == i.RedoStart {
		return nil // it holds nothing that the database lacks
	}
	return r.db.RollForward(roll)
}

// readLog reads the whole set.
func (r *restoring) readLog(ctx context.Context) (storage.Roll, error) {
	roll := storage.Roll{First: r.h.FirstLSN, Last: r.h.LastLSN, Forks: r.h.Boot.Forks}
	for {
		if err := check(ctx); err != nil {
			return roll, err
		}
		it, err := r.set.Item()
		if errors.Is(err, io.EOF) {
			return roll, nil
		}
		if err != nil {
			return roll, err
		}
		switch {
		case it.Record != nil:
			roll.Records = append(roll.Records, *it.Record)
			r.pages[2] = int64(len(roll.Records)/64) + 1
		case it.Bulk != nil:
			roll.Bulk = append(roll.Bulk, *it.Bulk)
			r.pages[it.Bulk.File] += 8
		}
	}
}

// lsn reads the lsn: form of a mark; isLSN is false for a name, 4334 for nonsense.
func (s Stop) lsn() (at lsn.LSN, isLSN bool, err error) {
	text, isLSN := strings.CutPrefix(strings.ToLower(s.Mark), "lsn:")
	if !isLSN {
		return lsn.LSN{}, false, nil
	}
	if at, err = lsn.Parse(strings.TrimSpace(text)); err != nil {
		return at, true, message.Fail(4334)
	}
	return at, true, nil
}

// logStop finds where the stop clause ends this log: 4334, 4335, 4341. A log that
// does not reach the stop is rolled forward whole, and 4322 or 4329 say so.
func (r *restoring) logStop(roll *storage.Roll, i *storage.Info) error {
	stop := r.o.Stop
	if stop.isZero() {
		return nil
	}
	var at lsn.LSN
	var found bool
	missing := int32(4329)
	if stop.Mark == "" {
		missing = 4322
		if i.RedoTime.After(stop.At) {
			return message.Fail(4335)
		}
		at, found = stopAtTime(roll.Records, i.RedoStart, stop)
	} else {
		mark, isLSN, err := stop.lsn()
		switch {
		case err != nil:
			return err
		case isLSN:
			found = mark.Less(roll.Last)
		default:
			mark, found = findMark(roll.Records, i.RedoStart, stop)
		}
		if found && mark.Less(i.RedoStart) {
			return message.Fail(4335)
		}
		at = mark
		if found && !stop.Before {
			at = after(roll, mark)
		}
	}
	if !found {
		r.reached = false
		r.note(missing, true)
		return nil
	}
	if at == roll.Last {
		return nil
	}
	if len(roll.Bulk) > 0 {
		return message.Fail(4341)
	}
	roll.Stop = at
	return nil
}

// stopAtTime finds the first record after the database's point whose time lies
// behind the stop. Only the order of the log counts: a clock that was set back
// brings no record back in.
func stopAtTime(recs []wal.Record, from lsn.LSN, stop Stop) (lsn.LSN, bool) {
	for i := range recs {
		if r := &recs[i]; !r.LSN.Less(from) && r.Time.After(stop.At) {
			return r.LSN, true
		}
	}
	return lsn.LSN{}, false
}

// findMark finds the first commit with the mark, at or after the clause's time.
func findMark(recs []wal.Record, from lsn.LSN, stop Stop) (lsn.LSN, bool) {
	for i := range recs {
		r := &recs[i]
		if r.Op == wal.Commit && strings.EqualFold(r.Mark.Name, stop.Mark) && !r.LSN.Less(from) && !r.Time.Before(stop.After) {
			return r.LSN, true
		}
	}
	return lsn.LSN{}, false
}

// after is the LSN of the record that follows a mark in the log.
func after(roll *storage.Roll, mark lsn.LSN) lsn.LSN {
	for i := range roll.Records {
		if mark.Less(roll.Records[i].LSN) {
			return roll.Records[i].LSN
		}
	}
	return roll.Last
}

// HeaderOnly is RESTORE HEADERONLY: the headers of all sets on the media. Any of the
// families will do.
func (s *Server) HeaderOnly(ctx context.Context, devices []Device) ([]stream.Header, error) {
	var out []stream.Header
	m, set, err := s.open(devices, true, 1)
	for err == nil {
		if err = check(ctx); err != nil {
			break
		}
		if err = set.Skip(); err != nil {
			break
		}
		out = append(out, set.Header)
		set, err = m.Next()
	}
	if errors.Is(err, io.EOF) {
		return out, nil
	}
	return nil, message.Then(err, 3013, "RESTORE HEADERONLY")
}

// FileListOnly is RESTORE FILELISTONLY: the header of one set, whose Files are the
// answer. Only the head is read, so the devices may be given up afterwards.
func (s *Server) FileListOnly(ctx context.Context, file int, devices []Device) (stream.Header, error) {
	err := check(ctx)
	if err == nil {
		var set *stream.Set
		if _, set, err = s.open(devices, true, file); err == nil {
			return set.Header, nil
		}
	}
	return stream.Header{}, message.Then(err, 3013, "RESTORE FILELIST")
}

// VerifyOnly is RESTORE VERIFYONLY: everything is read and checked, nothing changed.
func (s *Server) VerifyOnly(ctx context.Context, file int, checksum bool, devices []Device) ([]server.Message, error) {
	_, set, err := s.open(devices, false, file)
	if err == nil && checksum && !set.Header.HasBackupChecksums {
		err = message.Fail(3187)
	}
	for err == nil {
		if err = check(ctx); err != nil {
			break
		}
		_, err = set.Item()
	}
	if errors.Is(err, io.EOF) {
		return []server.Message{message.New(3262, set.Header.Position)}, nil
	}
	return nil, message.Then(err, 3013, "VERIFY DATABASE")
}
