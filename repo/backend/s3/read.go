package s3

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/minio/minio-go/v7"

	"holdfast/repo/backend"
)

// guessBytes bounds what is allocated on a server's word for a length.
const guessBytes = 64 << 20

// Get reads length bytes from offset, or to the end if length < 0, with one
// ranged GET. On a versioned bucket it is the version that the package comment
// tells; to learn it costs one listing for each name.
func (b *Backend) Get(ctx context.Context, name string, offset, length int64) ([]byte, error) {
	if err := b.admit(ctx, "get", name); err != nil {
		return nil, err
	}
	if offset < 0 || length == 0 || length > 0 && offset > math.MaxInt64-length {
		return b.nothing(ctx, name, offset, length)
	}
	for {
		version, remembered, err := b.pick(ctx, "get", name)
		if err != nil {
			return nil, err
		}
		data, saw, err := b.fetch(ctx, "get", name, version, offset, length)
		switch {
		case remembered && errors.Is(err, backend.ErrNotFound):
			b.forget(name, version) // pruned elsewhere, and perhaps written anew
		case err == nil && version == "" && b.sawVersion(saw):
			// the first sign that there are versions: this may not be the oldest
		default:
			return data, err
		}
	}
}

// nothing answers a Get of no bytes, or of bytes that no object has.
func (b *Backend) nothing(ctx context.Context, name string, offset, length int64) ([]byte, error) {
	info, err := b.stat(ctx, "get", name)
	if err != nil {
		return nil, err
	}
	if length == 0 && offset >= 0 && offset <= info.Bytes {
		return []byte{}, nil
	}
	return nil, outside(name, offset, length, info.Bytes)
}

func outside(name string, offset, length, size int64) error {
	return fmt.Errorf("get %s: %d bytes from %d of %d: %w", name, length, offset, size, backend.ErrRange)
}

// GetVersion reads one version whole; id comes from Versions.
func (b *Backend) GetVersion(ctx context.Context, name, id string) ([]byte, error) {
	if err := b.admit(ctx, "get version", name); err != nil {
		return nil, err
	}
	data, _, err := b.fetch(ctx, "get version", name, id, 0, -1)
	return data, err
}

// fetch is one GET of one version ("" is the current one). saw is the version
// that the server says it sent.
func (b *Backend) fetch(ctx context.Context, verb, name, version string, offset, length int64) (data []byte, saw string, err error) {
	whole := offset == 0 && length < 0
	opts := minio.GetObjectOptions{VersionID: version}
	switch {
	case whole:
		opts.Set("x-amz-checksum-mode", "ENABLED")
	case length < 0:
		opts.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	default:
		opts.Set("Range", fmt.Sprintf("bytes=%d-%d", offset, offset+length-1))
	}
	body, info, header, err := b.core.GetObject(ctx, b.where.Bucket, b.key(name), opts)
	if err != nil {
		if minio.ToErrorResponse(err).StatusCode == http.StatusRequestedRangeNotSatisfiable {
			data, err = b.beyond(ctx, name, offset, length)
			return data, "", err
		}
		return nil, "", b.explain(ctx, verb, name, b.unveil(ctx, name, err))
	}
	defer body.Close()
	if version != "" && info.VersionID != "" && info.VersionID != version {
		return nil, "", fmt.Errorf("%s %s: %w: the server sent another version than it was asked for", verb, name, backend.ErrUnreachable)
	}
	part, size := partOf(header, info.Size, offset)
	if !whole && size >= 0 && length > size-offset {
		return nil, "", outside(name, offset, length, size)
	}
	if !whole && length < 0 {
		length = size - offset
	}
	if whole {
		length = info.Size
	}
	data, err = readBody(body, part, length)
	if err != nil {
		return nil, "", b.explain(ctx, verb, name, err)
	}
	if whole {
		if err := b.verify(verb, name, version, header, data); err != nil {
			return nil, "", err
		}
	}
	return data, info.VersionID, nil
}

