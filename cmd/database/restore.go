package database

import (
	"cmp"
	"context"
	"errors"
	"os"
	"slices"
	"strings"

	"holdfast/backup"
	"holdfast/cmd/batch"
	"holdfast/repo/recovery"
	"holdfast/sqlguest"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/replay"
)

// RestoreOptions are what is wished of a restore.
type RestoreOptions struct {
	Target             plan.Target
	Plan               plan.Options
	Continue, NoTail   bool
	Transport, Staging string // see Options
}

// Restoring makes the restore of a source to a SQL Server. Its backups are those that
// run's repository holds; the tail of a log becomes one of them.
func Restoring(ctx context.Context, at Place, run *batch.Run, src replay.Source, backups []chain.Backup, o RestoreOptions) (*replay.Run, error) {
	about, err := facts.AskInstance(ctx, at.Server)
	if err != nil {
		return nil, err
	}
	host, err := at.Server.Host(ctx)
	if err != nil {
		return nil, err
	}
	transport, staging, local, err := Options{Transport: o.Transport, Staging: o.Staging}.way(host, at.Beside)
	if err != nil {
		return nil, err
	}
	keep := Keeper(run)
	return &replay.Run{
		Server: at.Server, Streams: &replay.Repository{Repo: run.Repository, Identity: src.Identity}, Backups: backups,
		Target: o.Target, Options: o.Plan, Continue: o.Continue, NoTail: o.NoTail,
		Keep: keep, Identity: src.Identity, Label: at.label(about), Guest: at.Guest, Address: at.Address, Transport: transport, Staging: staging, Local: local,
		Device: newDevice, Now: run.Now, Progress: run.Progress,
	}, nil
}

// Keeper is what a restore needs of run's repository.
func Keeper(run *batch.Run) *sqlguest.Repository {
	return &sqlguest.Repository{Repo: run.Repository, Back: func(ctx context.Context, src backup.Source) (*recovery.Point, error) {
		return run.Point(ctx, src, backup.Options{})
	}}
}

// ErrOtherServer: what was reached is not the SQL Server that the backups came from.
var ErrOtherServer = errors.New("the SQL Server that the backups came from was not found")

// Home is where the backups of a database were taken from, by the newest of them that
// tells: a VM, or an instance; both are empty if none does.
func Home(backups []chain.Backup) (vm, instance string) {
	named := ""
	for _, b := range slices.Backward(backups) {
		switch {
		case b.Guest != "":
			return b.Guest, ""
		case b.Address != "":
			return "", b.Address
		case b.ServerName == "":
			continue
		}
		named = cmp.Or(named, b.ServerName)
		if b.Rule != chain.RuleKept { // a file knows its server, and not how that was reached
			break
		}
	}
	if named == "" {
		return "", ""
	}
	own, _ := os.Hostname()
	return "", instanceOf(named, own)
}

// instanceOf is how a server is reached that calls itself name, from the machine own. A
// name alone is the default instance of that machine, not an instance of this one.
func instanceOf(name, own string) string {
	switch {
	case strings.Contains(name, `\`):
		return name
	case strings.EqualFold(name, own):
		return "."
	default:
		return name + ":1433"
	}
}

// IsHome tells whether a source is of that SQL Server.
func IsHome(ctx context.Context, at Place, src replay.Source) (bool, error) {
	about, err := facts.AskInstance(ctx, at.Server)
	if err != nil {
		return false, err
	}
	return strings.HasPrefix(src.Identity, sqlguest.Identity(sqlguest.PlaceOf(about), "")), nil
}
