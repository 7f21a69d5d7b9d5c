package s3

import (
	"bytes"
	"context"
	"crypto/md5" // Content-MD5 is the protocol's: against damage on the way, not against people
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"net/http"

	"github.com/minio/minio-go/v7"

	"holdfast/repo/backend"
)

// What is known of the server's put-if-absent.
const (
	undecided int32 = iota
	decides
	ignores
)

// These are how put answers where that is no error yet.
var (
	errTaken     = errors.New("name is taken")
	errNoFeature = errors.New("not implemented by the server")
	errNoAnswer  = errors.New("no answer came")
)

// probeBytes is the largest object that is sent twice to learn something.
const probeBytes = 256 << 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Put writes an object with one PUT; when it returns, the object is durable.
func (b *Backend) Put(ctx context.Context, name string, data []byte) error {
	if err := b.admit(ctx, "put", name); err != nil {
		return err
	}
	version, err := b.put(ctx, "put", name, data, false)
	if err != nil {
		return err
	}
	b.choose(name, version)
	return nil
}

// put sends one object and returns its version ("" where there are none). A
// server that knows no x-amz-checksum-* gets Content-MD5 instead; the body's
// SHA-256 is under the signature in any case.
func (b *Backend) put(ctx context.Context, verb, name string, data []byte, absent bool) (version string, err error) {
	if _, err := b.versioned(ctx, verb, name); err != nil {
		return "", err
	}
	opts, err := b.putOptions(absent)
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", verb, name, err)
	}
	tried := b.plainMD5.Load()
	info, err := b.send(ctx, name, data, opts, tried)
	if err != nil && !tried && noSuchFeature(minio.ToErrorResponse(err)) {
		if info, again := b.send(ctx, name, data, opts, true); again == nil || taken(again) {
			b.plainMD5.Store(true)
			b.log.Info("storage server takes no checksum headers; Content-MD5 is sent instead")
			return b.sent(ctx, verb, name, info, again)
		}
	}
	return b.sent(ctx, verb, name, info, err)
}

func (b *Backend) sent(ctx context.Context, verb, name string, info minio.UploadInfo, err error) (string, error) {
	switch {
	case err == nil && info.ETag == "":
		return "", fmt.Errorf("%s %s: %w: what answered is no S3 server: it gives no ETag (%w)", verb, name, backend.ErrUnreachable, errNoAnswer)
	case err == nil:
		b.sawVersion(info.VersionID)
		b.written.Add(name)
		return info.VersionID, nil
	case taken(err):
		return "", fmt.Errorf("%s %s: %w", verb, name, errTaken)
	case noSuchFeature(minio.ToErrorResponse(err)):
		return "", fmt.Errorf("%w: %w", b.explain(ctx, verb, name, err), errNoFeature)
	case minio.ToErrorResponse(err).StatusCode == 0:
		return "", fmt.Errorf("%w (%w)", b.explain(ctx, verb, name, err), errNoAnswer)
	}
	return "", b.explain(ctx, verb, name, err)
}

// taken: If-None-Match was understood. Some servers answer 304, as to a GET.
func taken(err error) bool {
	status := minio.ToErrorResponse(err).StatusCode
	return status == http.StatusPreconditionFailed || status == http.StatusNotModified
}

func (b *Backend) putOptions(absent bool) (minio.PutObjectOptions, error) {
	opts := minio.PutObjectOptions{
		ContentType: "application/octet-stream", DisableMultipart: true,
		DisableContentSha256: true, // no chunked signing: the hash of the whole body is given
	}
	if absent {
		opts.SetMatchETagExcept("*")
	}
	if lock := b.lock.Load(); lock.Days > 0 {
		until, err := b.LockEnd()
		if err != nil {
			return opts, err
		}
		opts.Mode, opts.RetainUntilDate = lock.mode(), until
	}
	return opts, nil
}

// send is one PUT and nothing more. Object Lock demands a digest of its own
// ("Content-MD5 or x-amz-sdk-checksum-algorithm", PutObject), so MD5 goes along.
func (b *Backend) send(ctx context.Context, name string, data []byte, opts minio.PutObjectOptions, plain bool) (minio.UploadInfo, error) {
	sum := sha256.Sum256(data)
	digest := ""
	if plain || b.lock.Load().Days > 0 {
		short := md5.Sum(data)
		digest = base64.StdEncoding.EncodeToString(short[:])
	}
	if !plain {
		crc := binary.BigEndian.AppendUint32(nil, crc32.Checksum(data, castagnoli))
		opts.UserMetadata = map[string]string{"x-amz-checksum-crc32c": base64.StdEncoding.EncodeToString(crc)}
	}
	return b.core.PutObject(ctx, b.where.Bucket, b.key(name), bytes.NewReader(data), int64(len(data)), digest, hex.EncodeToString(sum[:]), opts)
}

// PutIfAbsent writes an object only if the name is free.
func (b *Backend) PutIfAbsent(ctx context.Context, name string, data []byte) error {
	if err := b.admit(ctx, "put new", name); err != nil {
		return err
	}
	if b.absent.Load() == decides {
		return b.putDecided(ctx, name, data)
	}
	done, err := b.decideAlone(ctx, name)
	if err != nil {
		return err
	}
	defer done()
	if b.absent.Load() == decides { // while this call waited
		return b.putDecided(ctx, name, data)
	}
	err = b.holds(ctx, name, data)
	switch {
	case err == nil:
		b.learn(ctx, name, data)
		return nil
	case !errors.Is(err, backend.ErrNotFound):
		return err
	case b.absent.Load() == ignores:
		return b.Put(ctx, name, data)
	}
	return b.putFirst(ctx, name, data)
}

