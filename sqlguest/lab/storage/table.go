package storage

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"holdfast/sqlguest/lab/storage/engine"
	"slices"
	"strings"

	"holdfast/sqlguest/lab/storage/message"
	"holdfast/sqlguest/lab/storage/page"
	"holdfast/sqlguest/lab/value"
)

// Table describes one table.
type Table struct {
	ID      uint32
	Name    string
	Columns []value.Column
	// Note is kept with the table and means nothing here: keys, defaults, identity.
	Note  string
	first page.ID
	at    RowID // its row in the table of tables
}

// RowID says where a row lies. An update may move the row and gives the new place.
type RowID struct {
	Page page.ID
	Slot int
}

// Row is a row with its place.
type Row struct {
	ID     RowID
	Values []any
}

// Tables are all tables, by their numbers. 927, 942, 945 if the database is not open.
func (db *Database) Tables() ([]Table, error) {
	db.e.Lock()
	defer db.e.Unlock()
	if err := db.e.Usable(); err != nil {
		return nil, err
	}
	var out []Table
	for _, t := range db.tables {
		out = append(out, *t)
	}
	slices.SortFunc(out, func(a, b Table) int { return cmp.Compare(a.ID, b.ID) })
	return out, nil
}

// Table finds a table by its name in any case; 208 if there is none.
func (db *Database) Table(name string) (Table, error) {
	db.e.Lock()
	defer db.e.Unlock()
	if err := db.e.Usable(); err != nil {
		return Table{}, err
	}
	t, err := db.table(name)
	if err != nil {
		return Table{}, err
	}
	return *t, nil
}

func (db *Database) table(name string) (*Table, error) {
	if t, ok := db.tables[strings.ToLower(name)]; ok {
		return t, nil
	}
	return nil, message.Fail(208, name)
}

// system is the table of tables as a table.
func (db *Database) system() *Table { return &Table{ID: engine.SystemObject, first: db.e.Boot.System} }

// loadTables reads the table of tables anew, after anything that may have changed
// it behind the cache: recovery, rollback.
func (db *Database) loadTables() error {
	db.tables, db.tails = map[string]*Table{}, map[uint32]page.ID{}
	rows, err := db.scan(db.system())
	if err != nil {
		return err
	}
	for _, r := range rows {
		t := &Table{at: r.ID}
		v := r.Values
		if len(v) != 6 {
			return fmt.Errorf("read table of tables: a row of %d values", len(v))
		}
		t.ID, t.Name, t.Note = uint32(v[0].(int64)), v[1].(string), v[5].(string)
		t.first = page.ID{File: uint16(v[2].(int64)), Page: uint32(v[3].(int64))}
		if err := json.Unmarshal([]byte(v[4].(string)), &t.Columns); err != nil {
			return fmt.Errorf("read table of tables: %w", err)
		}
		db.tables[strings.ToLower(t.Name)] = t
	}
	return nil
}

func (t *Table) row() ([]byte, error) {
	columns, err := json.Marshal(t.Columns)
	if err != nil {
		return nil, fmt.Errorf("write table %s: %w", t.Name, err)
	}
	return page.EncodeRow([]any{int64(t.ID), t.Name, int64(t.first.File), int64(t.first.Page), string(columns), t.Note})
}

// CreateTable makes a table; 2714 if there is one of that name.
func (tx *Tx) CreateTable(name string, columns []value.Column, note string) (Table, error) {
	db := tx.db
	db.e.Lock()
	defer db.e.Unlock()
	if _, ok := db.tables[strings.ToLower(name)]; ok {
		return Table{}, message.Fail(2714, name)
	}
	t := &Table{ID: db.e.Boot.NextObject, Name: name, Columns: columns, Note: note}
	for _, other := range db.tables {
		t.ID = max(t.ID, other.ID+1)
	}
	db.e.Boot.NextObject = t.ID + 1
	var err error
	if t.first, err = db.e.Allocate(tx.t, t.ID); err != nil {
		return Table{}, err
	}
	raw, err := t.row()
	if err != nil {
		return Table{}, err
	}
	if t.at, err = db.insert(tx, db.system(), raw); err != nil {
		return Table{}, err
	}
	db.tables[strings.ToLower(name)] = t
	return *t, nil
}

// DropTable removes a table and frees its pages; 208 if there is none.
func (tx *Tx) DropTable(name string) error {
	db := tx.db
	db.e.Lock()
	defer db.e.Unlock()
	t, err := db.table(name)
	if err != nil {
		return err
	}
	ids, err := db.chain(t)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := db.e.MapPage(tx.t, id, false); err != nil {
			return err
		}
	}
	err = db.e.Change(tx.t, t.at.Page, false, func(p page.Page) error { p.Delete(t.at.Slot); return nil })
	delete(db.tables, strings.ToLower(name))
	delete(db.tails, t.ID)
	return err
}

// chain lists a table's pages in order.
func (db *Database) chain(t *Table) ([]page.ID, error) {
	var out []page.ID
	p := make(page.Page, page.Bytes)
	for id := t.first; !id.IsZero(); id = p.Next() {
		if err := db.e.ReadPage(id, p); err != nil {
			return nil, err
		}
		if p.Object() != t.ID || len(out) > engine.MaxPages {
			return nil, message.Fail(824, id.File, id.Page, db.e.Boot.Name)
		}
		out = append(out, id)
	}
	return out, nil
}

