package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/minio/minio-go/v7"

	"holdfast/repo/backend"
)

// What is known of the bucket's versioning.
const (
	unasked int32 = iota
	single        // it has none
	guessed       // we may not ask, and have seen none
	many
)

// Version is one version of an object; its ID is "" where the bucket has none.
type Version = backend.Version

func infoOf(name string, v Version) backend.Info {
	return backend.Info{Name: name, Bytes: v.Bytes, Modified: v.Modified}
}

// Versions lists an object's versions, the oldest first, without delete
// markers. Where the bucket has no versions it is one with no ID. No version at
// all is ErrNotFound.
func (b *Backend) Versions(ctx context.Context, name string) ([]Version, error) {
	if err := b.admit(ctx, "list versions", name); err != nil {
		return nil, err
	}
	hasVersions, err := b.versioned(ctx, "list versions", name)
	if err != nil {
		return nil, err
	}
	if !hasVersions {
		info, err := b.stat(ctx, "stat", name)
		if err != nil {
			return nil, err
		}
		if b.versions.Load() != many { // unless Stat has just found out
			return []Version{{Bytes: info.Bytes, Modified: info.Modified}}, nil
		}
	}
	all, err := b.history(ctx, "list versions", name)
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("list versions %s: %w", name, backend.ErrNotFound)
	}
	return all, err
}

// versioned asks once whether the bucket keeps versions. Suspended ones may
// still hold some. Who may not ask finds out by sawVersion.
func (b *Backend) versioned(ctx context.Context, verb, name string) (bool, error) {
	if state := b.versions.Load(); state != unasked {
		return state == many, nil
	}
	config, err := b.core.GetBucketVersioning(ctx, b.where.Bucket)
	answer := minio.ToErrorResponse(err)
	state := single
	switch {
	case err == nil:
		if config.Enabled() || config.Suspended() {
			state = many
		}
	case answer.Code == "AccessDenied", answer.StatusCode == http.StatusNotImplemented, answer.StatusCode == http.StatusMethodNotAllowed:
		state = guessed
	default:
		return false, b.explain(ctx, verb, name, err)
	}
	if b.versions.CompareAndSwap(unasked, state) && state == many {
		b.log.Debug("bucket keeps versions; the oldest of each name is the object", "bucket", b.where.Bucket)
	}
	return b.versions.Load() == many, nil
}

// sawVersion takes an answer's version id as a sign that the bucket keeps
// versions, where nothing better is known, and reports whether that is news.
func (b *Backend) sawVersion(id string) bool {
	return id != "" && id != "null" && b.versions.CompareAndSwap(guessed, many)
}

// newestFirst puts the versions of one name in the order that the protocol asks
// for ("returning the most recently stored object version first"). Their order
// counts, not their times, of which several may be equal; of a server that has
// it the wrong way round the mark on the current version tells.
func newestFirst(all []minio.ObjectInfo) {
	if n := len(all); n > 1 && all[n-1].IsLatest && !all[0].IsLatest {
		slices.Reverse(all)
	}
}

// stored are the versions among all that hold bytes, the oldest first.
func stored(all []minio.ObjectInfo) []Version {
	newestFirst(all)
	var kept []Version
	for _, o := range slices.Backward(all) {
		if !o.IsDeleteMarker {
			kept = append(kept, Version{ID: o.VersionID, Bytes: o.Size, Modified: o.LastModified})
		}
	}
	return kept
}

// history lists the versions of one name, the oldest first. What the listing does not
// show at all is asked for by name: the protocol rests on objects that are there
// being found by their names, whatever listings say.
func (b *Backend) history(ctx context.Context, verb, name string) ([]Version, error) {
	all, err := b.everything(ctx, verb, name)
	if err != nil || len(all) > 0 {
		return stored(all), err
	}
	info, err := b.core.StatObject(ctx, b.where.Bucket, b.key(name), minio.StatObjectOptions{})
	if err == nil {
		return []Version{{ID: info.VersionID, Bytes: info.Size, Modified: info.LastModified}}, nil
	}
	if err = b.explain(ctx, verb, name, err); errors.Is(err, backend.ErrNotFound) {
		return nil, nil
	}
	return nil, err
}

// everything lists versions and delete markers of one name, the newest first.
func (b *Backend) everything(ctx context.Context, verb, name string) ([]minio.ObjectInfo, error) {
	key := b.key(name)
	var all []minio.ObjectInfo
	for o := range b.core.ListObjectsIter(ctx, b.where.Bucket, minio.ListObjectsOptions{Prefix: key, Recursive: true, WithVersions: true, MaxKeys: 100}) {
		if o.Err != nil {
			if minio.ToErrorResponse(o.Err).StatusCode == http.StatusForbidden {
				verb = "list versions" // this is the right that is missing
			}
			return nil, b.explain(ctx, verb, name, o.Err)
		}
		if o.Key != key {
			break // longer names come after it
		}
		all = append(all, o)
	}
	if err := ctx.Err(); err != nil { // the client ends such a listing as if it were whole
		return nil, fmt.Errorf("%s %s: %w", verb, name, err)
	}
	newestFirst(all)
	return all, nil
}

