package session

import (
	"context"
	"slices"
	"strings"
	"time"

	"holdfast/sqlguest/lab/backups"
	"holdfast/sqlguest/lab/storage"
	"holdfast/sqlguest/lab/tsql/ast"
	"holdfast/sqlguest/lab/tsql/eval"
	"holdfast/sqlguest/lab/value"
)

func (s *session) createDatabase(ctx context.Context, b *eval.Batch, c *ast.CreateDatabase) error {
	if !s.login.Sysadmin {
		return value.Severe(262, 14, "CREATE DATABASE permission denied in database 'master'.")
	}
	if c.Attach {
		return s.attach(ctx, b, c)
	}
	o := backups.CreateOptions{Name: c.Name, Owner: s.login.Name}
	for _, spec := range c.Files {
		f, _, err := s.file(ctx, b, spec)
		if err != nil {
			return err
		}
		if spec.Log {
			o.Log = f
		} else {
			o.Data = append(o.Data, f)
		}
	}
	_, err := s.of.opt.Server().Create(o)
	return failure(err)
}

// attach is CREATE DATABASE … FOR ATTACH: the first file is the primary one, which knows
// where the others are.
func (s *session) attach(ctx context.Context, b *eval.Batch, c *ast.CreateDatabase) error {
	var primary string
	if len(c.Files) > 0 {
		if o := ast.Find(c.Files[0].Options, "FILENAME"); o != nil {
			var err error
			if primary, err = b.Text(ctx, o.Value); err != nil {
				return err
			}
		}
	}
	if _, err := s.of.opt.Server().Attach(c.Name, primary, nil); err != nil {
		if e := failure(err); e != err {
			return e
		}
		return value.Errorf(5120, "Unable to open the physical file \"%s\". Operating system error 2: \"2(The system cannot find the file specified.)\".", primary)
	}
	return nil
}

func (s *session) dropDatabase(d *ast.DropDatabase) error {
	for _, name := range d.Names {
		db, err := s.of.opt.Server().Database(name)
		if err != nil || !s.login.Sysadmin {
			if err != nil && d.IfExists {
				continue
			}
			return value.Severe(3701, 11, "Cannot drop the database '%s', because it does not exist or you do not have permission.", name)
		}
		if db.Info().ID <= 4 {
			return value.Errorf(3708, "Cannot drop the database '%s' because it is a system database.", name)
		}
		if err := s.of.opt.Server().Drop(name); err != nil {
			return failure(err)
		}
	}
	return nil
}

func (s *session) alterDatabase(ctx context.Context, b *eval.Batch, a *ast.AlterDatabase) error {
	name := a.Name
	if name == "" {
		name = s.Database()
	}
	db, err := s.of.opt.Server().Database(name)
	if err != nil || !s.login.Sysadmin {
		e := value.Severe(5011, 14, "User does not have permission to alter database '%s', the database does not exist, or the database is not in a state that allows access checks.", name)
		return alterFailed(e)
	}
	switch a.Action {
	case "AUTHORIZATION":
		return failure(s.alterOwner(db, a.Target))
	case "SET":
		err = s.alterSet(ctx, b, db, a)
	case "MODIFY NAME":
		err = s.rename(ctx, db, a.Target)
	case "REMOVE FILE":
		err = db.RemoveFile(ctx, a.Target)
	case "ADD LOG FILE":
		err = unsupported("ALTER DATABASE ADD LOG FILE")
	default:
		err = s.alterFiles(ctx, b, db, a)
	}
	if err != nil {
		return alterFailed(failure(err))
	}
	return nil
}

// alterOwner is ALTER AUTHORIZATION ON DATABASE::name TO login.
func (s *session) alterOwner(db *storage.Database, login string) error {
	if !slices.ContainsFunc(s.of.opt.Logins, func(l Login) bool { return strings.EqualFold(l.Name, login) }) {
		return value.Errorf(15151, "Cannot find the principal '%s', because it does not exist or you do not have permission.", login)
	}
	return db.SetOwner(login)
}

// alterFailed adds 5069, with which every failure of ALTER DATABASE ends.
func alterFailed(err error) error {
	e, ok := err.(*value.Error)
	if !ok {
		return err
	}
	return &value.Error{All: append(append([]value.Message{}, e.All...), value.Errorf(5069, "ALTER DATABASE statement failed.").All...)}
}

func (s *session) rename(_ context.Context, db *storage.Database, to string) error {
	before := db.Info().Name
	if s.of.others(s, before) > 0 {
		return value.Errorf(5030, "The database could not be exclusively locked to perform the operation.")
	}
	if err := s.of.opt.Server().Rename(before, to); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of.opt.Server().Same(s.database, before) {
		s.database = to
	}
	return nil
}

