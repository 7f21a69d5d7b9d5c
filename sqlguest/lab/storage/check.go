package storage

import (
	"holdfast/sqlguest/lab/storage/engine"
	"holdfast/sqlguest/lab/storage/message"
	"holdfast/sqlguest/lab/storage/page"
)

// Check reads everything, as DBCC CHECKDB does: each page in use has its checksum
// and its place, each belongs to exactly one table, each row can be read. It gives
// all problems that it finds (824 and others); none is a database in order. The
// error says that the database cannot be read at all: 927, 942, 945.
func (db *Database) Check() (problems []error, err error) {
	db.e.Lock()
	defer db.e.Unlock()
	if err := db.e.Usable(); err != nil {
		return nil, err
	}
	owner := map[page.ID]uint32{}
	tables := []*Table{db.system()}
	for _, t := range db.tables {
		tables = append(tables, t)
	}
	for _, t := range tables {
		ids, err := db.chain(t)
		if err == nil {
			_, err = db.scan(t)
		}
		if err != nil {
			problems = append(problems, err)
		}
		for _, id := range ids {
			if _, twice := owner[id]; twice {
				problems = append(problems, message.Fail(824, id.File, id.Page, db.e.Boot.Name))
			}
			owner[id] = t.ID
		}
	}
	for _, f := range db.e.Boot.Files {
		if f.Type == Rows && f.DropLSN.IsZero() {
			problems = append(problems, db.checkFile(f, owner)...)
		}
	}
	return problems, nil
}

// checkFile compares a file's map of allocated pages with the tables' pages.
func (db *Database) checkFile(f File, owner map[page.ID]uint32) (problems []error) {
	used, err := db.e.Allocated(f.ID)
	if err != nil {
		return []error{err}
	}
	p := make(page.Page, page.Bytes)
	for n := uint32(engine.FirstFree); n < f.Pages; n++ {
		id := page.ID{File: f.ID, Page: n}
		_, owned := owner[id]
		if used.Has(n) != owned {
			problems = append(problems, message.Fail(824, f.ID, n, db.e.Boot.Name))
		}
		if !used.Has(n) {
			continue
		}
		if err := db.e.ReadPage(id, p); err != nil {
			problems = append(problems, err)
		} else if p.ID() != id {
			problems = append(problems, message.Fail(824, f.ID, n, db.e.Boot.Name))
		}
	}
	return problems
}
