package cmd

import (
	"context"
	"log/slog"
	"time"

	"holdfast/cmd/batch"
	"holdfast/cmd/frame"
	"holdfast/cmd/place"
	"holdfast/cmd/runlock"
	"holdfast/cmd/secret"
	"holdfast/cmd/ui"
	"holdfast/cmd/verdict"
	"holdfast/repo"
	"holdfast/vmware"
)

// door is the app as commands in folders of their own see it.
type door struct{ a *app }

var _ frame.App = door{}

func (d door) UI() *ui.Terminal           { return d.a.ui }
func (d door) Log() *slog.Logger          { return d.a.log }
func (d door) Setting(name string) string { return d.a.settings.Text(name) }
func (d door) Now() time.Time             { return d.a.now() }
func (d door) Warnings() []string         { return d.a.warnings() }
func (d door) Vanished(point, of string)  { d.a.noteVanished(point, of) }

func (d door) Secret(ctx context.Context, kind secret.Kind) ([]byte, error) {
	return d.a.loadSecret(ctx, kind)
}

func (d door) Repository(ctx context.Context, fn func(*repo.Repository) error) error {
	return d.a.withRepository(ctx, fn)
}

func (d door) Writer(ctx context.Context, fn func(*repo.Repository) error) error {
	return d.a.withWriter(ctx, fn)
}

func (d door) Find(ctx context.Context, r *repo.Repository, spec string) (repo.Entry, error) {
	return d.a.find(ctx, r, spec)
}

func (d door) Batch(r *repo.Repository) *batch.Run { return d.a.newBatch(r) }

func (d door) VCenter(ctx context.Context, fn func(*vmware.Session) error) error {
	return d.a.withVCenter(ctx, fn)
}

func (d door) Lock(repository string) (*runlock.Lock, error) { return d.a.newRun(repository) }

func (d door) Place(ctx context.Context, fn func(*place.Place) error) error {
	return d.a.withPlace(ctx, fn)
}

func (d door) Explain(err error) (verdict.Code, string) { return classify(err) }
