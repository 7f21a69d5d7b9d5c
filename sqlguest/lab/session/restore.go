package session

import (
	"context"
	"fmt"
	"strings"
	"time"

	"holdfast/sqlguest/lab/backups"
	"holdfast/sqlguest/lab/catalog"
	"holdfast/sqlguest/lab/media"
	"holdfast/sqlguest/lab/tsql/ast"
	"holdfast/sqlguest/lab/tsql/eval"
	"holdfast/sqlguest/lab/value"
)

// restoreOptions reads WITH of a RESTORE.
func (s *session) restoreOptions(ctx context.Context, b *eval.Batch, t *ast.Restore) (backups.RestoreOptions, error) {
	r := eval.NewReader(ctx, b)
	o := backups.RestoreOptions{Database: r.Text(t.Database), Log: t.What == "LOG", User: s.login.Name, Notify: s.notify, Move: map[string]string{}}
	for _, opt := range t.Options {
		switch opt.Name {
		case "RECOVERY":
			o.End = backups.Recovery
		case "NORECOVERY":
			o.End = backups.NoRecovery
		case "STANDBY":
			o.End, o.UndoFile = backups.Standby, r.Text(opt.Value)
		case "REPLACE":
			o.Replace = true
		case "MOVE":
			o.Move[r.Text(opt.Value)] = r.Text(opt.To)
		case "FILE":
			o.File = r.Int(opt.Value)
		case "STOPAT":
			o.Stop.At = s.stopTime(ctx, b, r, opt.Value)
		case "STOPATMARK", "STOPBEFOREMARK":
			o.Stop.Mark, o.Stop.Before = r.Text(opt.Value), opt.Name == "STOPBEFOREMARK"
			if opt.To != nil {
				o.Stop.After = s.stopTime(ctx, b, r, opt.To)
			}
		case "CHECKSUM":
			o.Checksum = true
		case "RESTRICTED_USER":
			o.RestrictedUser = true
		case "STATS", "KEEP_REPLICATION", "ENABLE_BROKER", "NEW_BROKER", "ERROR_BROKER_CONVERSATIONS", "KEEP_CDC":
		default:
			if !ignored[opt.Name] {
				return o, value.Severe(155, 15, "'%s' is not a recognized RESTORE option.", opt.Name)
			}
		}
	}
	return o, r.Err
}

// stopTime reads the time of a stop clause as datetime2.
func (s *session) stopTime(ctx context.Context, b *eval.Batch, r *eval.Reader, x ast.Expr) time.Time {
	if r.Err != nil {
		return time.Time{}
	}
	v, from, err := b.Evaluate(ctx, x)
	if err == nil {
		v, err = value.Convert(v, from, value.Type{Kind: value.DateTime2, Scale: 7}, 0)
	}
	r.Err = err
	t, _ := v.(time.Time)
	return t
}

// restore is RESTORE of every kind.
func (s *session) restore(ctx context.Context, b *eval.Batch, t *ast.Restore) error {
	statement := "RESTORE " + map[string]string{"FILELISTONLY": "FILELIST"}[t.What]
	if strings.HasSuffix(statement, " ") {
		statement += t.What
	}
	command := "RESTORE " + t.What
	defer s.does(command)()
	if s.tran.depth > 0 {
		return then(value.Errorf(3021, "Cannot perform a backup or restore operation within a transaction."), statement)
	}
	o, err := s.restoreOptions(ctx, b, t)
	if err != nil {
		return then(err, statement)
	}
	if err := s.mayRestore(t, o.Database); err != nil {
		return then(err, statement)
	}
	m, err := s.media(ctx, b, t.Devices, t.Options, false)
	if err != nil {
		return then(err, statement)
	}
	defer m.CloseFiles()
	if err := s.runRestore(ctx, b, t, o, m); err != nil {
		m.Abort()
		return failure(openError(m, err))
	}
	_ = m.Close()
	return nil
}

// mayRestore checks the session, not the backup.
func (s *session) mayRestore(t *ast.Restore, database string) error {
	only := t.What != "DATABASE" && t.What != "LOG"
	if !s.login.Sysadmin {
		if only {
			return value.Severe(262, 14, "CREATE DATABASE permission denied in database 'master'.")
		}
		return value.Severe(3110, 14, "User does not have permission to RESTORE database '%s'.", database)
	}
	switch {
	case only:
		return nil
	case strings.EqualFold(database, "master"):
		return value.Errorf(3108, "To restore the master database, the server must be running in single-user mode. For information on starting in single-user mode, see \"How to: Start an Instance of SQL Server (sqlservr.exe)\" in Books Online.")
	case s.of.opt.Server().Same(database, s.Database()):
		return value.Errorf(3102, "RESTORE cannot process database '%s' because it is in use by this session. It is recommended that the master database be used when performing this operation.", database)
	}
	return nil
}

func (s *session) runRestore(ctx context.Context, b *eval.Batch, t *ast.Restore, o backups.RestoreOptions, m *media.Media) error {
	srv := s.of.opt.Server()
	switch t.What {
	case "HEADERONLY":
		headers, err := srv.HeaderOnly(ctx, m.Devices)
		if err != nil {
			return err
		}
		var rows [][]any
		for i := range headers {
			rows = append(rows, catalog.HeaderRow(&headers[i]))
		}
		return answer(b, catalog.HeaderColumns(), rows)
	case "FILELISTONLY":
		h, err := srv.FileListOnly(ctx, max(o.File, 1), m.Devices)
		if err != nil {
			return err
		}
		return answer(b, catalog.FileListColumns(), catalog.FileListRows(&h))
	case "LABELONLY":
		h, err := srv.FileListOnly(ctx, 1, m.Devices)
		if err != nil {
			return err
		}
		return answer(b, catalog.Columns("MediaName nvarchar, MediaSetId uniqueidentifier, FamilyCount int, FamilySequenceNumber int, SoftwareName nvarchar"),
			[][]any{{nil, nil, int64(len(m.Devices)), int64(1), "Microsoft SQL Server " + h.SoftwareVersion}})
	case "VERIFYONLY":
		if _, err := srv.VerifyOnly(ctx, max(o.File, 1), o.Checksum, m.Devices); err != nil {
			return err
		}
		b.Out.Message(value.Message{Number: 3262, State: 1, Text: fmt.Sprintf("The backup set on file %d is valid.", max(o.File, 1))})
	default:
		messages, err := srv.Restore(ctx, o, m.Devices)
		if err != nil {
			return err
		}
		for _, k := range messages {
			b.Out.Message(message(k))
		}
	}
	b.Out.Done()
	return nil
}

// answer sends a result.
func answer(b *eval.Batch, columns []value.Column, rows [][]any) error {
	b.Out.Columns(columns)
	for _, row := range rows {
		b.Out.Row(row)
	}
	b.State.RowCount = int64(len(rows))
	b.Out.Count(int64(len(rows)))
	return nil
}