// unveil turns "access denied" into "no such key" where that is what it means:
// Amazon hides that a key is missing from who may not list the bucket, and who
// may list only keys with a prefix counts as such in a GET. A listing tells.
func (b *Backend) unveil(ctx context.Context, name string, err error) error {
	if minio.ToErrorResponse(err).Code != "AccessDenied" {
		return err
	}
	key := b.key(name)
	for o := range b.core.ListObjectsIter(ctx, b.where.Bucket, minio.ListObjectsOptions{Prefix: key, Recursive: true, MaxKeys: 1}) {
		if o.Err != nil || o.Key == key {
			return err
		}
		break
	}
	if ctx.Err() != nil {
		return err
	}
	return minio.ErrorResponse{Code: "NoSuchKey", StatusCode: http.StatusNotFound}
}

// beyond answers a Get whose range lies outside the object, which also is how
// a server sees the empty rest of one.
func (b *Backend) beyond(ctx context.Context, name string, offset, length int64) ([]byte, error) {
	info, err := b.stat(ctx, "get", name)
	if err != nil {
		return nil, err
	}
	if length < 0 && offset == info.Bytes {
		return []byte{}, nil
	}
	if offset < info.Bytes {
		return nil, fmt.Errorf("get %s: %w: the server finds no byte %d of %d", name, backend.ErrUnreachable, offset, info.Bytes)
	}
	return nil, outside(name, offset, length, info.Bytes)
}

// partOf tells how many bytes of the body come before offset and how long the
// object is (-1 if unsaid). Without a Content-Range the server has ignored the
// range and sends all.
func partOf(header http.Header, bodyBytes, offset int64) (before, size int64) {
	span, total, ok := strings.Cut(strings.TrimPrefix(header.Get("Content-Range"), "bytes "), "/")
	if !ok {
		return offset, bodyBytes
	}
	first, _, _ := strings.Cut(span, "-")
	start, err1 := strconv.ParseInt(first, 10, 64)
	size, err2 := strconv.ParseInt(total, 10, 64)
	if err1 != nil || err2 != nil || size < 0 {
		return -1, -1
	}
	return offset - start, size
}

// readBody skips some bytes of body and returns the length ones that follow;
// length < 0 is all that come. Fewer are an error, whatever the body says.
func readBody(body io.Reader, skip, length int64) ([]byte, error) {
	if skip < 0 {
		return nil, errors.New("server sent another range than it was asked for")
	}
	if _, err := io.CopyN(io.Discard, body, skip); err != nil {
		return nil, fmt.Errorf("body ends early: %w", err)
	}
	if length >= 0 {
		body = io.LimitReader(body, length)
	}
	into := bytes.NewBuffer(make([]byte, 0, min(max(length, 0), guessBytes)+bytes.MinRead))
	n, err := into.ReadFrom(body)
	if err == nil && length >= 0 && n != length {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("body ends after %d of %d bytes: %w", n, length, err)
	}
	return into.Bytes(), nil
}

// storedSums are the checksums that a server may keep with an object.
var storedSums = []minio.ChecksumType{minio.ChecksumCRC32C, minio.ChecksumCRC64NVME, minio.ChecksumSHA256, minio.ChecksumCRC32, minio.ChecksumSHA1}

// verify compares data with the server's checksum of the whole object, if it
// gave one. Sums with a '-' are of an upload's parts.
func (b *Backend) verify(verb, name, version string, header http.Header, data []byte) error {
	for _, kind := range storedSums {
		want := header.Get(kind.Key())
		if want == "" || strings.Contains(want, "-") || header.Get("x-amz-checksum-type") == "COMPOSITE" {
			continue
		}
		hash := kind.Hasher()
		hash.Write(data) // never fails
		got := base64.StdEncoding.EncodeToString(hash.Sum(nil))
		if b.believe(name+"\x00"+version, got, got == want) {
			return nil
		}
		return fmt.Errorf("%s %s: %w (%s)", verb, name, ErrChecksum, kind)
	}
	return nil
}

// believe: bytes with the right sum, or with the wrong one that came before too.
func (b *Backend) believe(which, sum string, right bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if right {
		delete(b.doubts, which)
		return true
	}
	if b.doubts[which] == sum {
		name, _, _ := strings.Cut(which, "\x00")
		b.log.Warn("object differs from its checksum in the store", "object", name)
		return true
	}
	bound(b.doubts)
	b.doubts[which] = sum
	return false
}

// Stat returns size and time of one object.
func (b *Backend) Stat(ctx context.Context, name string) (backend.Info, error) {
	if err := b.admit(ctx, "stat", name); err != nil {
		return backend.Info{}, err
	}
	return b.stat(ctx, "stat", name)
}

