package storage

import (
	"holdfast/sqlguest/lab/storage/page"
	"holdfast/sqlguest/lab/storage/wal"
)

// BulkInsert adds many rows. In BULK_LOGGED and SIMPLE their pages are not logged,
// only which pages they are: the next log backup then holds the pages themselves
// and can only be restored to its end. In FULL, and while a data backup runs, every
// row is logged.
func (tx *Tx) BulkInsert(table string, rows [][]any) error {
	db := tx.db
	var raws [][]byte
	for _, row := range rows {
		raw, err := encode(row)
		if err != nil {
			return err
		}
		raws = append(raws, raw)
	}
	db.e.Lock()
	defer db.e.Unlock()
	t, err := db.table(table)
	if err != nil || len(raws) == 0 {
		return err
	}
	if db.e.Boot.Model == Full || db.e.DataBackupRuns() {
		for _, raw := range raws {
			if _, err := db.insert(tx, t, raw); err != nil {
				return err
			}
		}
		return nil
	}
	pages, err := db.fill(tx, t, raws)
	if err != nil {
		return err
	}
	return db.linkBulk(tx, t, pages)
}

// fill puts rows on new pages, which exist in memory alone as yet.
func (db *Database) fill(tx *Tx, t *Table, raws [][]byte) ([]page.Page, error) {
	var pages []page.Page
	var last page.Page
	for _, raw := range raws {
		if last != nil {
			if _, ok := last.Insert(raw); ok {
				continue
			}
		}
		// The page is allocated and emptied in the log as always; its rows are not.
		id, err := db.e.Allocate(tx.t, t.ID)
		if err != nil {
			return nil, err
		}
		if last != nil {
			last.SetNext(id)
		}
		last = make(page.Page, page.Bytes)
		last.Init(id, t.ID)
		pages = append(pages, last)
		if _, ok := last.Insert(raw); !ok {
			return nil, page.ErrRow
		}
	}
	return pages, nil
}

// linkBulk logs which pages were filled, writes them and hangs them on the table.
func (db *Database) linkBulk(tx *Tx, t *Table, pages []page.Page) error {
	r := wal.Record{Op: wal.Bulk, Tx: tx.t.ID()}
	for _, p := range pages {
		r.Pages = append(r.Pages, p.ID())
	}
	at, err := db.e.Append(r)
	if err != nil {
		return err
	}
	for _, p := range pages {
		id := p.ID()
		if err := db.e.Data[id.File].NoteBulk(id.File, id.Page/page.ExtentPages); err != nil {
			return err
		}
		if err := db.e.WritePage(id, p, at); err != nil {
			return err
		}
	}
	tail, err := db.tail(t)
	if err != nil {
		return err
	}
	db.tails[t.ID] = pages[len(pages)-1].ID()
	return db.e.Change(tx.t, tail, false, func(p page.Page) error { p.SetNext(pages[0].ID()); return nil })
}