// oldest lists, of each name under prefix that has a version, the one that Get
// would read.
func (b *Backend) oldest(ctx context.Context, prefix string, yield func(backend.Info, error) bool) {
	key, all := "", []minio.ObjectInfo(nil)
	flush := func() bool {
		versions := stored(all)
		if len(versions) == 0 {
			return true
		}
		name := b.nameOf(key)
		return yield(infoOf(name, b.preferred(name, versions)), nil)
	}
	opts := minio.ListObjectsOptions{Prefix: b.key(prefix), Recursive: true, WithVersions: true}
	for o := range b.core.ListObjectsIter(ctx, b.where.Bucket, opts) {
		if o.Err != nil {
			yield(backend.Info{}, o.Err)
			return
		}
		if o.Key != key {
			if !flush() {
				return
			}
			key, all = o.Key, all[:0]
		}
		all = append(all, o)
	}
	if ctx.Err() == nil { // else the last name may not be whole
		flush()
	}
}

// preferred is the version that this process put last, else the oldest.
func (b *Backend) preferred(name string, all []Version) Version {
	b.mu.Lock()
	id, ok := b.chosen[name]
	b.mu.Unlock()
	if i := slices.IndexFunc(all, func(v Version) bool { return v.ID == id }); ok && i >= 0 {
		return all[i]
	}
	return all[0]
}

// pick tells which version of a name Get reads; "" is the only one.
func (b *Backend) pick(ctx context.Context, verb, name string) (id string, remembered bool, err error) {
	hasVersions, err := b.versioned(ctx, verb, name)
	if err != nil || !hasVersions {
		return "", false, err
	}
	b.mu.Lock()
	id, ok := b.chosen[name]
	b.mu.Unlock()
	if ok {
		return id, true, nil
	}
	all, err := b.history(ctx, verb, name)
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("%s %s: %w", verb, name, backend.ErrNotFound)
	}
	if err != nil {
		return "", false, err
	}
	return b.chooseFirst(name, all[0].ID), false, nil
}

// chooseFirst is choose, unless a Put of this process has chosen meanwhile.
func (b *Backend) chooseFirst(name, id string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if chosen, ok := b.chosen[name]; ok {
		return chosen
	}
	bound(b.chosen)
	b.chosen[name] = id
	return id
}

// choose remembers the version that Get reads from now on.
func (b *Backend) choose(name, id string) {
	if id == "" || b.versions.Load() != many {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	bound(b.chosen)
	b.chosen[name] = id
}

// forget ends the choice of a version that is gone.
func (b *Backend) forget(name, id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.chosen[name] == id {
		delete(b.chosen, name)
	}
}

// bound makes room in a map that may forget anything: whatever comes first.
func bound(m map[string]string) {
	for name := range m {
		if len(m) < boundNames {
			return
		}
		delete(m, name)
	}
}

// Delete removes an object: on a versioned bucket all its versions and delete
// markers. Versions go newest first, so that one that breaks off in the middle
// leaves the object as it was. ErrLocked if a lock forbids it.
func (b *Backend) Delete(ctx context.Context, name string) error {
	if err := b.admit(ctx, "delete", name); err != nil {
		return err
	}
	b.written.Drop(name)
	hasVersions, err := b.versioned(ctx, "delete", name)
	if err != nil {
		return err
	}
	if !hasVersions {
		return b.remove(ctx, "delete", name, "")
	}
	all, err := b.everything(ctx, "delete", name)
	if err != nil {
		return err
	}
	for _, o := range all {
		b.forget(name, o.VersionID)
		if err := b.remove(ctx, "delete version", name, o.VersionID); err != nil {
			return err
		}
	}
	return nil
}

func (b *Backend) remove(ctx context.Context, verb, name, version string) error {
	err := b.core.RemoveObject(ctx, b.where.Bucket, b.key(name), minio.RemoveObjectOptions{VersionID: version})
	if err == nil {
		return nil
	}
	if answer := minio.ToErrorResponse(err); ctx.Err() == nil && answer.Code != "NoSuchBucket" {
		if answer.StatusCode == http.StatusNotFound {
			return nil
		}
		if until, locked := b.lockedUntil(ctx, name, version, answer); locked {
			return fmt.Errorf("%s %s: %w%s", verb, name, ErrLocked, until)
		}
	}
	return b.explain(ctx, verb, name, err)
}
