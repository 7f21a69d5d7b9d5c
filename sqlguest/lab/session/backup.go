package session

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"holdfast/sqlguest/lab/backups"
	"holdfast/sqlguest/lab/bridge"
	"holdfast/sqlguest/lab/media"
	"holdfast/sqlguest/lab/storage"
	"holdfast/sqlguest/lab/tsql/ast"
	"holdfast/sqlguest/lab/tsql/eval"
	"holdfast/sqlguest/lab/value"
	"holdfast/sqlguest/server"
)

// then adds 3013 to a failure that did not come from BACKUP or RESTORE itself.
func then(err error, statement string) error {
	var e *value.Error
	if !errors.As(err, &e) {
		return err
	}
	return &value.Error{All: append(append([]value.Message{}, e.All...), value.Errorf(3013, "%s is terminating abnormally.", statement).All...)}
}

// ignored are options that change nothing here: how media are handled and how fast.
var ignored = map[string]bool{
	"NOINIT": true, "NOFORMAT": true, "SKIP": true, "NOSKIP": true, "REWIND": true, "NOREWIND": true, "UNLOAD": true, "NOUNLOAD": true,
	"COMPRESSION": true, "NO_COMPRESSION": true, "MEDIANAME": true, "MEDIADESCRIPTION": true, "BLOCKSIZE": true, "BUFFERCOUNT": true,
	"MAXTRANSFERSIZE": true, "STOP_ON_ERROR": true, "CONTINUE_AFTER_ERROR": true, "RETAINDAYS": true, "EXPIREDATE": true,
	"NO_CHECKSUM": true, "RESTART": true, "LOADHISTORY": true, "METADATA_ONLY": true,
}

// backupOptions reads WITH of a BACKUP. overwrite tells of INIT and FORMAT.
func (s *session) backupOptions(ctx context.Context, b *eval.Batch, t *ast.Backup) (o backups.BackupOptions, overwrite bool, err error) {
	r := eval.NewReader(ctx, b)
	o = backups.BackupOptions{Database: r.Text(t.Database), User: s.login.Name, Notify: s.notify}
	if t.Log {
		o.Kind = backups.Log
	}
	for _, opt := range t.Options {
		switch opt.Name {
		case "DIFFERENTIAL":
			if t.Log {
				return o, false, value.Errorf(3032, "One or more of the options (%s) are not supported for this statement. Review the documentation for supported options.", "differential")
			}
			o.Kind = backups.Differential
		case "COPY_ONLY":
			o.CopyOnly = true
		case "NORECOVERY":
			o.NoRecovery = true
		case "NO_TRUNCATE":
			o.NoTruncate = true
		case "CHECKSUM":
			o.Checksum = true
		case "SNAPSHOT":
			o.Snapshot = true
		case "INIT", "FORMAT":
			overwrite = true
		case "STATS":
			o.Percent = r.Int(opt.Value)
		case "NAME":
			o.Name = r.Text(opt.Value)
		case "DESCRIPTION":
			o.Description = r.Text(opt.Value)
		default:
			if !ignored[opt.Name] {
				return o, false, value.Severe(155, 15, "'%s' is not a recognized BACKUP option.", opt.Name)
			}
		}
	}
	return o, overwrite, r.Err
}

// notify tells of progress while a statement runs.
func (s *session) notify(m server.Message) {
	var percent int
	if _, err := fmt.Sscanf(m.Text, "%d percent", &percent); err == nil {
		s.mu.Lock()
		s.percent = float64(percent)
		s.mu.Unlock()
	}
	if s.out != nil {
		s.out.Message(message(m))
	}
}

