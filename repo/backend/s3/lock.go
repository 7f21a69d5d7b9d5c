package s3

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"holdfast/repo/backend"
)

// ErrLockOption: the lock's mode or days make no sense.
var ErrLockOption = errors.New("bad object lock (mode governance or compliance, 1 to 36500 days)")

// Lock modes, as the operator writes them.
const (
	Governance = "governance" // who holds s3:BypassGovernanceRetention may still delete
	Compliance = "compliance" // nobody may, not the account's owner either
)

// MaxLockDays is the longest lock, which is a hundred years, as Amazon has it.
const MaxLockDays = 36500

// ObjectLock says for how long objects are locked when they are written. The
// bucket must have been made with Object Lock. The zero value locks nothing.
type ObjectLock struct {
	Mode string // Governance or Compliance
	Days int    // from the server's today
}

func (l ObjectLock) check() error {
	if l == (ObjectLock{}) {
		return nil
	}
	if l.Mode != Governance && l.Mode != Compliance || l.Days < 1 || l.Days > MaxLockDays {
		return ErrLockOption
	}
	return nil
}

func (l ObjectLock) mode() minio.RetentionMode {
	return minio.RetentionMode(strings.ToUpper(l.Mode))
}

// LockObjects locks, from now on, each object that is written through b. The
// bucket is not asked: Lockable does that. Error: ErrLockOption.
func (b *Backend) LockObjects(mode string, days int) error {
	lock := ObjectLock{Mode: mode, Days: days}
	if lock == (ObjectLock{}) || lock.check() != nil {
		return fmt.Errorf("lock objects: %w", ErrLockOption)
	}
	b.lock.Store(&lock)
	return nil
}

// Lockable is nil if the bucket was made with Object Lock, or got it later, and
// backend.ErrNoLock if not. It needs s3:GetBucketObjectLockConfiguration.
func (b *Backend) Lockable(ctx context.Context) error {
	const verb = "ask for object lock of"
	if err := b.admit(ctx, verb, "bucket"); err != nil {
		return err
	}
	state, _, _, _, err := b.core.GetObjectLockConfig(ctx, b.where.Bucket)
	_, other := errors.AsType[xml.UnmarshalError](err) // a server that knows no Object Lock lists the bucket
	switch answer := minio.ToErrorResponse(err); {
	case err == nil && state == "Enabled":
		return nil
	case err == nil, other, answer.Code == "ObjectLockConfigurationNotFoundError", noSuchFeature(answer):
		return fmt.Errorf("bucket %s has no Object Lock: %w", b.where.Bucket, backend.ErrNoLock)
	}
	return b.explain(ctx, verb, "bucket "+b.where.Bucket, err)
}

// LockEnd is the end of a lock that begins now by the server's clock, in whole
// seconds, as retention dates are. It is unreachable until the server has said
// what time it is.
func (b *Backend) LockEnd() (time.Time, error) {
	now, err := b.wire.ServerTime()
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: %w", backend.ErrUnreachable, err) // and the next answer may tell
	}
	return now.AddDate(0, 0, b.lock.Load().Days).Add(time.Second).Truncate(time.Second).UTC(), nil
}

// ExtendRetention locks an object until a time at least. A lock that reaches
// further stays as it is, so that repeating it costs one question; nothing ever
// shortens one. It needs Options.ObjectLock for the mode.
func (b *Backend) ExtendRetention(ctx context.Context, name string, until time.Time) error {
	const verb = "extend retention"
	if err := b.admit(ctx, verb, name); err != nil {
		return err
	}
	if b.lock.Load().Days == 0 {
		return fmt.Errorf("%s %s: %w", verb, name, ErrLockOption)
	}
	version, _, err := b.pick(ctx, verb, name)
	if err != nil {
		return err
	}
	mode, ends, err := b.held(ctx, name, version)
	if err != nil {
		return b.explain(ctx, verb, name, err)
	}
	if !ends.Before(until) {
		return nil
	}
	if !mode.IsValid() {
		mode = b.lock.Load().mode() // a lock that is there keeps its own
	}
	until = until.Add(time.Second - 1).Truncate(time.Second).UTC()
	opts := minio.PutObjectRetentionOptions{Mode: &mode, RetainUntilDate: &until, VersionID: version}
	if err := b.core.PutObjectRetention(ctx, b.where.Bucket, b.key(name), opts); err != nil {
		return b.explain(ctx, verb, name, err)
	}
	return nil
}

// held reads an object's lock from the headers of a HEAD; there is none if ends
// is zero. (GetObjectRetention says the same in XML, whose root element is not
// the same on all servers.)
func (b *Backend) held(ctx context.Context, name, version string) (mode minio.RetentionMode, ends time.Time, err error) {
	info, err := b.core.StatObject(ctx, b.where.Bucket, b.key(name), minio.StatObjectOptions{VersionID: version})
	if err != nil {
		return "", time.Time{}, err
	}
	text := info.Headers.Get("x-amz-object-lock-retain-until-date")
	if text == "" {
		return "", time.Time{}, nil
	}
	if ends, err = time.Parse(time.RFC3339, text); err != nil {
		return "", time.Time{}, fmt.Errorf("read end of lock: %w", err)
	}
	return minio.RetentionMode(info.Headers.Get("x-amz-object-lock-mode")), ends, nil
}

// lockedUntil tells whether a refused Delete was refused because of a lock.
// Servers have no common code for it: some name the lock, Amazon says no more
// than AccessDenied, so the object is asked.
func (b *Backend) lockedUntil(ctx context.Context, name, version string, answer minio.ErrorResponse) (until string, locked bool) {
	if answer.StatusCode != http.StatusForbidden && answer.StatusCode != http.StatusBadRequest && answer.StatusCode != http.StatusConflict {
		return "", false
	}
	_, ends, err := b.held(ctx, name, version)
	if now, unknown := b.wire.ServerTime(); err == nil && unknown == nil && ends.After(now) {
		return " until " + ends.UTC().Format(time.RFC3339), true
	}
	text := strings.ToLower(answer.Code + " " + answer.Message)
	for _, word := range []string{"objectlock", "object lock", "worm", "retention", "legal hold"} {
		if strings.Contains(text, word) {
			return "", true
		}
	}
	return "", false
}
