package demo

import (
	"fmt"
	"io"
	"math/rand/v2"
)

// pageBytes is the unit in which contents are made and caches work: a page of
// memory, and a block of the demo's ext4.
const pageBytes = 4096

// texture is what the bytes of a file are like.
type texture int

const (
	noise   texture = iota // photographs, libraries, encrypted files: nothing compresses them
	prose                  // a log: compresses well
	records                // a database: every page half full
)

// content is what a file holds. It is a few numbers, not bytes, so that files
// of any size can be written, changed and compared without being kept in
// memory. The same numbers always make the same bytes.
type content struct {
	texture texture
	seed    uint64
	bytes   int64
	// rewritten are the pages that were written again since, with their new seeds.
	rewritten map[int64]uint64
}

// ReadAt implements io.ReaderAt.
func (c content) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		at := off + int64(done)
		if at >= c.bytes {
			return done, io.EOF
		}
		page := c.page(at / pageBytes)
		room := min(int64(len(p)-done), c.bytes-at)
		done += copy(p[done:done+int(room)], page[at%pageBytes:])
	}
	return done, nil
}

// reader reads the content from off to its end.
func (c content) reader(off int64) io.Reader { return io.NewSectionReader(c, off, c.bytes-off) }

// page makes the n-th page, whole even where the content ends within it.
func (c content) page(n int64) []byte {
	seed := c.seed
	if again, ok := c.rewritten[n]; ok {
		seed = again
	}
	random := rand.New(rand.NewPCG(seed, uint64(n)))
	page := make([]byte, 0, pageBytes+128)
	switch c.texture {
	case prose:
		for len(page) < pageBytes {
			page = fmt.Appendf(page, "10.0.%d.%d GET /products/%04d 200 %d\n", random.IntN(4), random.IntN(256), random.IntN(3000), 300+random.IntN(9000))
		}
	case records:
		page = appendNoise(page, random, pageBytes/2)
		page = append(page, make([]byte, pageBytes/2)...)
	default:
		page = appendNoise(page, random, pageBytes)
	}
	return page[:pageBytes]
}

func appendNoise(p []byte, random *rand.Rand, n int) []byte {
	for ; n > 0; n -= 8 {
		v := random.Uint64()
		p = append(p, byte(v), byte(v>>8), byte(v>>16), byte(v>>24), byte(v>>32), byte(v>>40), byte(v>>48), byte(v>>56))
	}
	return p
}
