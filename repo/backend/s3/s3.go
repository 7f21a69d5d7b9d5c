// Package s3 keeps a repository's objects in a bucket of Amazon S3 or of a
// server that speaks its protocol. An object's name, below the location's
// prefix, is its key.
//
// Writing. An object is one PUT, never a multipart upload, with a checksum that
// the server compares before it answers; the answer means that the object is
// durable, so Sync has nothing to do. PutIfAbsent is a PUT with
// "If-None-Match: *": 412 means taken, and the bytes tell whether by ourselves,
// whose first answer was lost; 409 means that somebody else is at it, and is
// asked again by package retry, the only retrier (the client's own is off).
//
// Servers that ignore If-None-Match would overwrite. So nothing is believed:
// the first PutIfAbsent of a process looks first, and when its own bytes stand
// under the name puts them there again. 412 proves that the server decides
// between writers; 200 that it does not, and did no harm, as the bytes are the
// same. Then SingleWriter says so and PutIfAbsent is "look, then put", under a
// lock of this process. ProbePutIfAbsent asks the same question of an object
// that is known to be there, such as the repository's config.
//
// Versioned buckets. The repository writes each name once, so of a name's
// versions the oldest is the object: whoever steals a key that may put but not
// delete versions can add newer ones and delete markers, and neither is seen.
//   - Get and Stat read the oldest version, or the one that this process itself
//     put last (a healed object must not be read back as it was before).
//   - List names everything that has a version, whatever markers lie on it.
//   - PutIfAbsent succeeds only if its version is the oldest: If-None-Match
//     is also satisfied where a delete marker hides somebody's object.
//   - Delete removes all versions and markers, the oldest version last, so that
//     no half-done Delete promotes a newer version to be the object.
//   - An oldest version may be damaged, or be no container at all. That only the
//     engine can tell: Versions and GetVersion let it take the oldest that
//     verifies.
//
// Whether a bucket is versioned is asked once (s3:GetBucketVersioning); where
// that is refused, the first answer that carries a version id tells.
//
// Object Lock. With Options.ObjectLock, or after LockObjects, each PUT says until when its version may
// not be deleted: the days from now by the server's clock, as learnt from its
// Date headers; this machine's clock only measures the time since. ExtendRetention
// prolongs it and never shortens it. Deleting what is locked is ErrLocked.
//
// Wrong bytes. A whole Get is compared with the checksum that the server stores
// with the object. The first mismatch is ErrChecksum, which may pass; the same
// wrong bytes a second time are what the store holds, and are returned: the
// repository's seals refuse them and its parity heals them, given the bytes.
//
// Redirects are not followed, since that would carry signed requests to a host
// that nobody named.
package s3

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/s3utils"

	"holdfast/repo/backend"
	"holdfast/repo/backend/s3/wire"
	"holdfast/repo/backend/s3/witness"
)

// Style is how a request names the bucket.
type Style int

// Styles. The host form needs a DNS name for each bucket.
const (
	StyleAuto    Style = iota // by host at Amazon and Google, by path elsewhere
	StylePath                 // https://host/bucket/key
	StyleVirtual              // https://bucket.host/key
)

// Options of Open. Location is needed; the zero value of the rest takes
// credentials from nowhere but, at Amazon, from the machine's role.
type Options struct {
	Location Location

	// AccessKey, SecretKey and SessionToken are the credentials. If AccessKey is
	// empty, Keys is asked; if that is nil, Env and the files it names.
	AccessKey    string
	SecretKey    Secret
	SessionToken Secret
	// Keys gives credentials that end, and is asked again shortly before.
	Keys func(ctx context.Context) (Keys, error)
	// Env looks up AWS_* variables as the AWS SDKs name them, HOME, and the
	// proxy's. nil means that there are none.
	Env func(name string) string

	Region string // "" means Env's, else what the server says
	Style  Style

	// RootCAs are the certificate authorities to believe; nil means the system's.
	RootCAs *x509.CertPool
	// DialContext opens connections; nil means TCP.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	// StallTimeout ends a connection on which no byte moved for so long. 0 means 2 min.
	StallTimeout time.Duration
	// Transport replaces the HTTP transport, and with it the three before.
	Transport http.RoundTripper

	// ObjectLock is put on every object written; the zero value locks nothing.
	ObjectLock ObjectLock

	// Now measures the time since the server's last Date. nil means time.Now.
	Now func() time.Time
	// Log hears what the server cannot do and of damage. nil discards.
	Log *slog.Logger
}

