package engine

import "holdfast/sqlguest/lab/storage/page"

// Usage is how many pages of a data file lie in extents that are in use, and how many in
// extents that a differential would hold.
type Usage struct {
	File                       uint16
	Total, Allocated, Modified int64
}

// Usage counts them, and writes nothing. Extents 0 and 1 of a file, its header and the
// boot record, always count as modified, as a differential always has them: a full writes
// there itself. Without a differential base everything is modified.
func (e *Engine) Usage() ([]Usage, error) {
	e.Lock()
	defer e.Unlock()
	if err := e.Usable(); err != nil {
		return nil, err
	}
	var all []Usage
	for _, f := range e.Boot.Files {
		d := e.Data[f.ID]
		if d == nil {
			continue // the log, or a dropped file
		}
		used, err := e.Allocated(f.ID)
		if err != nil {
			return nil, err
		}
		u := Usage{File: f.ID, Total: int64(f.Pages)}
		for n := range f.Pages / page.ExtentPages {
			if used.Any(n*page.ExtentPages, (n+1)*page.ExtentPages) {
				u.Allocated += page.ExtentPages
			}
			if n < 2 || d.Changed.Has(n) {
				u.Modified += page.ExtentPages
			}
		}
		if f.Base == (Base{}) {
			u.Modified = u.Total
		}
		all = append(all, u)
	}
	return all, nil
}