// backup is BACKUP DATABASE and BACKUP LOG.
func (s *session) backup(ctx context.Context, b *eval.Batch, t *ast.Backup) error {
	statement := "BACKUP DATABASE"
	if t.Log {
		statement = "BACKUP LOG"
	}
	defer s.does(statement)()
	o, overwrite, err := s.backupOptions(ctx, b, t)
	if err != nil {
		return then(err, statement)
	}
	if s.tran.depth > 0 {
		return then(value.Errorf(3021, "Cannot perform a backup or restore operation within a transaction."), statement)
	}
	if !s.login.Sysadmin {
		return then(value.Severe(262, 14, "%s permission denied in database '%s'.", statement, o.Database), statement)
	}
	if db, err := s.of.opt.Server().Database(o.Database); err == nil && db.Info().Access == storage.SingleUser && s.of.others(s, o.Database) > 0 {
		return then(value.Severe(924, 14, "Database '%s' is already open and can only have one user at a time.", o.Database), statement)
	}
	if len(t.Parts) > 0 {
		return then(unsupported("BACKUP … FILE"), statement)
	}
	m, err := s.media(ctx, b, t.Devices, t.Options, true)
	if err != nil {
		return then(err, statement)
	}
	defer m.CloseFiles()
	srv := s.of.opt.Server()
	if o.Position, err = m.AppendTo(ctx, srv, overwrite); err != nil {
		return then(failure(err), statement)
	}
	messages, err := runBackup(ctx, srv, o, m)
	if err != nil {
		m.Undo()
		return failure(err)
	}
	for _, k := range messages {
		b.Out.Message(message(k))
	}
	return nil
}

// runBackup hands everything out, asks the devices for their verdict, and only then lets
// the backup count.
func runBackup(ctx context.Context, srv *backups.Server, o backups.BackupOptions, m *media.Media) ([]server.Message, error) {
	run, err := srv.BeginBackup(ctx, o, m.Devices)
	if err != nil {
		m.Abort()
		return nil, openError(m, err)
	}
	if err := m.Finish(); err != nil {
		m.Abort()
		return nil, run.Abort(err)
	}
	if err := ctx.Err(); err != nil {
		m.Abort()
		return nil, run.Abort(nil)
	}
	messages, err := run.Complete()
	if err != nil {
		m.Abort()
		return nil, err
	}
	// The client hears VD_E_CLOSE; what it does with that changes nothing any more.
	_ = m.Close()
	return messages, nil
}

// openError puts 3201 where a device set could not be opened, and its reason: the failure
// of the first write or read says less.
func openError(m *media.Media, err error) error {
	e, ok := failure(err).(*value.Error)
	if m.OpenError() == nil || !ok || len(e.All) == 0 {
		return err
	}
	cause := value.Errorf(3201, "Cannot open backup device '%s'. Operating system error %s.", m.Devices[0].Name, "0x80770007(A device set of that name could not be opened: "+m.OpenError().Error()+")")
	return &value.Error{All: append(cause.All, e.All[len(e.All)-1])}
}

// media evaluates a statement's devices. All are of one kind.
func (s *session) media(ctx context.Context, b *eval.Batch, list []ast.Device, options []ast.Option, write bool) (*media.Media, error) {
	var names []string
	for _, d := range list {
		name, err := b.Text(ctx, d.Name)
		if err != nil {
			return nil, err
		}
		if d.Kind != list[0].Kind {
			return nil, value.Errorf(3032, "One or more of the options (%s) are not supported for this statement. Review the documentation for supported options.", "mixed devices")
		}
		names = append(names, name)
	}
	if len(list) == 0 {
		return &media.Media{}, nil
	}
	switch list[0].Kind {
	case "VIRTUAL_DEVICE":
		_, instance, _ := strings.Cut(s.of.opt.Server().Options().Name, `\`)
		r := eval.NewReader(ctx, b)
		request := bridge.Request{Instance: instance, Names: names, Write: write}
		for option, to := range map[string]*int{"BLOCKSIZE": &request.BlockBytes, "MAXTRANSFERSIZE": &request.TransferBytes} {
			if o := ast.Find(options, option); o != nil {
				*to = r.Int(o.Value)
			}
		}
		return media.Virtual(ctx, s.of.opt.Media(), request), r.Err
	case "DISK":
		return media.Disk(ctx, s.of.opt.Media(), names, write)
	}
	return nil, value.Errorf(3206, "Backup device '%s' does not exist. To view existing backup devices, use the sys.backup_devices catalog view. To create a new backup device use either sp_addumpdevice or SQL Server Management Studio.", names[0])
}