func (s *session) alterFiles(ctx context.Context, b *eval.Batch, db *storage.Database, a *ast.AlterDatabase) error {
	for _, spec := range a.Files {
		f, newName, err := s.file(ctx, b, spec)
		if err != nil {
			return err
		}
		switch {
		case a.Action == "ADD FILE":
			if f.Physical == "" {
				return value.Errorf(5009, "One or more files listed in the statement could not be found or could not be initialized.")
			}
			err = db.AddFile(ctx, f)
		case newName != "":
			err = db.RenameFile(ctx, f.Logical, newName)
		default:
			err = unsupported("ALTER DATABASE MODIFY FILE")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// alone makes the session the only one in a database: by ending the others (WITH ROLLBACK
// IMMEDIATE), or by waiting for them.
func (s *session) alone(ctx context.Context, database string, a *ast.AlterDatabase) error {
	if a.Rollback {
		for _, other := range s.of.all() {
			if other != s && s.of.opt.Server().Same(other.Database(), database) {
				other.kill()
			}
		}
		return nil
	}
	if a.NoWait && s.of.others(s, database) > 0 {
		return value.Errorf(5070, "Database state cannot be changed while other users are using the database '%s'", database)
	}
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for s.of.others(s, database) > 0 {
		select {
		case <-look.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (s *session) alterSet(ctx context.Context, b *eval.Batch, db *storage.Database, a *ast.AlterDatabase) error {
	info := db.Info()
	on := a.Words[len(a.Words)-1] == "ON"
	if info.Access == storage.SingleUser && s.of.others(s, info.Name) > 0 && !a.Rollback {
		return value.Errorf(5064, "Changes to the state or options of database '%s' cannot be made at this time. The database is in single-user mode, and a user is currently connected to it.", info.Name)
	}
	switch a.Words[0] {
	case "RECOVERY":
		return s.setRecovery(ctx, b, db, a.Words)
	case "SINGLE_USER", "READ_ONLY", "READ_WRITE", "OFFLINE", "RESTRICTED_USER":
		if info.State == storage.Restoring {
			return value.Errorf(5052, "ALTER DATABASE is not permitted while a database is in the %s state.", "Restoring")
		}
		if err := s.alone(ctx, info.Name, a); err != nil {
			return err
		}
	}
	switch a.Words[0] {
	case "SINGLE_USER":
		return db.SetAccess(storage.SingleUser)
	case "RESTRICTED_USER":
		return db.SetAccess(storage.RestrictedUser)
	case "MULTI_USER":
		return db.SetAccess(storage.MultiUser)
	case "READ_ONLY", "READ_WRITE":
		return db.SetReadOnly(ctx, a.Words[0] == "READ_ONLY")
	case "OFFLINE":
		if s.of.opt.Server().Same(s.Database(), info.Name) {
			if err := s.use("master"); err != nil {
				return err
			}
		}
		return db.SetOffline()
	case "ONLINE":
		return db.SetOnline()
	case "AUTO_CLOSE":
		return db.SetAutoClose(on)
	case "TRUSTWORTHY":
		return db.SetTrust(&on, nil, nil)
	case "DB_CHAINING":
		return db.SetTrust(nil, &on, nil)
	case "ENABLE_BROKER", "DISABLE_BROKER":
		on = a.Words[0] == "ENABLE_BROKER"
		return db.SetTrust(nil, nil, &on)
	case "PAGE_VERIFY", "AUTO_SHRINK", "AUTO_CREATE_STATISTICS", "AUTO_UPDATE_STATISTICS", "COMPATIBILITY_LEVEL", "READ_COMMITTED_SNAPSHOT",
		"ALLOW_SNAPSHOT_ISOLATION", "TARGET_RECOVERY_TIME", "QUERY_STORE", "ANSI_NULLS",
		"QUOTED_IDENTIFIER", "ANSI_PADDING", "ANSI_WARNINGS", "ARITHABORT":
		return nil // nothing here depends on these
	}
	return unsupported("ALTER DATABASE SET " + a.Words[0])
}

func (s *session) setRecovery(ctx context.Context, b *eval.Batch, db *storage.Database, words []string) error {
	models := map[string]storage.Model{"FULL": storage.Full, "BULK_LOGGED": storage.BulkLogged, "SIMPLE": storage.Simple}
	model, ok := models[words[len(words)-1]]
	if !ok {
		return value.Severe(102, 15, "Incorrect syntax near '%s'.", words[len(words)-1])
	}
	if strings.EqualFold(db.Info().Name, "tempdb") {
		return value.Errorf(5058, "Option 'RECOVERY' cannot be set in database 'tempdb'.")
	}
	messages, err := db.SetModel(ctx, model)
	for _, m := range messages {
		b.Out.Message(message(m))
	}
	return err
}