// Backend is a bucket, or a prefix of one; it implements backend.Backend.
type Backend struct {
	core   minio.Core
	wire   *wire.Wire
	where  Location
	region string
	lock   atomic.Pointer[ObjectLock]
	redact func(string) string
	now    func() time.Time
	log    *slog.Logger
	closed atomic.Bool

	absent   atomic.Int32  // can the server decide PutIfAbsent: one of undecided, decides, ignores
	deciding chan struct{} // holds one token while that is found out, and during each "look, then put"
	plainMD5 atomic.Bool   // the server refuses x-amz-checksum-*, so Content-MD5 it is
	versions atomic.Int32  // is the bucket versioned: one of unasked, single, many

	written witness.Names // what this process has put, which no listing may miss

	mu     sync.Mutex
	chosen map[string]string // name → the version that Get reads; bounded
	doubts map[string]string // name → sum of wrong bytes seen once; bounded
}

var (
	_ backend.Backend   = (*Backend)(nil)
	_ backend.Versioned = (*Backend)(nil)
	_ backend.Retainer  = (*Backend)(nil)
	_ backend.Locker    = (*Backend)(nil)
)

// boundNames is how many names chosen and doubts may hold each.
const boundNames = 8192

// errClosed is what every method answers after Close.
var errClosed = errors.New("backend is closed")

// Open prepares a backend. It sends nothing: the first call finds out whether
// bucket and credentials are good. Errors: ErrLocation, ErrCredentials.
func Open(ctx context.Context, opts Options) (*Backend, error) {
	where := opts.Location
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Env == nil {
		opts.Env = func(string) string { return "" }
	}
	if err := where.check(); err != nil {
		return nil, fmt.Errorf("open %s: %w", where, err)
	}
	if err := opts.ObjectLock.check(); err != nil {
		return nil, fmt.Errorf("open %s: %w", where, err)
	}
	endpoint, err := endpointOf(where, opts.Env)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", where, err)
	}
	amazon := s3utils.IsAmazonEndpoint(*endpoint)
	creds, redact, err := credentialsOf(ctx, opts, amazon)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", where, err)
	}
	b := &Backend{
		where: where, redact: redact, now: opts.Now, log: opts.Log,
		region:   cmp.Or(opts.Region, opts.Env("AWS_REGION"), opts.Env("AWS_DEFAULT_REGION")), // "": the server is asked, once
		deciding: make(chan struct{}, 1),
		chosen:   map[string]string{},
		doubts:   map[string]string{},
	}
	b.lock.Store(&opts.ObjectLock)
	b.wire = wire.New(wire.Options{
		Env: opts.Env, RootCAs: opts.RootCAs, DialContext: opts.DialContext, StallTimeout: opts.StallTimeout,
		Transport: opts.Transport, Now: opts.Now, Log: opts.Log,
	})
	client, err := minio.New(endpoint.Host, &minio.Options{
		Creds: creds, Secure: endpoint.Scheme == "https", Transport: b.wire, Region: b.region,
		BucketLookup: [...]minio.BucketLookupType{minio.BucketLookupAuto, minio.BucketLookupPath, minio.BucketLookupDNS}[opts.Style],
		MaxRetries:   1, // package retry alone repeats, else waits would multiply
	})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", where, err)
	}
	b.core = minio.Core{Client: client}
	return b, nil
}

// endpointOf is the server's URL: the location's, else the environment's as the
// SDKs read it, else Amazon's.
func endpointOf(where Location, env func(string) string) (*url.URL, error) {
	return parseEndpoint(cmp.Or(where.Endpoint, env("AWS_ENDPOINT_URL_S3"), env("AWS_ENDPOINT_URL"), "https://s3.amazonaws.com"))
}

// Location names the place as ParseURL reads it.
func (b *Backend) Location() string { return b.where.String() }

// String is the location: whoever prints a backend means no more by it.
func (b *Backend) String() string { return b.Location() }

// GoString is the location.
func (b *Backend) GoString() string { return b.Location() }

// Sync has nothing to do: a PUT that was answered is durable.
func (b *Backend) Sync(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("sync %s: %w", b.where, err)
	}
	if b.closed.Load() {
		return fmt.Errorf("sync %s: %w", b.where, errClosed)
	}
	return nil
}

// Close lets go of idle connections.
func (b *Backend) Close() error {
	if !b.closed.Swap(true) {
		b.wire.CloseIdleConnections()
	}
	return nil
}

// admit is the gate of every method: the caller still wants it, the backend is
// open, and name is an object's.
func (b *Backend) admit(ctx context.Context, verb, name string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s %s: %w", verb, name, err)
	}
	if !backend.ValidName(name) {
		return fmt.Errorf("%s %q: %w", verb, name, ErrName)
	}
	if b.closed.Load() {
		return fmt.Errorf("%s %s: %w", verb, name, errClosed)
	}
	return nil
}

// key is the object's key in the bucket.
func (b *Backend) key(name string) string { return b.where.keyPrefix() + name }
