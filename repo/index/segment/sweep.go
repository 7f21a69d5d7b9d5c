package segment

// FindSorted is Find for n keys at once, key(0) to key(n-1), which ascend; equal
// ones may follow each other. fn is told of each row of key(i), until it returns
// false for that i. Where there are many keys to a page the pages are read in
// sequence and checked once, which costs a small part of n calls of Find.
// Memory: 256 KiB. Errors are those of Find.
func (s *Segment) FindSorted(n int, key func(i int) Key, fn func(i int, r Row, at int) bool) error {
	w := sweep{seg: s, at: -1}
	if n > len(s.fences)/4 {
		w.buf = make([]byte, min(cursorPages, len(s.fences))*pageBytes)
	} else {
		w.buf = make([]byte, pageBytes)
	}
	first := 0 // the first fence that is not below the key: see Find
	for i := range n {
		k := key(i)
		for first < len(s.fences) && compareKeys(s.fences[first], k) < 0 {
			first++
		}
		more, err := true, error(nil)
		for p := max(first-1, 0); more && p < len(s.fences) && (p == first-1 || s.fences[p] == k); p++ {
			if err := w.turnTo(p); err != nil {
				return err
			}
			w.seek(k)
			more, err = s.rowsOf(k, w.page, p, w.row, w.count, func(r Row, at int) bool { return fn(i, r, at) })
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// sweep reads the pages of a segment in ascending order, passing over some.
type sweep struct {
	seg  *Segment
	buf  []byte
	from int // number of the first page in buf
	held int // pages in buf

	at    int // number of page, -1 before the first
	page  []byte
	count int
	row   int // no row of page before it is of the key sought last, or above it
}

// turnTo makes p the page, and checks it.
func (w *sweep) turnTo(p int) (err error) {
	if p == w.at {
		return nil
	}
	if p < w.from || p >= w.from+w.held {
		w.from, w.held = p, min(len(w.buf)/pageBytes, len(w.seg.fences)-p)
		if err := ReadAt(w.seg.r, w.buf[:w.held*pageBytes], int64(p)*pageBytes); err != nil {
			w.held = 0
			return err
		}
	}
	w.page = w.buf[(p-w.from)*pageBytes:][:pageBytes]
	w.at, w.row = p, 0
	w.count, err = w.seg.checkPage(p, w.page)
	return err
}

// seek goes on to the first row of the page that is not below key, which is not
// below the one sought before.
func (w *sweep) seek(key Key) {
	for w.row < w.count && compareKeys(Key(w.page[w.row*entryBytes:][:16]), key) < 0 {
		w.row++
	}
}
