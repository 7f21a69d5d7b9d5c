package siege_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/backend/local"
	"holdfast/repo/backend/s3"
	"holdfast/repo/blob"
	"holdfast/repo/image"
	"holdfast/repo/ledger"
	"holdfast/repo/pack"
	"holdfast/repo/seal"
	"holdfast/repo/slot"
)

// audit looks for anything that no point needs, by the formats alone and not by
// the word of the program that pruned.
type audit struct {
	be     backend.Backend
	keys   *seal.Keys
	alive  map[string]bool // sessions of points
	needed blob.Set
	where  map[blob.ID]string
}

// openStore opens the store behind a URL as the program does.
func openStore(ctx context.Context, url string) (backend.Backend, error) {
	if !strings.HasPrefix(url, "s3:") {
		return local.Open(ctx, url, local.Options{})
	}
	where, err := s3.ParseURL(url)
	if err != nil {
		return nil, err
	}
	return s3.Open(ctx, s3.Options{Location: where, AccessKey: accessKey, SecretKey: s3.NewSecret([]byte(secretKey)), Region: "us-east-1"})
}

// wantTidy: nothing is at url but what points need.
func wantTidy(ctx context.Context, url, keyFile string) error {
	be, err := openStore(ctx, url)
	if err != nil {
		return err
	}
	defer be.Close()
	text, err := os.ReadFile(keyFile)
	if err != nil {
		return err
	}
	secret, err := seal.ParseKeyFile(text)
	if err != nil {
		return err
	}
	ring, _, err := slot.Open(ctx, be, secret)
	if err != nil {
		return err
	}
	r, err := repo.Open(ctx, be, secret, repo.Options{Now: time.Now, Rand: rand.Reader})
	if err != nil {
		return err
	}
	defer r.Close()
	a := &audit{be: be, keys: ring.Keys(), alive: map[string]bool{}, needed: blob.Set{}, where: map[blob.ID]string{}}
	if err := a.need(ctx, r); err != nil {
		return err
	}
	var errs []error
	err = be.List(ctx, "", func(info backend.Info) error {
		errs = append(errs, a.judge(ctx, info.Name))
		return nil
	})
	if len(a.where) != len(a.needed) {
		errs = append(errs, fmt.Errorf("%d chunks are needed, %d are there", len(a.needed), len(a.where)))
	}
	return errors.Join(append(errs, err)...)
}

// need notes everything that a point needs.
func (a *audit) need(ctx context.Context, r *repo.Repository) error {
	points, problems, err := r.Points(ctx)
	if err != nil || len(problems) > 0 {
		return fmt.Errorf("list points: %v %w", problems, err)
	}
	note := func(_ blob.Kind, id blob.ID) error {
		a.needed.Add(id)
		return nil
	}
	for _, e := range points {
		a.alive[e.SID] = true
		if err := image.Nodes(ctx, r, *e.Items[0].Disk, note, a.needed.Has); err != nil {
			return err
		}
	}
	return nil
}

// judge says what is wrong with an object being there.
func (a *audit) judge(ctx context.Context, name string) error {
	prefix, _, _ := strings.Cut(name, "/")
	switch prefix + "/" {
	case ledger.Sessions, ledger.Forgets:
		return fmt.Errorf("%s is left over", name)
	case ledger.Commits, ledger.Confirms:
		if sid, err := ledger.ParseSlot(name); err != nil || !a.alive[sid.String()] {
			return fmt.Errorf("%s is left over: %v", name, err)
		}
	case ledger.Labels:
		if sid, _, err := ledger.ParseNumbered(name); err != nil || !a.alive[sid.String()] {
			return fmt.Errorf("%s is left over: %v", name, err)
		}
	case ledger.Data, ledger.Meta:
		return a.pack(ctx, name)
	}
	if !ledger.IsOurs(name) {
		return fmt.Errorf("%s is nobody's", name)
	}
	return nil
}

// pack: all that it holds is needed and lies in no other.
func (a *audit) pack(ctx context.Context, name string) error {
	object, err := backend.Whole(ctx, a.be, name)
	if err != nil {
		return err
	}
	_, table, err := pack.OpenTable(a.keys, name, object)
	if err != nil {
		return err
	}
	for _, e := range table {
		if !a.needed.Has(e.ID) {
			return fmt.Errorf("chunk %.8s in %s is needed by nothing", e.ID, name)
		}
		if other, twice := a.where[e.ID]; twice {
			return fmt.Errorf("chunk %.8s is in %s and in %s", e.ID, name, other)
		}
		a.where[e.ID] = name
	}
	return nil
}