// Insert adds a row: nil, bool, int64, float64, string, []byte, value.GUID,
// value.Number, time.Time. 511 if it is longer than a page holds.
func (tx *Tx) Insert(table string, row []any) (RowID, error) {
	raw, err := encode(row)
	if err != nil {
		return RowID{}, err
	}
	db := tx.db
	db.e.Lock()
	defer db.e.Unlock()
	t, err := db.table(table)
	if err != nil {
		return RowID{}, err
	}
	return db.insert(tx, t, raw)
}

func encode(row []any) ([]byte, error) {
	raw, err := page.EncodeRow(row)
	if err == nil && len(raw) > page.MaxRowBytes {
		err = message.Fail(511, len(raw), page.MaxRowBytes)
	}
	return raw, err
}

// insert puts a row on the table's last page, or on a new one behind it.
func (db *Database) insert(tx *Tx, t *Table, raw []byte) (RowID, error) {
	tail, err := db.tail(t)
	if err != nil {
		return RowID{}, err
	}
	at := RowID{Page: tail}
	fits := true
	try := func(p page.Page) error { at.Slot, fits = p.Insert(raw); return nil }
	if err := db.e.Change(tx.t, tail, false, keepIf(&fits, try)); err != nil || fits {
		return at, err
	}
	if at.Page, err = db.e.Allocate(tx.t, t.ID); err != nil {
		return at, err
	}
	if err := db.e.Change(tx.t, tail, false, func(p page.Page) error { p.SetNext(at.Page); return nil }); err != nil {
		return at, err
	}
	db.tails[t.ID] = at.Page
	return at, db.e.Change(tx.t, at.Page, false, try)
}

// keepIf leaves the page as it was if the change said that it does not fit.
func keepIf(fits *bool, mutate func(page.Page) error) func(page.Page) error {
	return func(p page.Page) error {
		before := append(page.Page(nil), p...)
		err := mutate(p)
		if !*fits {
			copy(p, before)
		}
		return err
	}
}

// tail is the table's last page.
func (db *Database) tail(t *Table) (page.ID, error) {
	if id, ok := db.tails[t.ID]; ok {
		return id, nil
	}
	ids, err := db.chain(t)
	if err != nil {
		return page.ID{}, err
	}
	db.tails[t.ID] = ids[len(ids)-1]
	return ids[len(ids)-1], nil
}

// Update replaces a row and says where it is now.
func (tx *Tx) Update(table string, at RowID, row []any) (RowID, error) {
	raw, err := encode(row)
	if err != nil {
		return RowID{}, err
	}
	db := tx.db
	db.e.Lock()
	defer db.e.Unlock()
	t, err := db.table(table)
	if err != nil {
		return RowID{}, err
	}
	fits := true
	err = db.e.Change(tx.t, at.Page, false, func(p page.Page) error {
		if err := db.own(t, p, at); err != nil {
			return err
		}
		if fits = p.Replace(at.Slot, raw); !fits {
			p.Delete(at.Slot) // it moves
		}
		return nil
	})
	if err != nil || fits {
		return at, err
	}
	return db.insert(tx, t, raw)
}

// Delete removes a row.
func (tx *Tx) Delete(table string, at RowID) error {
	db := tx.db
	db.e.Lock()
	defer db.e.Unlock()
	t, err := db.table(table)
	if err != nil {
		return err
	}
	return db.e.Change(tx.t, at.Page, false, func(p page.Page) error {
		if err := db.own(t, p, at); err != nil {
			return err
		}
		p.Delete(at.Slot)
		return nil
	})
}

// own checks that a row id names a row of the table.
func (db *Database) own(t *Table, p page.Page, at RowID) error {
	if _, ok := p.Row(at.Slot); !ok || p.Object() != t.ID {
		return fmt.Errorf("find row %s:%d of %s: there is none", at.Page, at.Slot, t.Name)
	}
	return nil
}

// Scan gives all rows of a table as the transaction sees them.
func (tx *Tx) Scan(table string) ([]Row, error) {
	tx.db.e.Lock()
	defer tx.db.e.Unlock()
	return tx.db.scanName(table)
}

// Scan gives all rows of a table as they were committed: it waits for a transaction
// that writes.
func (db *Database) Scan(ctx context.Context, table string) ([]Row, error) {
	if err := db.e.Wait(ctx); err != nil {
		return nil, err
	}
	defer func() { db.e.Leave() }()
	return db.ScanUncommitted(table)
}

// ScanUncommitted gives all rows as they are at this moment (READ UNCOMMITTED).
func (db *Database) ScanUncommitted(table string) ([]Row, error) {
	db.e.Lock()
	defer db.e.Unlock()
	return db.scanName(table)
}

func (db *Database) scanName(table string) ([]Row, error) {
	if err := db.e.Usable(); err != nil {
		return nil, err
	}
	t, err := db.table(table)
	if err != nil {
		return nil, err
	}
	return db.scan(t)
}

func (db *Database) scan(t *Table) ([]Row, error) {
	var out []Row
	p := make(page.Page, page.Bytes)
	for id := t.first; !id.IsZero(); id = p.Next() {
		if err := db.e.ReadPage(id, p); err != nil {
			return nil, err
		}
		if p.Object() != t.ID {
			return nil, message.Fail(824, id.File, id.Page, db.e.Boot.Name)
		}
		for i := range p.Slots() {
			raw, ok := p.Row(i)
			if !ok {
				continue
			}
			values, err := page.DecodeRow(raw)
			if err != nil {
				return nil, err
			}
			out = append(out, Row{RowID{id, i}, values})
		}
	}
	return out, nil
}