// decideAlone waits for the token of deciding.
func (b *Backend) decideAlone(ctx context.Context, name string) (done func(), err error) {
	select {
	case b.deciding <- struct{}{}:
		return func() { <-b.deciding }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("put new %s: %w", name, ctx.Err())
	}
}

// putDecided lets the server decide.
func (b *Backend) putDecided(ctx context.Context, name string, data []byte) error {
	version, err := b.put(ctx, "put new", name, data, true)
	switch {
	case err == nil:
		return b.own(ctx, name, version, data)
	case errors.Is(err, errTaken):
		return b.compare(ctx, name, data)
	}
	return b.lost(ctx, name, data, err)
}

// lost looks at once what became of a PutIfAbsent whose answer did not come. To
// ask again would do in most cases, but a server that answers 412 without
// reading a long body, and hangs up, breaks each attempt in the same way.
func (b *Backend) lost(ctx context.Context, name string, data []byte, err error) error {
	if !errors.Is(err, errNoAnswer) || ctx.Err() != nil {
		return err
	}
	if found := b.holds(ctx, name, data); found == nil || errors.Is(found, backend.ErrExists) {
		return found
	}
	return err
}

// putFirst is the first PutIfAbsent of a free name: it writes, and then asks
// whether the server would have refused.
func (b *Backend) putFirst(ctx context.Context, name string, data []byte) error {
	version, err := b.put(ctx, "put new", name, data, true)
	switch {
	case errors.Is(err, errTaken):
		b.absent.Store(decides)
		return b.compare(ctx, name, data)
	case errors.Is(err, errNoFeature):
		b.ignored()
		return b.Put(ctx, name, data)
	case err != nil:
		return b.lost(ctx, name, data, err)
	}
	if err := b.own(ctx, name, version, data); err != nil {
		return err
	}
	b.learn(ctx, name, data)
	return nil
}

// learn probes if that is still of use. The object is where it belongs, so that
// a probe that fails only leaves the question open.
func (b *Backend) learn(ctx context.Context, name string, data []byte) {
	if b.absent.Load() != undecided {
		return
	}
	if err := b.probe(ctx, name, data); err != nil {
		b.log.Debug("probe for put-if-absent brought no answer", "err", err)
	}
}

// probe puts bytes over themselves, if absent. Of long ones it learns nothing;
// the question stays open, which is as safe, and slower.
func (b *Backend) probe(ctx context.Context, name string, data []byte) error {
	if len(data) > probeBytes {
		return nil
	}
	_, err := b.put(ctx, "put new", name, data, true)
	switch {
	case errors.Is(err, errTaken):
		b.absent.Store(decides)
	case err == nil || errors.Is(err, errNoFeature):
		b.ignored()
	default:
		return err
	}
	return nil
}

func (b *Backend) ignored() {
	b.absent.Store(ignores)
	b.log.Warn("storage server does not decide between writers (If-None-Match is ignored or refused); only one process may write at a time")
}

// own makes sure, on a versioned bucket, that the version just put is the
// oldest: a delete marker lets If-None-Match pass over somebody's object.
func (b *Backend) own(ctx context.Context, name, version string, data []byte) error {
	many, err := b.versioned(ctx, "put new", name)
	if err != nil || !many {
		return err
	}
	listed, err := b.everything(ctx, "put new", name) // who was first only a listing tells
	all := stored(listed)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return fmt.Errorf("put new %s: %w: the server does not list what it just took", name, backend.ErrUnreachable)
	}
	if all[0].ID == version {
		b.choose(name, version)
		return nil
	}
	b.choose(name, all[0].ID)
	return b.compare(ctx, name, data)
}

// compare tells whose object stands under a name that is taken.
func (b *Backend) compare(ctx context.Context, name string, data []byte) error {
	err := b.holds(ctx, name, data)
	if errors.Is(err, backend.ErrNotFound) {
		return fmt.Errorf("put new %s: %w: the server says both taken and not there", name, backend.ErrUnreachable)
	}
	return err
}

// ProbePutIfAbsent finds out whether the server decides between writers, and
// harms nothing: name must hold exactly data, else it is ErrNotFound or
// ErrExists and nothing is sent. Afterwards SingleWriter knows. It needs the
// right to put; without it the error is ErrAccess and nothing was learnt.
func (b *Backend) ProbePutIfAbsent(ctx context.Context, name string, data []byte) error {
	if err := b.admit(ctx, "probe", name); err != nil {
		return err
	}
	done, err := b.decideAlone(ctx, name)
	if err != nil {
		return err
	}
	defer done()
	if err := b.holds(ctx, name, data); err != nil {
		return err
	}
	return b.probe(ctx, name, data)
}

// holds is nil if name holds exactly data, ErrExists if it holds other bytes.
func (b *Backend) holds(ctx context.Context, name string, data []byte) error {
	got, err := b.Get(ctx, name, 0, -1)
	if err == nil && !bytes.Equal(got, data) {
		err = fmt.Errorf("put new %s: %w", name, backend.ErrExists)
	}
	return err
}

// SingleWriter tells why only one process may write at a time. It is "" until
// the first PutIfAbsent or ProbePutIfAbsent has found out.
func (b *Backend) SingleWriter() string {
	if b.absent.Load() != ignores {
		return ""
	}
	return "this server ignores or refuses If-None-Match, so it cannot decide between two writers"
}