func (b *Backend) stat(ctx context.Context, verb, name string) (backend.Info, error) {
	many, err := b.versioned(ctx, verb, name)
	if err != nil {
		return backend.Info{}, err
	}
	if !many {
		info, err := b.core.StatObject(ctx, b.where.Bucket, b.key(name), minio.StatObjectOptions{})
		if !b.sawVersion(info.VersionID) {
			if err != nil {
				return backend.Info{}, b.explain(ctx, verb, name, b.unveil(ctx, name, err))
			}
			return backend.Info{Name: name, Bytes: info.Size, Modified: info.LastModified}, nil
		}
	}
	all, err := b.history(ctx, verb, name)
	if err != nil {
		return backend.Info{}, err
	}
	if len(all) == 0 {
		return backend.Info{}, fmt.Errorf("%s %s: %w", verb, name, backend.ErrNotFound)
	}
	return infoOf(name, b.preferred(name, all)), nil
}

// List calls fn for each object whose name starts with prefix, sorted by name.
// A server that lists out of order or repeats itself is told from one that does
// not, as everything that merges listings would go wrong in silence; and so is
// one whose listing misses what this process has put (package witness).
func (b *Backend) List(ctx context.Context, prefix string, fn func(backend.Info) error) error {
	if b.closed.Load() {
		return fmt.Errorf("list %s: %w", prefix, errClosed)
	}
	if prefix != "" && !backend.ValidName(prefix) && !backend.ValidName(prefix+"x") {
		return ctx.Err() // no object can be there
	}
	last, due := "", b.written.Due(prefix)
	for info, err := range b.entries(ctx, prefix) {
		if err == nil {
			err = ctx.Err()
		}
		switch {
		case err != nil:
			return b.explainList(ctx, prefix, err)
		case info.Name == last || !backend.ValidName(info.Name):
			continue // a page that overlaps; somebody else's file or folder mark
		case info.Name < last:
			return fmt.Errorf("list %s: %w: the server lists %q after %q", prefix, backend.ErrUnreachable, info.Name, last)
		}
		last = info.Name
		if err := b.allGone(ctx, due.Missed(last)); err != nil {
			return err
		}
		if err := fn(info); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil { // the client ends such a listing as if it were whole
		return fmt.Errorf("list %s: %w", prefix, err)
	}
	return b.allGone(ctx, due.Missed(""))
}

// allGone: what a listing has missed of this process's own objects was deleted
// by others; if not, the listing is stale.
func (b *Backend) allGone(ctx context.Context, missed []string) error {
	for _, name := range missed {
		_, err := b.stat(ctx, "stat", name)
		if err == nil {
			return fmt.Errorf("list: %w: the listing is stale: it misses %s, which is there", backend.ErrUnreachable, name)
		}
		if !errors.Is(err, backend.ErrNotFound) {
			return err
		}
		b.written.Drop(name)
	}
	return nil
}

func (b *Backend) explainList(ctx context.Context, prefix string, err error) error {
	if errors.Is(err, backend.ErrUnreachable) || errors.Is(err, backend.ErrNotFound) {
		return err // explained already
	}
	verb := "list"
	if b.versions.Load() == many {
		verb = "list versions"
	}
	return b.explain(ctx, verb, prefix, err)
}

// entries lists names of the location, or a last error.
func (b *Backend) entries(ctx context.Context, prefix string) iter.Seq2[backend.Info, error] {
	return func(yield func(backend.Info, error) bool) {
		hasVersions, err := b.versioned(ctx, "list", prefix)
		if err != nil {
			yield(backend.Info{}, err)
			return
		}
		if hasVersions {
			b.oldest(ctx, prefix, yield)
			return
		}
		opts := minio.ListObjectsOptions{Prefix: b.key(prefix), Recursive: true}
		for o := range b.core.ListObjectsIter(ctx, b.where.Bucket, opts) {
			if !yield(backend.Info{Name: b.nameOf(o.Key), Bytes: o.Size, Modified: o.LastModified}, o.Err) {
				return
			}
		}
	}
}

// nameOf is the object's name of a key; "" if it is not below the location.
func (b *Backend) nameOf(key string) string {
	name, ok := strings.CutPrefix(key, b.where.keyPrefix())
	if !ok {
		return ""
	}
	return name
}
